// AVX2 and FMA.

#include "kernels_host.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v3"))), apply_to = function)

#define GEEPS_NAME(name) name##_v3
#define GEEPS_LEVEL geeps_level_v3
#include "kernels_body.h"

#pragma clang attribute pop
#endif
