// What every processor of the target has. Fused multiply-adds are library calls on x86-64: the same
// bits, slowly.

#include "kernels_host.h"

#define GEEPS_NAME(name) name##_baseline
#define GEEPS_LEVEL geeps_level_baseline
#include "kernels_body.h"
