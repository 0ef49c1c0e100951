// What an LSTM's backward pass does for all steps at once; single steps are in lstm_body.h.

// From the gates of all steps, what the cells and the hidden values were before each; zero before the first.
// A thread goes through the steps of its value.
GEEPS_KERNEL geeps_lstm_states(
    float *GEEPS_RESTRICT cell_before, float *GEEPS_RESTRICT hidden_before,
    const float *GEEPS_RESTRICT gates, int64_t batch, int64_t steps, int64_t width) {
    GEEPS_FOR_PLACES(at, batch, width) {
        float cell = 0, hidden = 0;
        for (int64_t row = at.row * steps; row < (at.row + 1) * steps; row++) {
            const float *gate = gates + row * 4 * width + at.column;
            cell_before[row * width + at.column] = cell;
            hidden_before[row * width + at.column] = hidden;
            cell = geeps_lstm_cell(gate[0], gate[width], gate[2 * width], cell);
            hidden = gate[3 * width] * geeps_tanh(cell);
        }
    }
}
