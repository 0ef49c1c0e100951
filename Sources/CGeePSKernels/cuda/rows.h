// Rows by index, for a GPU. A thread moves one value, or four where the rows allow it: sixteen bytes a
// thread are the widest access there is, and a warp then asks for 512 bytes at once. Many threads hide the
// wait for the index and then for the row; nothing is prefetched.

/// Whether rows can be moved in sixteen bytes: whole ones, and both arrays on such an address.
GEEPS_ELEMENT int geeps_takes_vectors(const float *target, const float *source, int64_t width) {
    return width % 4 == 0 && ((uint64_t)target | (uint64_t)source) % 16 == 0;
}

GEEPS_KERNEL geeps_gather_rows(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source,
    const uint32_t *GEEPS_RESTRICT index, int64_t row_count, int64_t width) {
    if (geeps_takes_vectors(target, source, width)) {
        int64_t lanes = width / 4;
        const float4 *from = (const float4 *)source;
        float4 *to = (float4 *)target;
        GEEPS_FOR_PLACES(at, row_count, lanes) {
            to[at.row * lanes + at.column] = from[index[at.row] * lanes + at.column];
        }
    } else {
        GEEPS_FOR_PLACES(at, row_count, width) {
            target[at.row * width + at.column] = source[index[at.row] * width + at.column];
        }
    }
}

// An index must not repeat: there is no order among threads, so that of two rows either could stay, or
// some values of each.
GEEPS_KERNEL geeps_scatter_rows(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source,
    const uint32_t *GEEPS_RESTRICT index, int64_t row_count, int64_t width) {
    if (geeps_takes_vectors(target, source, width)) {
        int64_t lanes = width / 4;
        const float4 *from = (const float4 *)source;
        float4 *to = (float4 *)target;
        GEEPS_FOR_PLACES(at, row_count, lanes) {
            to[index[at.row] * lanes + at.column] = from[at.row * lanes + at.column];
        }
    } else {
        GEEPS_FOR_PLACES(at, row_count, width) {
            target[index[at.row] * width + at.column] = source[at.row * width + at.column];
        }
    }
}

// An index may repeat; the order of its additions is then open, and with it the last bits. Atomic additions
// in a GPU's memory take denormals for zero. From capability 9.0 on four values are added at once; before, a
// value a thread: the additions of a warp then fall on 128 bytes in a row and go out together, which four
// apart a thread would not.
GEEPS_KERNEL geeps_scatter_add_rows(
    float *GEEPS_RESTRICT target, const float *GEEPS_RESTRICT source,
    const uint32_t *GEEPS_RESTRICT index, int64_t row_count, int64_t width) {
#if GEEPS_HAS_VECTOR_ATOMICS
    if (geeps_takes_vectors(target, source, width)) {
        int64_t lanes = width / 4;
        const float4 *from = (const float4 *)source;
        float4 *to = (float4 *)target;
        GEEPS_FOR_PLACES(at, row_count, lanes) {
            atomicAdd(&to[index[at.row] * lanes + at.column], from[at.row * lanes + at.column]);
        }
        return;
    }
#endif
    GEEPS_FOR_PLACES(at, row_count, width) {
        atomicAdd(
            &target[index[at.row] * width + at.column], source[at.row * width + at.column]);
    }
}
