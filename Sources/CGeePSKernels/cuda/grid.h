// How threads share work: launches of one dimension, of any size; a thread takes every n-th item, n being
// the number of threads. Neighbours take neighbouring items, so that the accesses of a warp lie together.
//
// All counts are 64-bit: a grid has up to 2^31 blocks of up to 1024 threads, an array more than 2^32 values.

#define GEEPS_NAME(name) geeps_##name
#define GEEPS_THREAD ((int64_t)blockIdx.x * blockDim.x + threadIdx.x)
#define GEEPS_THREAD_COUNT ((int64_t)gridDim.x * blockDim.x)
#define GEEPS_FOR_RANGE(i, n) \
    for (int64_t i = GEEPS_THREAD, all = GEEPS_THREAD_COUNT; i < (n); i += all)

/// An item of a matrix, and the way from one item of a thread to its next.
typedef struct geeps_place {
    int64_t row;
    int64_t column;
    int64_t row_step;
    int64_t column_step;
} geeps_place;

/// The thread's first item among rows of `width`. The divisions are here, once: a GPU has no instruction
/// for them.
GEEPS_ELEMENT geeps_place geeps_first_place(int64_t width) {
    uint64_t thread = GEEPS_THREAD, all = GEEPS_THREAD_COUNT, divisor = width;
    geeps_place place;
    place.row = (int64_t)(thread / divisor);
    place.column = (int64_t)(thread % divisor);
    place.row_step = (int64_t)(all / divisor);
    place.column_step = (int64_t)(all % divisor);
    return place;
}

GEEPS_ELEMENT void geeps_advance(geeps_place *place, int64_t width) {
    place->row += place->row_step;
    place->column += place->column_step;
    if (place->column >= width) {
        place->column -= width;
        place->row++;
    }
}

/// Runs the statement for the thread's items of `row_count` rows of `width`.
#define GEEPS_FOR_PLACES(place, row_count, width)                                                \
    if ((width) > 0)                                                                             \
        for (geeps_place place = geeps_first_place(width); place.row < (row_count);              \
             geeps_advance(&place, width))
