#ifndef CUDA_EMULATED_H
#define CUDA_EMULATED_H

#include "geeps_cuda.h"

/// Makes the functions of this library those of the tables.
void cuda_emulated_fill(const geeps_cuda_driver *driver, const geeps_cuda_nvrtc *nvrtc);

#endif
