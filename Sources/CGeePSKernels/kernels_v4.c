// AVX-512.

#include "kernels_host.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), apply_to = function)

#define GEEPS_NAME(name) name##_v4
#define GEEPS_LEVEL geeps_level_v4
#include "kernels_body.h"

#pragma clang attribute pop
#endif
