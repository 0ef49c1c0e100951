// CUDA C++ for clang on the host: what the text needs of it, in C. cuda/prelude.h is its counterpart.

#ifndef GEEPS_CUDA_HOST_H
#define GEEPS_CUDA_HOST_H

#include <stdint.h>
#include <string.h>

#define GEEPS_ELEMENT static inline __attribute__((always_inline))
#define GEEPS_KERNEL static void
#define GEEPS_RESTRICT restrict
#define GEEPS_FMA(a, b, c) __builtin_fmaf((a), (b), (c))
#define GEEPS_SQRT(x) __builtin_sqrtf(x)
#define GEEPS_EXP(x) __builtin_expf(x)
#define GEEPS_BITS(x) geeps_bits(x)
#define GEEPS_FLOAT(bits) geeps_float(bits)
#define GEEPS_UNROLL

typedef struct geeps_dimensions {
    unsigned x;
} geeps_dimensions;

/// Set for every thread of a launch in turn; launches of several threads of the host do not meet.
static _Thread_local geeps_dimensions threadIdx, blockIdx, blockDim, gridDim;

// Aligned as on a GPU, so that the sanitizer sees an access there that a GPU would refuse.
typedef struct float2 {
    float x, y;
} __attribute__((aligned(8))) float2;

typedef struct float4 {
    float x, y, z, w;
} __attribute__((aligned(16))) float4;

// The threads of a launch run one after the other.
static inline float atomicAdd(float *address, float value) {
    float old = *address;
    *address = old + value;
    return old;
}

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

#endif
