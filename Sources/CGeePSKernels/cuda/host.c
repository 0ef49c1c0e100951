// The text of cuda/source.c built for the host, a kernel under its name.

#include "host.h"

#include "geeps_cuda_kernels.h"
#include "geeps_rules.h"

// In the order of cuda/source.c.
#include "grid.h"
#include "../elements.h"
#include "../loops_body.h"
#include "../lstm_elements.h"
#include "../lstm_body.h"
#include "rows.h"
#include "layers.h"
#include "lstm.h"

// ---- Every kernel with the types of its parameters

#define GEEPS_CUDA_KERNELS(K)                                                                         \
    K(gather_rows, A(float *, 0), A(const float *, 1), A(const uint32_t *, 2), A(int64_t, 3),         \
      A(int64_t, 4))                                                                                  \
    K(scatter_rows, A(float *, 0), A(const float *, 1), A(const uint32_t *, 2), A(int64_t, 3),        \
      A(int64_t, 4))                                                                                  \
    K(scatter_add_rows, A(float *, 0), A(const float *, 1), A(const uint32_t *, 2), A(int64_t, 3),    \
      A(int64_t, 4))                                                                                  \
    K(copy, A(float *, 0), A(const float *, 1), A(int64_t, 2))                                        \
    K(fill, A(float *, 0), A(float, 1), A(int64_t, 2))                                                \
    K(add, A(float *, 0), A(const float *, 1), A(int64_t, 2))                                         \
    K(scale, A(float *, 0), A(float, 1), A(int64_t, 2))                                               \
    K(sum_of_two, A(float *, 0), A(const float *, 1), A(const float *, 2), A(int64_t, 3))             \
    K(step_add, A(float *, 0), A(const float *, 1), A(int64_t, 2), A(geeps_gradient, 3))              \
    K(step_sgd, A(float *, 0), A(const float *, 1), A(float *, 2), A(int64_t, 3),                     \
      A(geeps_gradient, 4), A(geeps_sgd, 5))                                                          \
    K(step_adam, A(float *, 0), A(const float *, 1), A(float *, 2), A(float *, 3), A(int64_t, 4),     \
      A(geeps_gradient, 5), A(geeps_adam, 6))                                                         \
    K(step_adagrad, A(float *, 0), A(const float *, 1), A(float *, 2), A(int64_t, 3),                 \
      A(geeps_gradient, 4), A(geeps_adagrad, 5))                                                      \
    K(step_rmsprop, A(float *, 0), A(const float *, 1), A(float *, 2), A(float *, 3), A(float *, 4),  \
      A(int64_t, 5), A(geeps_gradient, 6), A(geeps_rmsprop, 7))                                       \
    K(lstm_forward, A(float *, 0), A(float *, 1), A(float *, 2), A(const float *, 3), A(int64_t, 4),  \
      A(int64_t, 5), A(int64_t, 6), A(int64_t, 7))                                                    \
    K(lstm_backward, A(float *, 0), A(float *, 1), A(const float *, 2), A(const float *, 3),          \
      A(const float *, 4), A(const float *, 5), A(int64_t, 6), A(int64_t, 7), A(int64_t, 8),          \
      A(int64_t, 9))                                                                                  \
    K(lstm_states, A(float *, 0), A(float *, 1), A(const float *, 2), A(int64_t, 3), A(int64_t, 4),   \
      A(int64_t, 5))                                                                                  \
    K(add_bias, A(float *, 0), A(const float *, 1), A(int64_t, 2), A(int64_t, 3), A(int64_t, 4))      \
    K(bias_gradient, A(float *, 0), A(const float *, 1), A(int64_t, 2), A(int64_t, 3),                \
      A(int64_t, 4))                                                                                  \
    K(dropout, A(float *, 0), A(const float *, 1), A(uint64_t, 2), A(uint64_t, 3), A(float, 4),       \
      A(int64_t, 5))                                                                                  \
    K(softmax_loss, A(float *, 0), A(float *, 1), A(int32_t *, 2), A(const float *, 3),               \
      A(const int32_t *, 4), A(int64_t, 5), A(int64_t, 6), A(float, 7))                               \
    K(float_to_bfloat16, A(uint16_t *, 0), A(const float *, 1), A(int64_t, 2))                        \
    K(bfloat16_to_float, A(float *, 0), A(const uint16_t *, 1), A(int64_t, 2))                        \
    K(squared_norm_parts, A(double *, 0), A(const float *, 1), A(int64_t, 2), A(int64_t, 3))

// ---- Launches

/// Parameter number `index`, by its type.
#define A(type, index) *(__typeof__(type) *)parameters[index]

#define GEEPS_CUDA_LAUNCH(name, ...)                                                              \
    static void launch_##name(void *const *parameters, unsigned grid, unsigned block) {           \
        gridDim.x = grid;                                                                         \
        blockDim.x = block;                                                                       \
        for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++)                                     \
            for (threadIdx.x = 0; threadIdx.x < block; threadIdx.x++) geeps_##name(__VA_ARGS__);  \
    }
GEEPS_CUDA_KERNELS(GEEPS_CUDA_LAUNCH)

#define GEEPS_CUDA_ENTRY(kernel, ...) {.name = "geeps_" #kernel, .launch = launch_##kernel},
static const struct {
    const char *name;
    geeps_cuda_host_launch launch;
} kernels[] = {GEEPS_CUDA_KERNELS(GEEPS_CUDA_ENTRY)};

enum { kernel_count = sizeof kernels / sizeof kernels[0] };

const char *geeps_cuda_kernel_name(int index) {
    return index >= 0 && index < kernel_count ? kernels[index].name : 0;
}

geeps_cuda_host_launch geeps_cuda_kernel_on_host(const char *name) {
    for (int i = 0; i < kernel_count; i++)
        if (strcmp(kernels[i].name, name) == 0) return kernels[i].launch;
    return 0;
}
