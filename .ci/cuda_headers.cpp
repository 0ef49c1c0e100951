// Compares every function of geeps_cuda.h, and every value, with NVIDIA's own headers: it compiles if they agree.

#include <type_traits>

#include <cuda.h>
#include <cublas_v2.h>
#include <cudnn.h>
#include <nvrtc.h>

extern "C" {
#include "geeps_cuda.h"
}

// What the calling convention sees of a type: an enumeration is an int, a constant pointer a pointer.
template <typename T, bool = std::is_enum<T>::value> struct plain { using type = T; };
template <typename T> struct plain<T, true> { using type = int; };
template <> struct plain<unsigned, false> { using type = int; };
template <typename T> struct plain<T *, false> {
    using inner = typename plain<typename std::remove_cv<T>::type>::type;
    using type = inner *;
};
template <> struct plain<cudnnConvolutionFwdAlgoPerf_t, false> { using type = geeps_cudnn_algorithm; };
template <> struct plain<cudnnConvolutionBwdDataAlgoPerf_t, false> { using type = geeps_cudnn_algorithm; };
template <> struct plain<cudnnConvolutionBwdFilterAlgoPerf_t, false> { using type = geeps_cudnn_algorithm; };
template <typename R, typename... A> struct plain<R(A...), false> {
    using type = typename plain<R>::type(typename plain<typename std::remove_cv<A>::type>::type...);
};

#define SAME(result, name, parameters)                                                     \
    static_assert(                                                                         \
        std::is_same<                                                                      \
            plain<result parameters>::type,                                                \
            plain<typename std::remove_const<                                              \
                typename std::remove_pointer<decltype(name)>::type>::type>::type>::value,  \
        #name " differs from NVIDIA's header");
// The newest header declares only a second version, which older drivers lack; they all have this one.
#undef cuEventElapsedTime
extern "C" CUresult cuEventElapsedTime(float *, CUevent, CUevent);
// Overloaded there; this picks the one of C.
static cublasStatus_t (*gemm)(
    cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void *, const void *,
    cudaDataType, int, const void *, cudaDataType, int, const void *, void *, cudaDataType, int,
    cublasComputeType_t, cublasGemmAlgo_t) = cublasGemmEx;
#define cublasGemmEx gemm
GEEPS_CUDA_DRIVER(SAME)
GEEPS_CUDA_NVRTC(SAME)
GEEPS_CUDA_CUBLAS(SAME)
GEEPS_CUDA_CUDNN(SAME)

#define SAME_LAYOUT(type)                                              \
    static_assert(sizeof(type) == sizeof(geeps_cudnn_algorithm), #type);   \
    static_assert(offsetof(type, memory) == offsetof(geeps_cudnn_algorithm, workspace_bytes), #type); \
    static_assert(offsetof(type, mathType) == offsetof(geeps_cudnn_algorithm, math_type), #type);
SAME_LAYOUT(cudnnConvolutionFwdAlgoPerf_t)
SAME_LAYOUT(cudnnConvolutionBwdDataAlgoPerf_t)
SAME_LAYOUT(cudnnConvolutionBwdFilterAlgoPerf_t)

#define EQUAL(ours, theirs) static_assert((int)(ours) == (int)(theirs), #ours);
EQUAL(GEEPS_CU_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY)
EQUAL(GEEPS_CU_NOT_INITIALIZED, CUDA_ERROR_NOT_INITIALIZED)
EQUAL(GEEPS_CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE)
EQUAL(GEEPS_CU_INVALID_DEVICE, CUDA_ERROR_INVALID_DEVICE)
EQUAL(GEEPS_CU_INVALID_IMAGE, CUDA_ERROR_INVALID_IMAGE)
EQUAL(GEEPS_CU_INVALID_CONTEXT, CUDA_ERROR_INVALID_CONTEXT)
EQUAL(GEEPS_CU_INVALID_HANDLE, CUDA_ERROR_INVALID_HANDLE)
EQUAL(GEEPS_CU_NOT_FOUND, CUDA_ERROR_NOT_FOUND)
EQUAL(GEEPS_CU_NOT_READY, CUDA_ERROR_NOT_READY)
EQUAL(GEEPS_CU_ILLEGAL_ADDRESS, CUDA_ERROR_ILLEGAL_ADDRESS)
EQUAL(GEEPS_CU_LAUNCH_FAILED, CUDA_ERROR_LAUNCH_FAILED)
EQUAL(GEEPS_CU_SYSTEM_DRIVER_MISMATCH, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)
EQUAL(GEEPS_CU_UNKNOWN, CUDA_ERROR_UNKNOWN)
EQUAL(GEEPS_CU_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING)
EQUAL(GEEPS_CU_EVENT_BLOCKING_SYNC, CU_EVENT_BLOCKING_SYNC)
EQUAL(GEEPS_CU_EVENT_DISABLE_TIMING, CU_EVENT_DISABLE_TIMING)
EQUAL(GEEPS_CU_HOST_ALLOC_PORTABLE, CU_MEMHOSTALLOC_PORTABLE)
EQUAL(GEEPS_CU_MULTIPROCESSOR_COUNT, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
EQUAL(GEEPS_CU_PCI_BUS_ID, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)
EQUAL(GEEPS_CU_ASYNC_ENGINE_COUNT, CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT)
EQUAL(GEEPS_CU_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
EQUAL(GEEPS_CU_COMPUTE_CAPABILITY_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
EQUAL(GEEPS_CUBLAS_PLAIN, CUBLAS_OP_N)
EQUAL(GEEPS_CUBLAS_TRANSPOSED, CUBLAS_OP_T)
EQUAL(GEEPS_CUBLAS_FLOAT32, CUDA_R_32F)
EQUAL(GEEPS_CUBLAS_BFLOAT16, CUDA_R_16BF)
EQUAL(GEEPS_CUBLAS_COMPUTE_FLOAT32, CUBLAS_COMPUTE_32F)
EQUAL(GEEPS_CUBLAS_COMPUTE_FAST_BFLOAT16, CUBLAS_COMPUTE_32F_FAST_16BF)
EQUAL(GEEPS_CUBLAS_COMPUTE_FAST_TF32, CUBLAS_COMPUTE_32F_FAST_TF32)
EQUAL(GEEPS_CUBLAS_DEFAULT_MATH, CUBLAS_DEFAULT_MATH)
EQUAL(GEEPS_CUBLAS_DEFAULT_ALGORITHM, CUBLAS_GEMM_DEFAULT)
EQUAL(GEEPS_CUDNN_NCHW, CUDNN_TENSOR_NCHW)
EQUAL(GEEPS_CUDNN_NHWC, CUDNN_TENSOR_NHWC)
EQUAL(GEEPS_CUDNN_FLOAT32, CUDNN_DATA_FLOAT)
EQUAL(GEEPS_CUDNN_BFLOAT16, CUDNN_DATA_BFLOAT16)
EQUAL(GEEPS_CUDNN_DEFAULT_MATH, CUDNN_DEFAULT_MATH)
EQUAL(GEEPS_CUDNN_TENSOR_OP_MATH, CUDNN_TENSOR_OP_MATH)
EQUAL(GEEPS_CUDNN_FMA_MATH, CUDNN_FMA_MATH)
EQUAL(GEEPS_CUDNN_CROSS_CORRELATION, CUDNN_CROSS_CORRELATION)
EQUAL(GEEPS_CUDNN_PROPAGATE_NAN, CUDNN_PROPAGATE_NAN)
EQUAL(GEEPS_CUDNN_POOLING_AVERAGE_WITH_PADDING, CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING)
EQUAL(GEEPS_CUDNN_POOLING_MAXIMUM_DETERMINISTIC, CUDNN_POOLING_MAX_DETERMINISTIC)
EQUAL(GEEPS_CUDNN_SIGMOID, CUDNN_ACTIVATION_SIGMOID)
EQUAL(GEEPS_CUDNN_RELU, CUDNN_ACTIVATION_RELU)
EQUAL(GEEPS_CUDNN_TANH, CUDNN_ACTIVATION_TANH)
EQUAL(GEEPS_CUDNN_SOFTMAX_ACCURATE, CUDNN_SOFTMAX_ACCURATE)
EQUAL(GEEPS_CUDNN_SOFTMAX_LOG, CUDNN_SOFTMAX_LOG)
EQUAL(GEEPS_CUDNN_SOFTMAX_INSTANCE, CUDNN_SOFTMAX_MODE_INSTANCE)
EQUAL(GEEPS_CUDNN_LRN_CROSS_CHANNEL, CUDNN_LRN_CROSS_CHANNEL_DIM1)
EQUAL(GEEPS_CUDNN_BATCH_NORM_SPATIAL, CUDNN_BATCHNORM_SPATIAL)

int main() {}
