#ifndef GEEPS_KERNELS_H
#define GEEPS_KERNELS_H
#endif
