// What happens to one element: pure functions, the same text for every level and device.
//
// The order of operations, and which of them are fused, is that of PyTorch's CPU kernels: add(alpha) is
// fma(alpha, y, x), addcmul is fma(alpha * y, z, x), addcdiv is x + (alpha * y) / z, lerp is below. The
// oracle tests compare bit by bit with torch. Roots are correctly rounded (IEEE 754); those of MKL, which
// torch's CPU builds call, may be one unit in the last place off.
//
// Included once a level, hence no guard; embedded in the text for NVRTC, hence no #include.

/// x + weight * (y - x), from the nearer end.
GEEPS_ELEMENT float GEEPS_NAME(lerp)(float x, float y, float weight) {
    float difference = y - x;
    return weight < 0.5f ? GEEPS_FMA(weight, difference, x)
                         : GEEPS_FMA(-difference, 1.0f - weight, y);
}

/// The gradient with the L2 penalty; decay zero leaves it alone, whatever the value.
GEEPS_ELEMENT float GEEPS_NAME(decayed)(float gradient, float value, float decay) {
    return decay != 0 ? GEEPS_FMA(decay, value, gradient) : gradient;
}

GEEPS_ELEMENT float GEEPS_NAME(sgd_buffer)(float gradient, float buffer, geeps_sgd rule) {
    return rule.is_first ? gradient
                         : GEEPS_FMA(rule.one_minus_dampening, gradient, rule.momentum * buffer);
}

GEEPS_ELEMENT float GEEPS_NAME(sgd_direction)(float gradient, float buffer, geeps_sgd rule) {
    return rule.nesterov ? GEEPS_FMA(rule.momentum, buffer, gradient) : buffer;
}

GEEPS_ELEMENT float GEEPS_NAME(adam_square)(float gradient, float square, geeps_adam rule) {
    return GEEPS_FMA(rule.one_minus_beta2 * gradient, gradient, rule.beta2 * square);
}

GEEPS_ELEMENT float GEEPS_NAME(adam_value)(float value, float mean, float square, geeps_adam rule) {
    float denominator = GEEPS_SQRT(square) / rule.root_correction2 + rule.epsilon;
    return value * rule.decay_factor + (rule.negative_step_size * mean) / denominator;
}

GEEPS_ELEMENT float GEEPS_NAME(adagrad_value)(
    float value, float gradient, float total, geeps_adagrad rule) {
    float denominator = GEEPS_SQRT(total) + rule.epsilon;
    return value + (rule.negative_learning_rate * gradient) / denominator;
}

GEEPS_ELEMENT float GEEPS_NAME(rmsprop_square)(float gradient, float square, geeps_rmsprop rule) {
    return GEEPS_FMA(rule.one_minus_alpha * gradient, gradient, rule.alpha * square);
}

/// Moves the average of gradients on; the root of the variance.
GEEPS_ELEMENT float GEEPS_NAME(rmsprop_centered_root)(
    float *mean, float gradient, float square, geeps_rmsprop rule) {
    *mean = GEEPS_NAME(lerp)(*mean, gradient, rule.one_minus_alpha);
    return GEEPS_SQRT(GEEPS_FMA(-*mean, *mean, square)) + rule.epsilon;
}
