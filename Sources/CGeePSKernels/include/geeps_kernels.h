#ifndef GEEPS_KERNELS_H
#define GEEPS_KERNELS_H

// The arithmetic of the house over float32: rows, elementwise, optimiser steps.
//
// Conventions
// - Counts and widths are in values unless the name says rows; all are 64-bit. Zero is allowed.
// - Arrays named differently must not overlap. Rows are contiguous, `width` values each.
// - Indices are rows; the caller has checked that they lie inside the array they index.
// - Nothing is allocated, no state is kept, any thread may call.
// - Every level gives the same bits: a fused multiply-add happens where the source says so, sums have a
//   fixed order, and no level flushes denormals or approximates a division or a root.

#include <stdint.h>

#include "geeps_rules.h"

#ifdef __cplusplus
extern "C" {
#endif

/// Instruction sets, ascending.
typedef enum geeps_level {
    /// What the compiler's target guarantees: SSE2 on x86-64, NEON on aarch64.
    geeps_level_baseline = 0,
    /// AVX2 and FMA.
    geeps_level_v3 = 1,
    /// AVX-512.
    geeps_level_v4 = 2,
} geeps_level;

/// Local response normalisation: `y[c] = x[c] * (k + factor * s) ^ -beta`, `s` being the sum of the squares of the
/// channels `c - before` to `c + after` that there are.
typedef struct geeps_response {
    int64_t before;
    int64_t after;
    float factor;
    float beta;
    float k;
} geeps_response;

/// The kernels of one level.
typedef struct geeps_kernels {
    geeps_level level;

    /// target[i] = source[index[i]], rows.
    void (*_Nonnull gather_rows)(
        float *_Nonnull target, const float *_Nonnull source, const uint32_t *_Nonnull index,
        int64_t row_count, int64_t width);
    /// target[index[i]] = source[i], rows, in order: of a repeated index the last stays.
    void (*_Nonnull scatter_rows)(
        float *_Nonnull target, const float *_Nonnull source, const uint32_t *_Nonnull index,
        int64_t row_count, int64_t width);
    /// target[index[i]] += source[i], rows, in order; an index may repeat.
    void (*_Nonnull scatter_add_rows)(
        float *_Nonnull target, const float *_Nonnull source, const uint32_t *_Nonnull index,
        int64_t row_count, int64_t width);

    /// target = source.
    void (*_Nonnull copy)(float *_Nonnull target, const float *_Nonnull source, int64_t count);
    /// target = value.
    void (*_Nonnull fill)(float *_Nonnull target, float value, int64_t count);
    /// target += source.
    void (*_Nonnull add)(float *_Nonnull target, const float *_Nonnull source, int64_t count);
    /// target *= factor.
    void (*_Nonnull scale)(float *_Nonnull target, float factor, int64_t count);
    /// target = a + b.
    void (*_Nonnull sum_of_two)(
        float *_Nonnull target, const float *_Nonnull a, const float *_Nonnull b, int64_t count);
    /// Sum of squares, added up in double in a fixed order.
    double (*_Nonnull squared_norm)(const float *_Nonnull source, int64_t count);

    /// values += gradient.
    void (*_Nonnull step_add)(
        float *_Nonnull values, const float *_Nonnull sum, int64_t count, geeps_gradient gradient);
    /// One step of SGD; `buffer` may be null when momentum is zero.
    void (*_Nonnull step_sgd)(
        float *_Nonnull values, const float *_Nonnull sum, float *_Nullable buffer, int64_t count,
        geeps_gradient gradient, geeps_sgd rule);
    /// One step of Adam or AdamW; `mean` and `square` are the moving averages.
    void (*_Nonnull step_adam)(
        float *_Nonnull values, const float *_Nonnull sum, float *_Nonnull mean,
        float *_Nonnull square, int64_t count, geeps_gradient gradient, geeps_adam rule);
    /// One step of Adagrad; `total` is the sum of squares.
    void (*_Nonnull step_adagrad)(
        float *_Nonnull values, const float *_Nonnull sum, float *_Nonnull total, int64_t count,
        geeps_gradient gradient, geeps_adagrad rule);
    /// One step of RMSprop; `buffer` and `mean` may be null when not used.
    void (*_Nonnull step_rmsprop)(
        float *_Nonnull values, const float *_Nonnull sum, float *_Nonnull square,
        float *_Nullable buffer, float *_Nullable mean, int64_t count, geeps_gradient gradient,
        geeps_rmsprop rule);

    // Normalisations of rows of `channels` values. Scratch is 2 * channels floats unless it says more.

    /// By channel: the mean, and the sum of the squared distances from it; both in double.
    void (*_Nonnull channel_moments)(
        const float *_Nonnull x, int64_t row_count, int64_t channels, double *_Nonnull mean,
        double *_Nonnull squares, float *_Nonnull scratch);
    /// y = (x - mean) * factor + bias; `y` may be `x`.
    void (*_Nonnull channel_normalise)(
        float *_Nonnull y, const float *_Nonnull x, int64_t row_count, int64_t channels,
        const float *_Nonnull mean, const float *_Nonnull factor, const float *_Nonnull bias);
    /// By channel: the sums of dy and of dy * (x - mean), in double.
    void (*_Nonnull channel_gradient_sums)(
        const float *_Nonnull x, const float *_Nonnull dy, int64_t row_count, int64_t channels,
        const float *_Nonnull mean, double *_Nonnull sums, double *_Nonnull products,
        float *_Nonnull scratch);
    /// dx = factor * (dy - shift - (x - mean) * slope); `dx` may be `dy`.
    void (*_Nonnull channel_normalise_backward)(
        float *_Nonnull dx, const float *_Nonnull x, const float *_Nonnull dy, int64_t row_count,
        int64_t channels, const float *_Nonnull mean, const float *_Nonnull factor,
        const float *_Nonnull shift, const float *_Nonnull slope);
    /// Local response normalisation; `y` may be `x`. Scratch: 3 * channels + before + after floats.
    void (*_Nonnull response_normalise)(
        float *_Nonnull y, const float *_Nonnull x, int64_t row_count, int64_t channels,
        geeps_response rule, float *_Nonnull scratch);
    /// Its gradient; `dx` may be `dy`. Scratch: 4 * channels + 2 * (before + after) floats.
    void (*_Nonnull response_normalise_backward)(
        float *_Nonnull dx, const float *_Nonnull x, const float *_Nonnull dy, int64_t row_count,
        int64_t channels, geeps_response rule, float *_Nonnull scratch);
    /// One step of an LSTM, forward; lstm_body.h says what lies where.
    void (*_Nonnull lstm_forward)(
        float *_Nonnull gates, float *_Nonnull cell, float *_Nonnull hidden,
        const float *_Nonnull biases, int64_t gate_stride, int64_t hidden_stride, int64_t batch,
        int64_t width);
    /// One step of an LSTM, backward; `output_gradient` may be null.
    void (*_Nonnull lstm_backward)(
        float *_Nonnull gate_gradients, float *_Nonnull cell_gradient,
        const float *_Nonnull hidden_gradient, const float *_Nullable output_gradient,
        const float *_Nonnull gates, const float *_Nonnull cell_before, int64_t output_stride,
        int64_t batch, int64_t steps, int64_t width);
    /// Cells and hidden values [batch, steps, width] before every step, from the gates of all.
    void (*_Nonnull lstm_states)(
        float *_Nonnull cell_before, float *_Nonnull hidden_before, const float *_Nonnull gates,
        int64_t batch, int64_t steps, int64_t width);
    /// sums[c] = sum over rows of source[row][c], in their order, in double.
    void (*_Nonnull column_sums)(
        float *_Nonnull sums, const float *_Nonnull source, int64_t row_count, int64_t width);
} geeps_kernels;

/// The kernels of `level`, or null where this processor or this build has them not.
const geeps_kernels *_Nullable geeps_kernels_at(geeps_level level);

/// The kernels of the highest level this processor has; chosen once.
const geeps_kernels *_Nonnull geeps_kernels_best(void);

#ifdef __cplusplus
}
#endif

#endif
