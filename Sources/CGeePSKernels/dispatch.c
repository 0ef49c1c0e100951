// Which level this processor has.

#include "kernels_host.h"

#include <stddef.h>

const geeps_kernels *geeps_kernels_at(geeps_level level) {
    switch (level) {
    case geeps_level_baseline: return &geeps_kernels_table_baseline;
#if defined(__x86_64__)
    case geeps_level_v3:
        return __builtin_cpu_supports("x86-64-v3") ? &geeps_kernels_table_v3 : NULL;
    case geeps_level_v4:
        return __builtin_cpu_supports("x86-64-v4") ? &geeps_kernels_table_v4 : NULL;
#endif
    default: return NULL;
    }
}

// Reads a description of the processor that was made at start: a few nanoseconds, nothing is kept.
const geeps_kernels *geeps_kernels_best(void) {
    const geeps_kernels *best = geeps_kernels_at(geeps_level_v4);
    if (best == NULL) best = geeps_kernels_at(geeps_level_v3);
    return best != NULL ? best : &geeps_kernels_table_baseline;
}
