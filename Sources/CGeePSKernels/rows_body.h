// Rows by index. A processor waits for memory here, not for arithmetic: rows to come are prefetched,
// into the second-level cache, which has more requests in flight than the first (1.5 times as fast).

// Sixteen values at any address; two, four or one register, by level.
typedef float GEEPS_NAME(lane) __attribute__((vector_size(64), aligned(4)));
typedef float GEEPS_NAME(aligned_lane) __attribute__((vector_size(64)));

GEEPS_ELEMENT void GEEPS_NAME(prefetch_row)(const float *row, int64_t width) {
    for (int64_t k = 0; k < width; k += 16) __builtin_prefetch(row + k, 0, 1);
}

// Rows to ask for ahead: 12 KiB of them, 256 at most. Half and twice as many are as fast.
GEEPS_ELEMENT int64_t GEEPS_NAME(rows_ahead)(int64_t width) {
    int64_t ahead = 3072 / width;
    return ahead < 2 ? 2 : ahead > 256 ? 256 : ahead;
}

// Four lanes a turn: a plain loop would be turned into a call of memcpy for every row.
GEEPS_ELEMENT void GEEPS_NAME(copy_row)(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source, int64_t width) {
    int64_t k = 0;
    for (; k + 64 <= width; k += 64) {
        const GEEPS_NAME(lane) *from = (const GEEPS_NAME(lane) *)(source + k);
        GEEPS_NAME(lane) *to = (GEEPS_NAME(lane) *)(target + k);
        GEEPS_NAME(lane) a = from[0], b = from[1], c = from[2], d = from[3];
        to[0] = a;
        to[1] = b;
        to[2] = c;
        to[3] = d;
    }
    for (; k + 16 <= width; k += 16)
        *(GEEPS_NAME(lane) *)(target + k) = *(const GEEPS_NAME(lane) *)(source + k);
    for (; k < width; k++) target[k] = source[k];
}

// Past the caches: what is written here is not read again soon. Aligned whole lanes only.
GEEPS_ELEMENT void GEEPS_NAME(stream_row)(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source, int64_t width) {
    for (int64_t k = 0; k < width; k += 16)
        __builtin_nontemporal_store(
            *(const GEEPS_NAME(lane) *)(source + k), (GEEPS_NAME(aligned_lane) *)(target + k));
}

GEEPS_ELEMENT void GEEPS_NAME(add_row)(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source, int64_t width) {
    int64_t k = 0;
    for (; k + 16 <= width; k += 16)
        *(GEEPS_NAME(lane) *)(target + k) += *(const GEEPS_NAME(lane) *)(source + k);
    for (; k < width; k++) target[k] += source[k];
}

// Runs `statement` for every row i, asking for a later row of `array` beforehand.
#define GEEPS_FOR_ROWS(i, array, statement)                                          \
    {                                                                                \
        int64_t ahead = GEEPS_NAME(rows_ahead)(width);                               \
        int64_t last = row_count > ahead ? row_count - ahead : 0;                    \
        for (int64_t i = 0; i < last; i++) {                                         \
            GEEPS_NAME(prefetch_row)((array) + index[i + ahead] * width, width);     \
            statement                                                                \
        }                                                                            \
        for (int64_t i = last; i < row_count; i++) statement                         \
    }

static void GEEPS_NAME(gather_values)(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source,
    const uint32_t *GEEPS_RESTRICT index, int64_t row_count) {
    const int64_t width = 1;
    GEEPS_FOR_ROWS(i, source, { target[i] = source[index[i]]; })
}

static void GEEPS_NAME(scatter_values)(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source,
    const uint32_t *GEEPS_RESTRICT index, int64_t row_count) {
    const int64_t width = 1;
    GEEPS_FOR_ROWS(i, target, { target[index[i]] = source[i]; })
}

static void GEEPS_NAME(scatter_add_values)(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source,
    const uint32_t *GEEPS_RESTRICT index, int64_t row_count) {
    const int64_t width = 1;
    GEEPS_FOR_ROWS(i, target, { target[index[i]] += source[i]; })
}

static void GEEPS_NAME(gather_rows)(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source,
    const uint32_t *GEEPS_RESTRICT index, int64_t row_count, int64_t width) {
    if (width == 1) return GEEPS_NAME(gather_values)(target, source, index, row_count);
    int is_aligned = (uintptr_t)target % 64 == 0 && width % 16 == 0;
    if (is_aligned && row_count * width >= GEEPS_STREAM_VALUES) {
        GEEPS_FOR_ROWS(i, source, {
            GEEPS_NAME(stream_row)(target + i * width, source + index[i] * width, width);
        })
        GEEPS_STORE_FENCE();
    } else {
        GEEPS_FOR_ROWS(i, source, {
            GEEPS_NAME(copy_row)(target + i * width, source + index[i] * width, width);
        })
    }
}

static void GEEPS_NAME(scatter_rows)(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source,
    const uint32_t *GEEPS_RESTRICT index, int64_t row_count, int64_t width) {
    if (width == 1) return GEEPS_NAME(scatter_values)(target, source, index, row_count);
    GEEPS_FOR_ROWS(i, target, {
        GEEPS_NAME(copy_row)(target + index[i] * width, source + i * width, width);
    })
}

static void GEEPS_NAME(scatter_add_rows)(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source,
    const uint32_t *GEEPS_RESTRICT index, int64_t row_count, int64_t width) {
    if (width == 1) return GEEPS_NAME(scatter_add_values)(target, source, index, row_count);
    GEEPS_FOR_ROWS(i, target, {
        GEEPS_NAME(add_row)(target + index[i] * width, source + i * width, width);
    })
}

#undef GEEPS_FOR_ROWS
