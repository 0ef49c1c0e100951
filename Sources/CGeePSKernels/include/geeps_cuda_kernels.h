#ifndef GEEPS_CUDA_KERNELS_H
#define GEEPS_CUDA_KERNELS_H

// The kernels for a GPU, as text that NVRTC compiles at run time; and the same text built for the host.
//
// Conventions
// - Compile with --fmad=false and no other option of arithmetic: what the host's table has too then gives
//   its bits, except scatter_add_rows of a repeated index.
// - Parameters stand in the order of the table geeps_kernels; counts are int64_t, rules go by value.
// - Arrays need the alignment of their elements; rows on 16 bytes, a multiple of 4 wide, are faster.
// - Launches have one dimension, of any size, and no shared memory; zero items are allowed.

#ifdef __cplusplus
extern "C" {
#endif

/// The text in CUDA C++, complete in itself; the program's as long as it runs.
const char *geeps_cuda_source(void);

/// The name of a kernel in the text, or null past the last.
const char *geeps_cuda_kernel_name(int index);

/// Runs every thread of a launch, one after the other, on the calling thread; `parameters` are addresses of
/// values, as for cuLaunchKernel.
typedef void (*geeps_cuda_host_launch)(void *const *parameters, unsigned grid, unsigned block);

/// The kernel called `name`, built for the host from the same text; null when there is none.
geeps_cuda_host_launch geeps_cuda_kernel_on_host(const char *name);

#ifdef __cplusplus
}
#endif

#endif
