// The host's kernels, once for every level; the includer defines GEEPS_NAME (adds the level's suffix) and
// GEEPS_LEVEL, and sets the target by pragma. What a GPU runs is in cuda/, with elements.h and loops_body.h
// in common.

#ifndef GEEPS_FOR_RANGE
#define GEEPS_FOR_RANGE(i, n) for (int64_t i = 0; i < (n); i++)
#endif
#ifndef GEEPS_FOR_PLACES
/// Runs the statement for every item of a matrix. Items have nothing to do with each other, which the
/// compiler could not see where they are changed in place.
#define GEEPS_FOR_PLACES(place, row_count, width)                            \
    for (geeps_place place = {0, 0}; place.row < (row_count); place.row++)   \
        _Pragma("clang loop vectorize(assume_safety)")                       \
        for (place.column = 0; place.column < (width); place.column++)
#endif
#ifndef GEEPS_ELEMENT
#define GEEPS_ELEMENT static inline __attribute__((always_inline))
#define GEEPS_KERNEL static void
#define GEEPS_RESTRICT restrict
#define GEEPS_FMA(a, b, c) __builtin_fmaf((a), (b), (c))
#define GEEPS_SQRT(x) __builtin_sqrtf(x)
#define GEEPS_BITS(x) geeps_bits(x)
#define GEEPS_FLOAT(bits) geeps_float(bits)
#endif

#include "elements.h"
#include "rows_body.h"
#include "loops_body.h"
#include "channels_body.h"
#include "lstm_elements.h"
#include "lstm_body.h"
#include "lstm_host_body.h"

// Thirty-two partial sums whatever the vector width, so that every level adds in the same order. The
// square of a float is exact in double.
static double GEEPS_NAME(squared_norm)(const float *GEEPS_RESTRICT source, int64_t count) {
    enum { lanes = 32 };
    double partial[lanes] = {0};
    int64_t whole = count - count % lanes;
    for (int64_t i = 0; i < whole; i += lanes) {
        for (int lane = 0; lane < lanes; lane++) {
            double value = source[i + lane];
            partial[lane] += value * value;
        }
    }
    for (int64_t i = whole; i < count; i++) {
        double value = source[i];
        partial[i - whole] += value * value;
    }
    for (int half = lanes / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++) partial[lane] += partial[lane + half];
    return partial[0];
}

const geeps_kernels GEEPS_NAME(geeps_kernels_table) = {
    .level = GEEPS_LEVEL,
    .gather_rows = GEEPS_NAME(gather_rows),
    .scatter_rows = GEEPS_NAME(scatter_rows),
    .scatter_add_rows = GEEPS_NAME(scatter_add_rows),
    .copy = GEEPS_NAME(copy),
    .fill = GEEPS_NAME(fill),
    .add = GEEPS_NAME(add),
    .scale = GEEPS_NAME(scale),
    .sum_of_two = GEEPS_NAME(sum_of_two),
    .squared_norm = GEEPS_NAME(squared_norm),
    .step_add = GEEPS_NAME(step_add),
    .step_sgd = GEEPS_NAME(step_sgd),
    .step_adam = GEEPS_NAME(step_adam),
    .step_adagrad = GEEPS_NAME(step_adagrad),
    .step_rmsprop = GEEPS_NAME(step_rmsprop),
    .channel_moments = GEEPS_NAME(channel_moments),
    .channel_normalise = GEEPS_NAME(channel_normalise),
    .channel_gradient_sums = GEEPS_NAME(channel_gradient_sums),
    .channel_normalise_backward = GEEPS_NAME(channel_normalise_backward),
    .response_normalise = GEEPS_NAME(response_normalise),
    .response_normalise_backward = GEEPS_NAME(response_normalise_backward),
    .lstm_forward = GEEPS_NAME(lstm_forward),
    .lstm_backward = GEEPS_NAME(lstm_backward),
    .lstm_states = GEEPS_NAME(lstm_states),
    .column_sums = GEEPS_NAME(column_sums),
};
