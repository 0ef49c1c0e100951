// The loops, once for every level; the includer defines GEEPS_NAME (adds the level's suffix) and
// GEEPS_LEVEL, and sets the target by pragma. The loops over elements are in the subset that CUDA C++
// takes as well: GEEPS_FOR_RANGE may be a grid-stride loop there.

#ifndef GEEPS_FOR_RANGE
#define GEEPS_FOR_RANGE(i, n) for (int64_t i = 0; i < (n); i++)
#endif
#ifndef GEEPS_ELEMENT
#define GEEPS_ELEMENT static inline __attribute__((always_inline))
#define GEEPS_KERNEL static void
#define GEEPS_RESTRICT restrict
#define GEEPS_FMA(a, b, c) __builtin_fmaf((a), (b), (c))
#define GEEPS_SQRT(x) __builtin_sqrtf(x)
#endif

#include "elements.h"
#include "rows_body.h"

// ---- Elementwise

GEEPS_KERNEL GEEPS_NAME(copy)(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source, int64_t count) {
    GEEPS_FOR_RANGE(i, count) target[i] = source[i];
}

GEEPS_KERNEL GEEPS_NAME(fill)(float *GEEPS_RESTRICT target, float value, int64_t count) {
    GEEPS_FOR_RANGE(i, count) target[i] = value;
}

GEEPS_KERNEL GEEPS_NAME(add)(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source, int64_t count) {
    GEEPS_FOR_RANGE(i, count) target[i] += source[i];
}

GEEPS_KERNEL GEEPS_NAME(scale)(float *GEEPS_RESTRICT target, float factor, int64_t count) {
    GEEPS_FOR_RANGE(i, count) target[i] *= factor;
}

GEEPS_KERNEL GEEPS_NAME(sum_of_two)(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT a, const float *GEEPS_RESTRICT b,
    int64_t count) {
    GEEPS_FOR_RANGE(i, count) target[i] = a[i] + b[i];
}

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

// ---- Optimiser steps

// Runs `statement` for every i with `g` the gradient; the division is a loop of its own, because most
// jobs need none.
#define GEEPS_FOR_GRADIENT(i, n, statement)                         \
    if (gradient.divisor == 1) {                                    \
        GEEPS_FOR_RANGE(i, n) {                                     \
            float g = sum[i] * gradient.scale;                      \
            statement                                               \
        }                                                           \
    } else {                                                        \
        GEEPS_FOR_RANGE(i, n) {                                     \
            float g = sum[i] / gradient.divisor * gradient.scale;   \
            statement                                               \
        }                                                           \
    }

GEEPS_KERNEL GEEPS_NAME(step_add)(
    float *GEEPS_RESTRICT values, const float *GEEPS_RESTRICT sum, int64_t count,
    geeps_gradient gradient) {
    GEEPS_FOR_GRADIENT(i, count, { values[i] += g; })
}

GEEPS_KERNEL GEEPS_NAME(step_sgd)(
    float *GEEPS_RESTRICT values, const float *GEEPS_RESTRICT sum, float *GEEPS_RESTRICT buffer,
    int64_t count, geeps_gradient gradient, geeps_sgd rule) {
    if (rule.momentum == 0) {
        GEEPS_FOR_GRADIENT(i, count, {
            g = GEEPS_NAME(decayed)(g, values[i], rule.weight_decay);
            values[i] = GEEPS_FMA(rule.negative_learning_rate, g, values[i]);
        })
    } else {
        GEEPS_FOR_GRADIENT(i, count, {
            g = GEEPS_NAME(decayed)(g, values[i], rule.weight_decay);
            buffer[i] = GEEPS_NAME(sgd_buffer)(g, buffer[i], rule);
            float direction = GEEPS_NAME(sgd_direction)(g, buffer[i], rule);
            values[i] = GEEPS_FMA(rule.negative_learning_rate, direction, values[i]);
        })
    }
}

GEEPS_KERNEL GEEPS_NAME(step_adam)(
    float *GEEPS_RESTRICT values, const float *GEEPS_RESTRICT sum, float *GEEPS_RESTRICT mean,
    float *GEEPS_RESTRICT square, int64_t count, geeps_gradient gradient, geeps_adam rule) {
    GEEPS_FOR_GRADIENT(i, count, {
        g = GEEPS_NAME(decayed)(g, values[i], rule.weight_decay);
        mean[i] = GEEPS_NAME(lerp)(mean[i], g, rule.one_minus_beta1);
        square[i] = GEEPS_NAME(adam_square)(g, square[i], rule);
        values[i] = GEEPS_NAME(adam_value)(values[i], mean[i], square[i], rule);
    })
}

GEEPS_KERNEL GEEPS_NAME(step_adagrad)(
    float *GEEPS_RESTRICT values, const float *GEEPS_RESTRICT sum, float *GEEPS_RESTRICT total,
    int64_t count, geeps_gradient gradient, geeps_adagrad rule) {
    GEEPS_FOR_GRADIENT(i, count, {
        g = GEEPS_NAME(decayed)(g, values[i], rule.weight_decay);
        total[i] = GEEPS_FMA(g, g, total[i]);
        values[i] = GEEPS_NAME(adagrad_value)(values[i], g, total[i], rule);
    })
}

// What is left of RMSprop after the averages: with or without momentum.
#define GEEPS_RMSPROP(denominator)                                                     \
    if (rule.momentum == 0) {                                                          \
        GEEPS_FOR_GRADIENT(i, count, {                                                 \
            g = GEEPS_NAME(decayed)(g, values[i], rule.weight_decay);                  \
            square[i] = GEEPS_NAME(rmsprop_square)(g, square[i], rule);                \
            float root = denominator;                                                  \
            values[i] = values[i] + (rule.negative_learning_rate * g) / root;          \
        })                                                                             \
    } else {                                                                           \
        GEEPS_FOR_GRADIENT(i, count, {                                                 \
            g = GEEPS_NAME(decayed)(g, values[i], rule.weight_decay);                  \
            square[i] = GEEPS_NAME(rmsprop_square)(g, square[i], rule);                \
            float root = denominator;                                                  \
            buffer[i] = rule.momentum * buffer[i] + g / root;                          \
            values[i] = GEEPS_FMA(rule.negative_learning_rate, buffer[i], values[i]);  \
        })                                                                             \
    }

GEEPS_KERNEL GEEPS_NAME(step_rmsprop)(
    float *GEEPS_RESTRICT values, const float *GEEPS_RESTRICT sum, float *GEEPS_RESTRICT square,
    float *GEEPS_RESTRICT buffer, float *GEEPS_RESTRICT mean, int64_t count,
    geeps_gradient gradient, geeps_rmsprop rule) {
    if (rule.centered) {
        GEEPS_RMSPROP(GEEPS_NAME(rmsprop_centered_root)(&mean[i], g, square[i], rule))
    } else {
        GEEPS_RMSPROP(GEEPS_SQRT(square[i]) + rule.epsilon)
    }
}

#undef GEEPS_RMSPROP
#undef GEEPS_FOR_GRADIENT

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
};
