// The host's loops for what an LSTM's backward pass does for all steps at once: the values of a row are
// neighbours, so that a row is a vector's work. What a GPU runs is in cuda/lstm.h and cuda/layers.h; the
// bits are the same.

/// Of one sample, from before the step to before the next.
GEEPS_ELEMENT void GEEPS_NAME(lstm_next_state)(
    float *GEEPS_RESTRICT next_cell, float *GEEPS_RESTRICT next_hidden,
    const float *GEEPS_RESTRICT cell, const float *GEEPS_RESTRICT gate, int64_t width) {
    for (int64_t i = 0; i < width; i++) {
        float after =
            GEEPS_NAME(lstm_cell)(gate[i], gate[width + i], gate[2 * width + i], cell[i]);
        next_cell[i] = after;
        next_hidden[i] = gate[3 * width + i] * GEEPS_NAME(tanh)(after);
    }
}

static void GEEPS_NAME(lstm_states)(
    float *GEEPS_RESTRICT cell_before, float *GEEPS_RESTRICT hidden_before,
    const float *GEEPS_RESTRICT gates, int64_t batch, int64_t steps, int64_t width) {
    for (int64_t row = 0; row < batch * steps; row++) {
        float *cell = cell_before + row * width, *hidden = hidden_before + row * width;
        if (row % steps == 0) {
            for (int64_t i = 0; i < width; i++) cell[i] = hidden[i] = 0;
        } else {
            GEEPS_NAME(lstm_next_state)(
                cell, hidden, cell - width, gates + (row - 1) * 4 * width, width);
        }
    }
}

// A few columns at a time, so that their sums stay in registers.
static void GEEPS_NAME(column_sums)(
    float *GEEPS_RESTRICT sums, const float *GEEPS_RESTRICT source, int64_t row_count,
    int64_t width) {
    enum { lanes = 32 };
    for (int64_t first = 0; first < width; first += lanes) {
        double partial[lanes] = {0};
        int64_t count = width - first < lanes ? width - first : lanes;
        const float *row = source + first;
        if (count == lanes) {
            for (int64_t i = 0; i < row_count; i++, row += width)
                for (int lane = 0; lane < lanes; lane++) partial[lane] += row[lane];
        } else {
            for (int64_t i = 0; i < row_count; i++, row += width)
                for (int64_t lane = 0; lane < count; lane++) partial[lane] += row[lane];
        }
        for (int64_t lane = 0; lane < count; lane++) sums[first + lane] = (float)partial[lane];
    }
}
