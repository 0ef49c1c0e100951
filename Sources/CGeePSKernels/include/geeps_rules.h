#ifndef GEEPS_RULES_H
#define GEEPS_RULES_H

// The numbers of an optimiser step, for the host's kernels and a GPU's: passed by value, hence 32-bit
// members only, which lie the same everywhere.

// NVRTC has no system headers; the text for it brings its own types.
#ifndef __CUDACC_RTC__
#include <stdint.h>
#endif

/// How the sum in the accumulator becomes the gradient: (sum / divisor) * scale.
typedef struct geeps_gradient {
    float divisor;
    float scale;
} geeps_gradient;

/// torch.optim.SGD; `buffer` is used when momentum is not zero.
typedef struct geeps_sgd {
    float weight_decay;
    float momentum;
    float one_minus_dampening;
    float negative_learning_rate;
    /// The buffer becomes the gradient itself, undamped.
    int32_t is_first;
    int32_t nesterov;
} geeps_sgd;

/// torch.optim.Adam and AdamW, without amsgrad.
typedef struct geeps_adam {
    /// Added to the gradient (Adam); zero for AdamW.
    float weight_decay;
    /// 1 - lr * decay, multiplied into the values (AdamW); one for Adam.
    float decay_factor;
    float one_minus_beta1;
    float beta2;
    float one_minus_beta2;
    float root_correction2;
    float epsilon;
    float negative_step_size;
} geeps_adam;

/// torch.optim.Adagrad.
typedef struct geeps_adagrad {
    float weight_decay;
    float epsilon;
    float negative_learning_rate;
} geeps_adagrad;

/// torch.optim.RMSprop; `buffer` is used when momentum is not zero, `mean` when centered.
typedef struct geeps_rmsprop {
    float weight_decay;
    float alpha;
    float one_minus_alpha;
    float epsilon;
    float momentum;
    float negative_learning_rate;
    int32_t centered;
} geeps_rmsprop;

#endif
