// What the text needs of CUDA C++, under NVRTC: there are no system headers. cuda/host.h is its counterpart.
//
// Compile with --fmad=false and the defaults for the rest (no flushing of denormals, division and root
// correctly rounded): then every kernel of elements.h gives the bits that the host gives, up to the payload
// of a NaN.

typedef int int32_t;
typedef long long int64_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;

#define GEEPS_ELEMENT static __device__ __forceinline__
#define GEEPS_KERNEL extern "C" __global__ void
#define GEEPS_RESTRICT __restrict__
#define GEEPS_FMA(a, b, c) __fmaf_rn((a), (b), (c))
#define GEEPS_SQRT(x) __fsqrt_rn(x)
#define GEEPS_EXP(x) expf(x)
#define GEEPS_BITS(x) __float_as_uint(x)
#define GEEPS_FLOAT(bits) __uint_as_float(bits)

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define GEEPS_HAS_VECTOR_ATOMICS 1
#endif

// Eight loads on their way at once, where the compiler alone would wait for each.
#define GEEPS_UNROLL _Pragma("unroll 8")
