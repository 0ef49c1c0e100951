#include "geeps_kernels.h"
