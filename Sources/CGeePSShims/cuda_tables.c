// Fills the tables of geeps_cuda.h.

#include "geeps_cuda.h"

#include <dlfcn.h>

// A pointer to a function and a pointer to data have the same form wherever there is dlsym.
#define GEEPS_CUDA_FILL(result, name, parameters)      \
    *(void **)&table->name = dlsym(library, #name);    \
    if (table->name == NULL) return #name;

const char *geeps_cuda_driver_load(geeps_cuda_driver *table, void *library) {
    GEEPS_CUDA_DRIVER(GEEPS_CUDA_FILL)
    return NULL;
}

const char *geeps_cuda_nvrtc_load(geeps_cuda_nvrtc *table, void *library) {
    GEEPS_CUDA_NVRTC(GEEPS_CUDA_FILL)
    return NULL;
}

const char *geeps_cuda_cublas_load(geeps_cuda_cublas *table, void *library) {
    GEEPS_CUDA_CUBLAS(GEEPS_CUDA_FILL)
    return NULL;
}

const char *geeps_cuda_cudnn_load(geeps_cuda_cudnn *table, void *library) {
    GEEPS_CUDA_CUDNN(GEEPS_CUDA_FILL)
    return NULL;
}
