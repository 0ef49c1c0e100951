#include "geeps_shims.h"

#include <pthread.h>
#include <string.h>

// CRC-32C, polynomial 0x1EDC6F41 reflected (RFC 3720 appendix B.4).
#define POLYNOMIAL 0x82F63B78u

// Bytes each of the three interleaved streams covers: the instruction has a latency of three cycles and a
// throughput of one, so three independent streams fill it.
enum { STREAM_BYTES = 4096 };

static uint32_t byte_table[8][256];
// Advances a register over STREAM_BYTES zero bytes, a byte of the register at a time.
static uint32_t shift_table[4][256];
static pthread_once_t tables_made = PTHREAD_ONCE_INIT;

static void make_tables(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = (crc & 1) ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
        byte_table[0][i] = crc;
    }
    for (int slice = 1; slice < 8; slice++)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t crc = byte_table[slice - 1][i];
            byte_table[slice][i] = (crc >> 8) ^ byte_table[0][crc & 0xff];
        }
    // The register after zeros is linear in the register before: images of single bits suffice.
    uint32_t image[32];
    for (int bit = 0; bit < 32; bit++) {
        uint32_t crc = 1u << bit;
        for (int i = 0; i < STREAM_BYTES; i++) crc = (crc >> 8) ^ byte_table[0][crc & 0xff];
        image[bit] = crc;
    }
    for (int byte = 0; byte < 4; byte++)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t crc = 0;
            for (int bit = 0; bit < 8; bit++)
                if (i >> bit & 1) crc ^= image[byte * 8 + bit];
            shift_table[byte][i] = crc;
        }
}

uint32_t geeps_crc32c_portable(uint32_t crc, const void *source, size_t bytes) {
    pthread_once(&tables_made, make_tables);
    const uint8_t *cursor = source;
    for (; bytes >= 8; bytes -= 8, cursor += 8) {
        uint32_t low = crc ^ ((uint32_t)cursor[0] | (uint32_t)cursor[1] << 8
                              | (uint32_t)cursor[2] << 16 | (uint32_t)cursor[3] << 24);
        crc = byte_table[7][low & 0xff] ^ byte_table[6][low >> 8 & 0xff]
              ^ byte_table[5][low >> 16 & 0xff] ^ byte_table[4][low >> 24]
              ^ byte_table[3][cursor[4]] ^ byte_table[2][cursor[5]] ^ byte_table[1][cursor[6]]
              ^ byte_table[0][cursor[7]];
    }
    for (; bytes > 0; bytes--, cursor++) crc = (crc >> 8) ^ byte_table[0][(crc ^ *cursor) & 0xff];
    return crc;
}

#if defined(__x86_64__)

static uint32_t shift(uint32_t crc) {
    return shift_table[0][crc & 0xff] ^ shift_table[1][crc >> 8 & 0xff]
           ^ shift_table[2][crc >> 16 & 0xff] ^ shift_table[3][crc >> 24];
}

static inline uint64_t word_at(const uint8_t *address) {
    uint64_t word;
    memcpy(&word, address, 8);
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *cursor,
                                                               size_t bytes) {
    uint64_t a = crc;
    for (; bytes >= 3 * STREAM_BYTES; bytes -= 3 * STREAM_BYTES, cursor += 3 * STREAM_BYTES) {
        uint64_t b = 0, c = 0;
        for (size_t i = 0; i < STREAM_BYTES; i += 8) {
            a = __builtin_ia32_crc32di(a, word_at(cursor + i));
            b = __builtin_ia32_crc32di(b, word_at(cursor + STREAM_BYTES + i));
            c = __builtin_ia32_crc32di(c, word_at(cursor + 2 * STREAM_BYTES + i));
        }
        a = shift((uint32_t)a) ^ b;
        a = shift((uint32_t)a) ^ c;
    }
    for (; bytes >= 8; bytes -= 8, cursor += 8) a = __builtin_ia32_crc32di(a, word_at(cursor));
    for (; bytes > 0; bytes--, cursor++) a = __builtin_ia32_crc32qi((uint32_t)a, *cursor);
    return (uint32_t)a;
}

uint32_t geeps_crc32c(uint32_t crc, const void *source, size_t bytes) {
    if (!__builtin_cpu_supports("sse4.2")) return geeps_crc32c_portable(crc, source, bytes);
    pthread_once(&tables_made, make_tables);
    return crc32c_sse42(crc, source, bytes);
}

#else

uint32_t geeps_crc32c(uint32_t crc, const void *source, size_t bytes) {
    return geeps_crc32c_portable(crc, source, bytes);
}

#endif
