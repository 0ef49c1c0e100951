// The loops over elements, the same text for every level and for CUDA C++. GEEPS_FOR_RANGE goes over the
// whole range on the host and over a thread's share of it on a GPU.
//
// Included once a level, hence no guard; embedded in the text for NVRTC, hence no #include.

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
