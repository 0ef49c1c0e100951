// Normalisations of rows of channels, `[row_count, channels]`: a row is a sample, or a position of an image whose
// channels lie side by side. The host's alone; a GPU has cuDNN.
//
// Included once a level, hence no guard. Inner loops go over channels and every channel is added up by itself, so
// that no order of sums depends on the vector width.

/// Rows whose sums are kept in float: a block stays in the cache for its second pass, and rounding stays small.
enum { GEEPS_NAME(moment_rows) = 32 };

static void GEEPS_NAME(channel_moments)(
    const float *GEEPS_RESTRICT x, int64_t row_count, int64_t channels,
    double *GEEPS_RESTRICT mean, double *GEEPS_RESTRICT squares, float *GEEPS_RESTRICT scratch) {
    float *GEEPS_RESTRICT own = scratch;
    float *GEEPS_RESTRICT spread = scratch + channels;
    for (int64_t c = 0; c < channels; c++) mean[c] = squares[c] = 0;
    for (int64_t start = 0; start < row_count; start += GEEPS_NAME(moment_rows)) {
        int64_t count = row_count - start;
        if (count > GEEPS_NAME(moment_rows)) count = GEEPS_NAME(moment_rows);
        const float *GEEPS_RESTRICT block = x + start * channels;
        for (int64_t c = 0; c < channels; c++) own[c] = spread[c] = 0;
        for (int64_t row = 0; row < count; row++)
            for (int64_t c = 0; c < channels; c++) own[c] += block[row * channels + c];
        for (int64_t c = 0; c < channels; c++) own[c] /= (float)count;
        for (int64_t row = 0; row < count; row++) {
            for (int64_t c = 0; c < channels; c++) {
                float difference = block[row * channels + c] - own[c];
                spread[c] += difference * difference;
            }
        }
        // Chan, Golub and LeVeque, 1983: moments of two parts make those of the whole.
        double share = (double)count / (double)(start + count);
        for (int64_t c = 0; c < channels; c++) {
            double delta = (double)own[c] - mean[c];
            mean[c] += delta * share;
            squares[c] += (double)spread[c] + delta * delta * share * (double)start;
        }
    }
}

static void GEEPS_NAME(channel_normalise)(
    float *y, const float *x, int64_t row_count, int64_t channels,
    const float *GEEPS_RESTRICT mean, const float *GEEPS_RESTRICT factor,
    const float *GEEPS_RESTRICT bias) {
    for (int64_t row = 0; row < row_count; row++) {
        int64_t at = row * channels;
        // In place or apart: no element depends on another.
#pragma clang loop vectorize(assume_safety)
        for (int64_t c = 0; c < channels; c++)
            y[at + c] = (x[at + c] - mean[c]) * factor[c] + bias[c];
    }
}

static void GEEPS_NAME(channel_gradient_sums)(
    const float *GEEPS_RESTRICT x, const float *GEEPS_RESTRICT dy, int64_t row_count,
    int64_t channels, const float *GEEPS_RESTRICT mean, double *GEEPS_RESTRICT sums,
    double *GEEPS_RESTRICT products, float *GEEPS_RESTRICT scratch) {
    float *GEEPS_RESTRICT sum = scratch;
    float *GEEPS_RESTRICT product = scratch + channels;
    for (int64_t c = 0; c < channels; c++) sums[c] = products[c] = 0;
    for (int64_t start = 0; start < row_count; start += GEEPS_NAME(moment_rows)) {
        int64_t end = start + GEEPS_NAME(moment_rows);
        if (end > row_count) end = row_count;
        for (int64_t c = 0; c < channels; c++) sum[c] = product[c] = 0;
        for (int64_t row = start; row < end; row++) {
            for (int64_t c = 0; c < channels; c++) {
                float gradient = dy[row * channels + c];
                sum[c] += gradient;
                product[c] += gradient * (x[row * channels + c] - mean[c]);
            }
        }
        for (int64_t c = 0; c < channels; c++) {
            sums[c] += (double)sum[c];
            products[c] += (double)product[c];
        }
    }
}

static void GEEPS_NAME(channel_normalise_backward)(
    float *dx, const float *GEEPS_RESTRICT x, const float *dy, int64_t row_count, int64_t channels,
    const float *GEEPS_RESTRICT mean, const float *GEEPS_RESTRICT factor,
    const float *GEEPS_RESTRICT shift, const float *GEEPS_RESTRICT slope) {
    for (int64_t row = 0; row < row_count; row++) {
        int64_t at = row * channels;
#pragma clang loop vectorize(assume_safety)
        for (int64_t c = 0; c < channels; c++) {
            float pull = shift[c] + (x[at + c] - mean[c]) * slope[c];
            dx[at + c] = factor[c] * (dy[at + c] - pull);
        }
    }
}

// ---- Local response normalisation

/// `scale[c] = k + factor * (sum of the squares of channels c - before ... c + after)` and `power = scale ^ -beta`.
///
/// `padded` has `before` zeros, room for a row, and `after` zeros.
static inline __attribute__((always_inline)) void GEEPS_NAME(response_scales)(
    float *GEEPS_RESTRICT scale, float *GEEPS_RESTRICT power, float *GEEPS_RESTRICT padded,
    const float *GEEPS_RESTRICT x, int64_t channels, geeps_response rule) {
    for (int64_t c = 0; c < channels; c++) padded[rule.before + c] = x[c] * x[c];
    for (int64_t c = 0; c < channels; c++) scale[c] = padded[c];
    for (int64_t offset = 1; offset <= rule.before + rule.after; offset++)
        for (int64_t c = 0; c < channels; c++) scale[c] += padded[c + offset];
    for (int64_t c = 0; c < channels; c++) scale[c] = rule.k + rule.factor * scale[c];
    // Roots are vectorised and correctly rounded; a power is a call for every value.
    if (rule.beta == 0.75f) {
        for (int64_t c = 0; c < channels; c++) {
            float root = 1 / GEEPS_SQRT(scale[c]);
            power[c] = root * GEEPS_SQRT(root);
        }
    } else if (rule.beta == 0.5f) {
        for (int64_t c = 0; c < channels; c++) power[c] = 1 / GEEPS_SQRT(scale[c]);
    } else {
        for (int64_t c = 0; c < channels; c++) power[c] = __builtin_powf(scale[c], -rule.beta);
    }
}

static void GEEPS_NAME(response_normalise)(
    float *y, const float *x, int64_t row_count, int64_t channels, geeps_response rule,
    float *GEEPS_RESTRICT scratch) {
    float *GEEPS_RESTRICT scale = scratch;
    float *GEEPS_RESTRICT power = scratch + channels;
    float *GEEPS_RESTRICT padded = scratch + 2 * channels;
    int64_t width = channels + rule.before + rule.after;
    for (int64_t i = 0; i < width; i++) padded[i] = 0;
    for (int64_t row = 0; row < row_count; row++) {
        int64_t at = row * channels;
        GEEPS_NAME(response_scales)(scale, power, padded, x + at, channels, rule);
#pragma clang loop vectorize(assume_safety)
        for (int64_t c = 0; c < channels; c++) y[at + c] = x[at + c] * power[c];
    }
}

static void GEEPS_NAME(response_normalise_backward)(
    float *dx, const float *GEEPS_RESTRICT x, const float *dy, int64_t row_count, int64_t channels,
    geeps_response rule, float *GEEPS_RESTRICT scratch) {
    float *GEEPS_RESTRICT scale = scratch;
    float *GEEPS_RESTRICT power = scratch + channels;
    float *GEEPS_RESTRICT padded = scratch + 2 * channels;
    int64_t width = channels + rule.before + rule.after;
    float *GEEPS_RESTRICT pulls = padded + width;
    for (int64_t i = 0; i < 2 * width; i++) padded[i] = 0;
    float strength = 2 * rule.factor * rule.beta;
    for (int64_t row = 0; row < row_count; row++) {
        int64_t at = row * channels;
        GEEPS_NAME(response_scales)(scale, power, padded, x + at, channels, rule);
        // Channel c is in the windows of c - after ... c + before.
        for (int64_t c = 0; c < channels; c++)
            pulls[rule.after + c] = dy[at + c] * x[at + c] * power[c] / scale[c];
        for (int64_t c = 0; c < channels; c++) scale[c] = pulls[c];
        for (int64_t offset = 1; offset <= rule.before + rule.after; offset++)
            for (int64_t c = 0; c < channels; c++) scale[c] += pulls[c + offset];
#pragma clang loop vectorize(assume_safety)
        for (int64_t c = 0; c < channels; c++)
            dx[at + c] = dy[at + c] * power[c] - strength * x[at + c] * scale[c];
    }
}
