// What layers need beside NVIDIA's libraries.

// target[(o * channels + c) * inner + i] += bias[c]. Channels last, as a fully connected layer has them,
// need no division per value.
GEEPS_KERNEL geeps_add_bias(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT bias, int64_t outer, int64_t channels,
    int64_t inner) {
    if (inner == 1) {
        GEEPS_FOR_PLACES(at, outer, channels) {
            target[at.row * channels + at.column] += bias[at.column];
        }
    } else {
        GEEPS_FOR_PLACES(at, outer * channels, inner) {
            target[at.row * inner + at.column] += bias[(uint64_t)at.row % (uint64_t)channels];
        }
    }
}

// gradient[c] = sum over o and i, in that order, in double. A thread a channel: neighbours read together
// where inner is one, which has a loop of its own, as several loads can then be on their way. For maps of
// many values cuDNN's is the faster.
GEEPS_KERNEL geeps_bias_gradient(
    float *GEEPS_RESTRICT gradient, const float *GEEPS_RESTRICT output_gradient, int64_t outer,
    int64_t channels, int64_t inner) {
    GEEPS_FOR_RANGE(c, channels) {
        double sum = 0;
        if (inner == 1) {
            GEEPS_UNROLL
            for (int64_t o = 0; o < outer; o++) sum += output_gradient[o * channels + c];
        } else {
            for (int64_t o = 0; o < outer; o++) {
                const float *map = output_gradient + (o * channels + c) * inner;
                GEEPS_UNROLL
                for (int64_t i = 0; i < inner; i++) sum += map[i];
            }
        }
        gradient[c] = (float)sum;
    }
}

/// Value `index` of SplitMix64's stream of `key`.
GEEPS_ELEMENT uint64_t geeps_random(uint64_t key, uint64_t index) {
    uint64_t z = key + (index + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/// A value or, where its 32 bits of the draw are below the threshold, zero.
GEEPS_ELEMENT float geeps_kept(float value, uint64_t draw, uint64_t threshold, float scale) {
    return draw < threshold ? 0 : value * scale;
}

// Drops with a probability, of which the threshold is 2^32 times. A draw of 64 bits serves two values, which
// a thread moves together where their address allows it. `target` may be `source`.
GEEPS_KERNEL geeps_dropout(
    float *target, const float *source, uint64_t key, uint64_t threshold, float scale,
    int64_t count) {
    int is_paired = ((uint64_t)target | (uint64_t)source) % 8 == 0;
    GEEPS_FOR_RANGE(pair, (count + 1) / 2) {
        uint64_t bits = geeps_random(key, (uint64_t)pair);
        uint64_t low = bits & 0xFFFFFFFFu, high = bits >> 32;
        int64_t i = 2 * pair;
        if (is_paired && i + 1 < count) {
            float2 values = *(const float2 *)(source + i);
            values.x = geeps_kept(values.x, low, threshold, scale);
            values.y = geeps_kept(values.y, high, threshold, scale);
            *(float2 *)(target + i) = values;
        } else {
            target[i] = geeps_kept(source[i], low, threshold, scale);
            if (i + 1 < count) target[i + 1] = geeps_kept(source[i + 1], high, threshold, scale);
        }
    }
}

// A thread a sample: its loss (the label's -log p), its outcome (1 when the first of the largest is the
// label, 0 when not, -1 with the label as loss and gradient 0 when the label is no class) and, unless null, its gradient
// (p - onehot) * scale, which may take the place of the log-probabilities.
GEEPS_KERNEL geeps_softmax_loss(
    float *gradient, float *GEEPS_RESTRICT losses, int32_t *GEEPS_RESTRICT outcomes,
    const float *log_probabilities, const int32_t *GEEPS_RESTRICT labels, int64_t batch,
    int64_t classes, float scale) {
    GEEPS_FOR_RANGE(b, batch) {
        const float *row = log_probabilities + b * classes;
        int64_t label = labels[b], winner = -1;
        int is_class = label >= 0 && label < classes;
        float largest = 0;
        // Before the gradient takes its place.
        losses[b] = is_class ? -row[label] : (float)label;
        for (int64_t c = 0; c < classes; c++) {
            float value = row[c];
            if (c == 0 || value > largest) {
                largest = value;
                winner = c;
            }
            if (gradient != 0) {
                float difference = GEEPS_EXP(value) - (c == label ? 1.0f : 0.0f);
                gradient[b * classes + c] = is_class ? difference * scale : 0;
            }
        }
        outcomes[b] = is_class ? winner == label : -1;
    }
}

// To the nearest, of two as near to the even one; what is too large becomes infinite, and a NaN stays one
// (its upper bits, made quiet).
GEEPS_KERNEL geeps_float_to_bfloat16(
    uint16_t *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source, int64_t count) {
    GEEPS_FOR_RANGE(i, count) {
        uint32_t bits = GEEPS_BITS(source[i]);
        uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
        int is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
        target[i] = (uint16_t)(is_nan ? (bits >> 16) | 0x40u : rounded);
    }
}

GEEPS_KERNEL geeps_bfloat16_to_float(
    float *GEEPS_RESTRICT target, const uint16_t *GEEPS_RESTRICT source, int64_t count) {
    GEEPS_FOR_RANGE(i, count) target[i] = GEEPS_FLOAT((uint32_t)source[i] << 16);
}

// parts[p] = sum of the squares of the values p, p + part_count, ..., in order, in double: the same bits
// for every launch. With thirty-two parts, added up by halves, it is the host's squared_norm.
GEEPS_KERNEL geeps_squared_norm_parts(
    double *GEEPS_RESTRICT parts, const float *GEEPS_RESTRICT source, int64_t count,
    int64_t part_count) {
    GEEPS_FOR_RANGE(p, part_count) {
        double sum = 0;
        GEEPS_UNROLL
        for (int64_t i = p; i < count; i += part_count) {
            double value = source[i];
            sum += value * value;
        }
        parts[p] = sum;
    }
}
