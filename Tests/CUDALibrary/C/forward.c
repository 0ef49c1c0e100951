// The symbols of libcuda.so.1 and of NVRTC, each a jump to the emulator's function.

#include "cuda_emulated.h"

#if defined(__x86_64__)
// A jump keeps all arguments and the caller's return address, whatever the function's type is.
#define FORWARD(result, name, parameters)                                                 \
    __attribute__((visibility("hidden"))) void *cuda_emulated_##name;                     \
    __attribute__((naked, visibility("default"))) void name(void) {                       \
        __asm__("jmp *cuda_emulated_" #name "(%rip)");                                    \
    }
#elif defined(__aarch64__)
#define FORWARD(result, name, parameters)                                                 \
    __attribute__((visibility("hidden"))) void *cuda_emulated_##name;                     \
    __attribute__((naked, visibility("default"))) void name(void) {                       \
        __asm__("adrp x16, cuda_emulated_" #name "\n"                                     \
                "ldr x16, [x16, :lo12:cuda_emulated_" #name "]\n"                         \
                "br x16");                                                                \
    }
#endif

GEEPS_CUDA_DRIVER(FORWARD)
GEEPS_CUDA_NVRTC(FORWARD)

#define FILL_DRIVER(result, name, parameters) cuda_emulated_##name = (void *)driver->name;
#define FILL_NVRTC(result, name, parameters) cuda_emulated_##name = (void *)nvrtc->name;

void cuda_emulated_fill(const geeps_cuda_driver *driver, const geeps_cuda_nvrtc *nvrtc) {
    GEEPS_CUDA_DRIVER(FILL_DRIVER)
    GEEPS_CUDA_NVRTC(FILL_NVRTC)
}

void cuda_emulated_begin(void);

__attribute__((constructor)) static void begin(void) { cuda_emulated_begin(); }
