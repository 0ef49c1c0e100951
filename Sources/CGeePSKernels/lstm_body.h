// The steps of an LSTM, the same text for every level and for CUDA C++. GEEPS_FOR_PLACES goes over a whole
// matrix on the host and over a thread's share of it on a GPU.
//
// Sequences are [batch, steps, values]: a step of all samples is a matrix whose rows are steps * values
// apart. Gates are four times `width` values: input, forget, candidate, output, as PyTorch has them.
//
// Included once a level, hence no guard; embedded in the text for NVRTC, hence no #include.

// One step. `gates` are the products of its inputs and become what they open; `biases` are those of input
// and hidden, one after the other; `cell` [batch, width] goes from before the step to after it.
GEEPS_KERNEL GEEPS_NAME(lstm_forward)(
    float *GEEPS_RESTRICT gates, float *GEEPS_RESTRICT cell, float *GEEPS_RESTRICT hidden,
    const float *GEEPS_RESTRICT biases, int64_t gate_stride, int64_t hidden_stride, int64_t batch,
    int64_t width) {
    GEEPS_FOR_PLACES(at, batch, width) {
        float *gate = gates + at.row * gate_stride + at.column;
        const float *bias = biases + at.column, *other = bias + 4 * width;
        float input = GEEPS_NAME(sigmoid)(gate[0] + (bias[0] + other[0]));
        float forget = GEEPS_NAME(sigmoid)(gate[width] + (bias[width] + other[width]));
        float candidate = GEEPS_NAME(tanh)(gate[2 * width] + (bias[2 * width] + other[2 * width]));
        float output = GEEPS_NAME(sigmoid)(gate[3 * width] + (bias[3 * width] + other[3 * width]));
        float *own = cell + at.row * width + at.column;
        float after = GEEPS_NAME(lstm_cell)(input, forget, candidate, *own);
        *own = after;
        hidden[at.row * hidden_stride + at.column] = output * GEEPS_NAME(tanh)(after);
        gate[0] = input;
        gate[width] = forget;
        gate[2 * width] = candidate;
        gate[3 * width] = output;
    }
}

// One step backward. Writes the gradients of the sums that went into the gates; `cell_gradient` goes from
// after the step to before it. The hidden values' gradient is that of the step behind, and unless null that
// of the layer's output at this step. `cell_before` has rows of steps * width.
GEEPS_KERNEL GEEPS_NAME(lstm_backward)(
    float *GEEPS_RESTRICT gate_gradients, float *GEEPS_RESTRICT cell_gradient,
    const float *GEEPS_RESTRICT hidden_gradient, const float *GEEPS_RESTRICT output_gradient,
    const float *GEEPS_RESTRICT gates, const float *GEEPS_RESTRICT cell_before,
    int64_t output_stride, int64_t batch, int64_t steps, int64_t width) {
    GEEPS_FOR_PLACES(at, batch, width) {
        const float *gate = gates + at.row * steps * 4 * width + at.column;
        float input = gate[0], forget = gate[width];
        float candidate = gate[2 * width], output = gate[3 * width];
        float before = cell_before[at.row * steps * width + at.column];
        float bent = GEEPS_NAME(tanh)(GEEPS_NAME(lstm_cell)(input, forget, candidate, before));
        int64_t own = at.row * width + at.column;
        float hidden = hidden_gradient[own];
        if (output_gradient != 0) hidden += output_gradient[at.row * output_stride + at.column];
        float cell = GEEPS_FMA(hidden * output, GEEPS_FMA(-bent, bent, 1.0f), cell_gradient[own]);
        cell_gradient[own] = cell * forget;
        float *gradient = gate_gradients + at.row * steps * 4 * width + at.column;
        gradient[0] = cell * candidate * (input * (1 - input));
        gradient[width] = cell * before * (forget * (1 - forget));
        gradient[2 * width] = cell * input * GEEPS_FMA(-candidate, candidate, 1.0f);
        gradient[3 * width] = hidden * bent * (output * (1 - output));
    }
}
