#include "geeps_shims.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

int geeps_memory_file_create(const char *name, size_t bytes) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -errno;
    if (ftruncate(fd, (off_t)bytes) != 0
        || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int geeps_memory_file_check(int fd, size_t bytes) {
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0) return -errno;
    if ((seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW)) return -EINVAL;
    if (seals & F_SEAL_WRITE) return -EINVAL;
    struct stat status;
    if (fstat(fd, &status) != 0) return -errno;
    return status.st_size == (off_t)bytes ? 0 : -EINVAL;
}

int geeps_futex_wait(uint32_t *word, uint32_t expected, uint64_t nanoseconds) {
    struct timespec timeout = {(time_t)(nanoseconds / 1000000000u),
                               (long)(nanoseconds % 1000000000u)};
    long status = syscall(SYS_futex, word, FUTEX_WAIT, expected, &timeout, NULL, 0);
    return status == 0 ? 0 : -errno;
}

void geeps_futex_wake(uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE, 0x7fffffff, NULL, NULL, 0);
}

int64_t geeps_socket_send(int fd, const void *first, size_t first_bytes, const void *second,
                          size_t second_bytes, int flags, int fd_to_pass) {
    struct iovec parts[2] = {{(void *)first, first_bytes}, {(void *)second, second_bytes}};
    struct msghdr message = {0};
    message.msg_iov = first_bytes > 0 ? parts : parts + 1;
    message.msg_iovlen = (first_bytes > 0) + (second_bytes > 0);
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    if (fd_to_pass >= 0) {
        memset(control, 0, sizeof control);
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &fd_to_pass, sizeof(int));
    }
    ssize_t sent = sendmsg(fd, &message, flags | MSG_NOSIGNAL);
    return sent >= 0 ? sent : -errno;
}

int64_t geeps_socket_receive_descriptor(int fd, void *target, size_t bytes, int flags, int *passed_fd) {
    *passed_fd = -1;
    struct iovec part = {target, bytes};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
    struct msghdr message = {0};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t received = recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC);
    if (received < 0) return -errno;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int passed;
            memcpy(&passed, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
            if (*passed_fd < 0)
                *passed_fd = passed;
            else
                close(passed);
        }
    }
    return received;
}

int geeps_socket_accept(int fd) {
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    return accepted >= 0 ? accepted : -errno;
}

int geeps_socket_peer_user(int fd, uint32_t *user) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -errno;
    *user = credentials.uid;
    return 0;
}

int geeps_event_create(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd >= 0 ? fd : -errno;
}

int geeps_socket_set_blocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return -errno;
    return fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0 ? 0 : -errno;
}

uint64_t geeps_xor_words(const void *source, size_t bytes) {
    const char *cursor = source;
    uint64_t lanes[16] = {0};
    size_t blocks = bytes / sizeof lanes;
    for (size_t block = 0; block < blocks; block++, cursor += sizeof lanes) {
        uint64_t words[16];
        memcpy(words, cursor, sizeof words);
        for (int i = 0; i < 16; i++) lanes[i] ^= words[i];
    }
    uint64_t all = 0;
    for (int i = 0; i < 16; i++) all ^= lanes[i];
    for (size_t left = bytes % sizeof lanes / 8; left > 0; left--, cursor += 8) {
        uint64_t word;
        memcpy(&word, cursor, 8);
        all ^= word;
    }
    return all;
}
