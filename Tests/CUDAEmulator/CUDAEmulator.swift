/// CUDA's driver on the host: the functions of `geeps_cuda.h` over the host's memory, watched.
public final class CUDAEmulator {}
