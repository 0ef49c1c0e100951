#ifndef GEEPS_SHIMS_TRANSPORT_H
#define GEEPS_SHIMS_TRANSPORT_H

// For GeePSTransport: sealed memory, futexes, atomics on shared memory, descriptors over sockets.
// Functions that can fail return the negated errno; nothing here writes errno for the caller to read.

#include <stddef.h>
#include <stdint.h>

/// Makes a memory file of `bytes` zero bytes that can neither shrink nor grow.
/// Returns its descriptor (close-on-exec) or -errno.
int geeps_memory_file_create(const char *name, size_t bytes);

/// Checks that `fd` is a memory file of exactly `bytes` bytes whose size nobody can change any more, so
/// that touching a mapping of it can never raise SIGBUS. Returns 0, -EINVAL if it is not, or -errno.
int geeps_memory_file_check(int fd, size_t bytes);

/// Sleeps while `*word == expected`, at most `nanoseconds`. Returns 0 or -errno; -EAGAIN, -EINTR and
/// -ETIMEDOUT are ordinary.
int geeps_futex_wait(uint32_t *word, uint32_t expected, uint64_t nanoseconds);

/// Wakes every sleeper on `word`, also in other processes.
void geeps_futex_wake(uint32_t *word);

/// Sends `first` and then `second` with one call. `fd_to_pass` travels with the first byte unless it is
/// negative. Returns the bytes taken by the kernel or -errno; never raises SIGPIPE.
int64_t geeps_socket_send(int fd, const void *first, size_t first_bytes, const void *second,
                          size_t second_bytes, int flags, int fd_to_pass);

/// Receives up to `bytes` bytes and at most one descriptor into `*passed_fd` (-1: none came; any others
/// are closed). Returns the bytes, 0 at the end of the stream, or -errno.
int64_t geeps_socket_receive_descriptor(int fd, void *target, size_t bytes, int flags, int *passed_fd);

/// Accepts a connection, close-on-exec and blocking. Returns its descriptor or -errno.
int geeps_socket_accept(int fd);

/// Writes the user who runs the process at the other end of a Unix-domain socket. Returns 0 or -errno.
int geeps_socket_peer_user(int fd, uint32_t *user);

/// Makes an event descriptor: readable once 8 bytes were written to it. Returns it or -errno.
int geeps_event_create(void);

/// Makes calls on a socket wait. Returns 0 or -errno.
int geeps_socket_set_blocking(int fd);

/// Adds `bytes` bytes to a CRC-32C whose register (not inverted) is `crc`; by the processor's own
/// instruction where it has one.
uint32_t geeps_crc32c(uint32_t crc, const void *source, size_t bytes);

/// The same, always without the instruction; for tests and old processors.
uint32_t geeps_crc32c_portable(uint32_t crc, const void *source, size_t bytes);

/// Whether the processor has instructions for AES: 1 or 0.
int geeps_has_aes(void);

/// Exclusive or of all whole 8-byte words: reads every byte at the speed of memory, for benchmarks.
uint64_t geeps_xor_words(const void *source, size_t bytes);

static inline uint64_t geeps_load_acquire_64(const void *address) {
    return __atomic_load_n((const uint64_t *)address, __ATOMIC_ACQUIRE);
}

static inline void geeps_store_release_64(void *address, uint64_t value) {
    __atomic_store_n((uint64_t *)address, value, __ATOMIC_RELEASE);
}

static inline uint32_t geeps_load_relaxed_32(const void *address) {
    return __atomic_load_n((const uint32_t *)address, __ATOMIC_RELAXED);
}

static inline void geeps_store_relaxed_32(void *address, uint32_t value) {
    __atomic_store_n((uint32_t *)address, value, __ATOMIC_RELAXED);
}

/// A full fence: no load after it moves before a store ahead of it.
static inline void geeps_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/// Tells the processor that this is a spin loop.
static inline void geeps_spin_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
