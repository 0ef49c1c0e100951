// What the three host builds share.

#ifndef GEEPS_KERNELS_HOST_H
#define GEEPS_KERNELS_HOST_H

#include <stdint.h>
#include <string.h>

#include "geeps_kernels.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#define GEEPS_STORE_FENCE() _mm_sfence()
#else
#define GEEPS_STORE_FENCE() __atomic_thread_fence(__ATOMIC_RELEASE)
#endif

/// Values in a gather from which its stores go past the caches (8 MiB): larger
/// than a second-level cache by far, so that nothing near would have been kept anyway.
#define GEEPS_STREAM_VALUES (2 << 20)

/// An item of a matrix.
typedef struct geeps_place {
    int64_t row;
    int64_t column;
} geeps_place;

static inline uint32_t geeps_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float geeps_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

extern const geeps_kernels geeps_kernels_table_baseline;
#if defined(__x86_64__)
extern const geeps_kernels geeps_kernels_table_v3;
extern const geeps_kernels geeps_kernels_table_v4;
#endif

#endif
