// A link between two network namespaces with a rate and a delay, where the kernel has no netem.
//
// Usage: link NAMESPACE NAMESPACE BITS_PER_SECOND DELAY_MICROSECONDS MTU
//
// Makes the device eth0 in each namespace (a TUN device) and hands packets from one to the other: a packet of b bytes
// that comes when the link is free leaves b * 8 / rate later and arrives one delay after that; others queue. Prints
// "ready" when both devices are there, and ends with its standard input. Root only.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { packetBytes = 65536, queuePackets = 4096 };
// What may wait before a link; beyond it packets are dropped, as a switch would.
static const size_t queueBytes = 32 << 20;

struct packet {
    uint64_t due;
    size_t bytes;
    unsigned char *data;
};

// One direction: its reader fills the ring, its writer empties it when packets are due.
struct direction {
    int from, to;
    double nanosecondsPerByte;
    uint64_t delay, freeAt, dropped;
    struct packet ring[queuePackets];
    size_t first, count, waitingBytes;
    pthread_mutex_t lock;
    pthread_cond_t filled;
};

static void fail(const char *what) {
    fprintf(stderr, "link: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int openDevice(const char *namespace, int mtu) {
    char path[256];
    snprintf(path, sizeof path, "/var/run/netns/%s", namespace);
    int space = open(path, O_RDONLY | O_CLOEXEC);
    if (space < 0 || setns(space, CLONE_NEWNET) != 0) fail(path);
    close(space);
    int device = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (device < 0) fail("/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strcpy(request.ifr_name, "eth0");
    if (ioctl(device, TUNSETIFF, &request) != 0) fail("make eth0");
    int control = socket(AF_INET, SOCK_DGRAM, 0);
    request.ifr_mtu = mtu;
    if (control < 0 || ioctl(control, SIOCSIFMTU, &request) != 0) fail("set the MTU");
    close(control);
    return device;
}

static void *readPackets(void *argument) {
    struct direction *d = argument;
    unsigned char *spare = malloc(packetBytes);
    for (;;) {
        ssize_t bytes = read(d->from, spare, packetBytes);
        if (bytes < 0 && errno == EINTR) continue;
        // The device is down for a moment at the start.
        if (bytes <= 0) {
            usleep(1000);
            continue;
        }
        pthread_mutex_lock(&d->lock);
        if (d->count == queuePackets || d->waitingBytes + (size_t)bytes > queueBytes) {
            d->dropped++;
        } else {
            uint64_t start = now();
            if (d->freeAt > start) start = d->freeAt;
            d->freeAt = start + (uint64_t)((double)bytes * d->nanosecondsPerByte);
            struct packet *slot = &d->ring[(d->first + d->count) % queuePackets];
            unsigned char *memory = slot->data;
            *slot = (struct packet){d->freeAt + d->delay, (size_t)bytes, spare};
            // Buffers change places: no copy.
            spare = memory ? memory : malloc(packetBytes);
            d->waitingBytes += (size_t)bytes;
            if (d->count++ == 0) pthread_cond_signal(&d->filled);
        }
        pthread_mutex_unlock(&d->lock);
    }
    return NULL;
}

static void *writePackets(void *argument) {
    struct direction *d = argument;
    prctl(PR_SET_TIMERSLACK, 1);
    for (;;) {
        pthread_mutex_lock(&d->lock);
        while (d->count == 0) pthread_cond_wait(&d->filled, &d->lock);
        // Only this thread takes from the ring, so the slot stays as it is without the lock.
        struct packet *slot = &d->ring[d->first];
        pthread_mutex_unlock(&d->lock);
        struct timespec due = {(time_t)(slot->due / 1000000000u), (long)(slot->due % 1000000000u)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR) {
        }
        while (write(d->to, slot->data, slot->bytes) < 0 && errno == EINTR) {
        }
        pthread_mutex_lock(&d->lock);
        d->waitingBytes -= slot->bytes;
        d->first = (d->first + 1) % queuePackets;
        d->count--;
        pthread_mutex_unlock(&d->lock);
    }
    return NULL;
}

int main(int count, char **arguments) {
    if (count != 6) {
        fprintf(stderr, "usage: link NAMESPACE NAMESPACE BITS_PER_SECOND DELAY_MICROSECONDS MTU\n");
        return 64;
    }
    double rate = atof(arguments[3]);
    int delay = atoi(arguments[4]), mtu = atoi(arguments[5]);
    if (rate <= 0 || delay < 0 || mtu < 576 || mtu >= packetBytes) {
        fprintf(stderr, "link: expected a rate above 0, a delay of 0 or more and an MTU from 576 to %d\n", packetBytes - 1);
        return 64;
    }
    int ends[2] = {openDevice(arguments[1], mtu), openDevice(arguments[2], mtu)};
    for (int index = 0; index < 2; index++) {
        struct direction *d = calloc(1, sizeof *d);
        d->from = ends[index];
        d->to = ends[1 - index];
        d->nanosecondsPerByte = 8e9 / rate;
        d->delay = (uint64_t)delay * 1000;
        pthread_mutex_init(&d->lock, NULL);
        pthread_cond_init(&d->filled, NULL);
        pthread_t thread;
        if (pthread_create(&thread, NULL, readPackets, d) != 0) fail("start a thread");
        if (pthread_create(&thread, NULL, writePackets, d) != 0) fail("start a thread");
    }
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF) {
    }
    return 0;
}
