#ifndef GEEPS_CUDA_H
#define GEEPS_CUDA_H

// What GeePS calls of CUDA: the driver, NVRTC, cuBLAS and cuDNN (its classic API), as tables of functions
// that are filled at run time. Nothing of NVIDIA's is needed to build.
//
// Conventions
// - A table's members have the names of the symbols they are loaded from, versions (`_v2`) included.
// - Handles are pointers to types that are never complete here; enumerations travel as `int`, with the
//   values below. `make check-cuda-headers` compares every function with NVIDIA's own headers.
// - Zero is success for every function that returns a status.

#include <stddef.h>
#include <stdint.h>

typedef struct CUctx_st *geeps_cu_context;
typedef struct CUstream_st *geeps_cu_stream;
typedef struct CUevent_st *geeps_cu_event;
typedef struct CUmod_st *geeps_cu_module;
typedef struct CUfunc_st *geeps_cu_function;
typedef unsigned long long geeps_cu_address;
typedef void (*geeps_cu_host_function)(void *user);
typedef struct _nvrtcProgram *geeps_nvrtc_program;
typedef struct cublasContext *geeps_cublas;
typedef struct cudnnContext *geeps_cudnn;
typedef struct cudnnTensorStruct *geeps_cudnn_tensor;
typedef struct cudnnFilterStruct *geeps_cudnn_filter;
typedef struct cudnnConvolutionStruct *geeps_cudnn_convolution;
typedef struct cudnnPoolingStruct *geeps_cudnn_pooling;
typedef struct cudnnActivationStruct *geeps_cudnn_activation;
typedef struct cudnnLRNStruct *geeps_cudnn_lrn;

/// A row of the answers of cudnnGetConvolution…Algorithm_v7.
typedef struct geeps_cudnn_algorithm {
    int algorithm;
    int status;
    float time;
    size_t workspace_bytes;
    int determinism;
    int math_type;
    int reserved[3];
} geeps_cudnn_algorithm;

// ---- The driver: libcuda.so.1

#define GEEPS_CUDA_DRIVER(F)                                                                          \
    F(int, cuInit, (unsigned flags))                                                                  \
    F(int, cuDriverGetVersion, (int *version))                                                        \
    F(int, cuGetErrorName, (int status, const char **name))                                           \
    F(int, cuGetErrorString, (int status, const char **text))                                         \
    F(int, cuDeviceGetCount, (int *count))                                                            \
    F(int, cuDeviceGet, (int *device, int ordinal))                                                   \
    F(int, cuDeviceGetName, (char *name, int capacity, int device))                                   \
    F(int, cuDeviceTotalMem_v2, (size_t *bytes, int device))                                          \
    F(int, cuDeviceGetAttribute, (int *value, int attribute, int device))                             \
    F(int, cuDeviceGetPCIBusId, (char *name, int capacity, int device))                               \
    F(int, cuDevicePrimaryCtxRetain, (geeps_cu_context *context, int device))                         \
    F(int, cuDevicePrimaryCtxRelease_v2, (int device))                                                \
    F(int, cuCtxSetCurrent, (geeps_cu_context context))                                               \
    F(int, cuCtxGetCurrent, (geeps_cu_context *context))                                              \
    F(int, cuMemGetInfo_v2, (size_t *free, size_t *total))                                            \
    F(int, cuMemAlloc_v2, (geeps_cu_address *address, size_t bytes))                                  \
    F(int, cuMemFree_v2, (geeps_cu_address address))                                                  \
    F(int, cuMemHostAlloc, (void **address, size_t bytes, unsigned flags))                            \
    F(int, cuMemFreeHost, (void *address))                                                            \
    F(int, cuMemcpyHtoD_v2, (geeps_cu_address target, const void *source, size_t bytes))              \
    F(int, cuMemcpyDtoH_v2, (void *target, geeps_cu_address source, size_t bytes))                    \
    F(int, cuMemcpyHtoDAsync_v2,                                                                      \
      (geeps_cu_address target, const void *source, size_t bytes, geeps_cu_stream stream))            \
    F(int, cuMemcpyDtoHAsync_v2,                                                                      \
      (void *target, geeps_cu_address source, size_t bytes, geeps_cu_stream stream))                  \
    F(int, cuMemcpyDtoDAsync_v2,                                                                      \
      (geeps_cu_address target, geeps_cu_address source, size_t bytes, geeps_cu_stream stream))       \
    F(int, cuMemsetD8Async,                                                                           \
      (geeps_cu_address target, unsigned char value, size_t count, geeps_cu_stream stream))           \
    F(int, cuMemsetD32Async,                                                                          \
      (geeps_cu_address target, unsigned value, size_t count, geeps_cu_stream stream))                \
    F(int, cuStreamCreate, (geeps_cu_stream *stream, unsigned flags))                                 \
    F(int, cuStreamDestroy_v2, (geeps_cu_stream stream))                                              \
    F(int, cuStreamSynchronize, (geeps_cu_stream stream))                                             \
    F(int, cuStreamQuery, (geeps_cu_stream stream))                                                   \
    F(int, cuStreamWaitEvent, (geeps_cu_stream stream, geeps_cu_event event, unsigned flags))         \
    F(int, cuEventCreate, (geeps_cu_event *event, unsigned flags))                                    \
    F(int, cuEventDestroy_v2, (geeps_cu_event event))                                                 \
    F(int, cuEventRecord, (geeps_cu_event event, geeps_cu_stream stream))                             \
    F(int, cuEventQuery, (geeps_cu_event event))                                                      \
    F(int, cuEventSynchronize, (geeps_cu_event event))                                                \
    F(int, cuEventElapsedTime, (float *milliseconds, geeps_cu_event start, geeps_cu_event end))       \
    F(int, cuLaunchHostFunc, (geeps_cu_stream stream, geeps_cu_host_function body, void *user))       \
    F(int, cuModuleLoadData, (geeps_cu_module *module, const void *image))                            \
    F(int, cuModuleUnload, (geeps_cu_module module))                                                  \
    F(int, cuModuleGetFunction,                                                                       \
      (geeps_cu_function *function, geeps_cu_module module, const char *name))                        \
    F(int, cuLaunchKernel,                                                                            \
      (geeps_cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,                 \
       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,                   \
       geeps_cu_stream stream, void **parameters, void **extra))

// ---- NVRTC: libnvrtc.so

#define GEEPS_CUDA_NVRTC(F)                                                                           \
    F(int, nvrtcVersion, (int *major, int *minor))                                                    \
    F(const char *, nvrtcGetErrorString, (int status))                                                \
    F(int, nvrtcGetNumSupportedArchs, (int *count))                                                   \
    F(int, nvrtcGetSupportedArchs, (int *architectures))                                              \
    F(int, nvrtcCreateProgram,                                                                        \
      (geeps_nvrtc_program *program, const char *source, const char *name, int header_count,          \
       const char *const *headers, const char *const *header_names))                                  \
    F(int, nvrtcDestroyProgram, (geeps_nvrtc_program *program))                                       \
    F(int, nvrtcCompileProgram,                                                                       \
      (geeps_nvrtc_program program, int option_count, const char *const *options))                    \
    F(int, nvrtcGetCUBINSize, (geeps_nvrtc_program program, size_t *bytes))                           \
    F(int, nvrtcGetCUBIN, (geeps_nvrtc_program program, char *image))                                 \
    F(int, nvrtcGetProgramLogSize, (geeps_nvrtc_program program, size_t *bytes))                      \
    F(int, nvrtcGetProgramLog, (geeps_nvrtc_program program, char *log))

// ---- cuBLAS: libcublas.so

#define GEEPS_CUDA_CUBLAS(F)                                                                          \
    F(const char *, cublasGetStatusString, (int status))                                              \
    F(int, cublasCreate_v2, (geeps_cublas *handle))                                                   \
    F(int, cublasDestroy_v2, (geeps_cublas handle))                                                   \
    F(int, cublasGetVersion_v2, (geeps_cublas handle, int *version))                                  \
    F(int, cublasSetStream_v2, (geeps_cublas handle, geeps_cu_stream stream))                         \
    F(int, cublasSetWorkspace_v2, (geeps_cublas handle, void *workspace, size_t bytes))               \
    F(int, cublasSetMathMode, (geeps_cublas handle, int mode))                                        \
    F(int, cublasGemmEx,                                                                              \
      (geeps_cublas handle, int a_operation, int b_operation, int m, int n, int k,                    \
       const void *alpha, const void *a, int a_type, int a_stride, const void *b, int b_type,         \
       int b_stride, const void *beta, void *c, int c_type, int c_stride, int compute_type,           \
       int algorithm))

// ---- cuDNN: libcudnn.so.9

#define GEEPS_CUDA_CUDNN(F)                                                                           \
    F(size_t, cudnnGetVersion, (void))                                                                \
    F(const char *, cudnnGetErrorString, (int status))                                                \
    F(void, cudnnGetLastErrorString, (char *message, size_t capacity))                                \
    F(int, cudnnCreate, (geeps_cudnn *handle))                                                        \
    F(int, cudnnDestroy, (geeps_cudnn handle))                                                        \
    F(int, cudnnSetStream, (geeps_cudnn handle, geeps_cu_stream stream))                              \
    F(int, cudnnCreateTensorDescriptor, (geeps_cudnn_tensor *descriptor))                             \
    F(int, cudnnDestroyTensorDescriptor, (geeps_cudnn_tensor descriptor))                             \
    F(int, cudnnSetTensor4dDescriptor,                                                                \
      (geeps_cudnn_tensor descriptor, int format, int type, int n, int c, int h, int w))              \
    F(int, cudnnCreateFilterDescriptor, (geeps_cudnn_filter *descriptor))                             \
    F(int, cudnnDestroyFilterDescriptor, (geeps_cudnn_filter descriptor))                             \
    F(int, cudnnSetFilter4dDescriptor,                                                                \
      (geeps_cudnn_filter descriptor, int type, int format, int k, int c, int h, int w))              \
    F(int, cudnnCreateConvolutionDescriptor, (geeps_cudnn_convolution *descriptor))                   \
    F(int, cudnnDestroyConvolutionDescriptor, (geeps_cudnn_convolution descriptor))                   \
    F(int, cudnnSetConvolution2dDescriptor,                                                           \
      (geeps_cudnn_convolution descriptor, int padding_h, int padding_w, int stride_h, int stride_w,  \
       int dilation_h, int dilation_w, int mode, int compute_type))                                   \
    F(int, cudnnSetConvolutionMathType, (geeps_cudnn_convolution descriptor, int math_type))          \
    F(int, cudnnGetConvolutionForwardAlgorithm_v7,                                                    \
      (geeps_cudnn handle, geeps_cudnn_tensor x, geeps_cudnn_filter w,                                \
       geeps_cudnn_convolution convolution, geeps_cudnn_tensor y, int capacity, int *count,           \
       geeps_cudnn_algorithm *answers))                                                               \
    F(int, cudnnGetConvolutionForwardWorkspaceSize,                                                   \
      (geeps_cudnn handle, geeps_cudnn_tensor x, geeps_cudnn_filter w,                                \
       geeps_cudnn_convolution convolution, geeps_cudnn_tensor y, int algorithm, size_t *bytes))      \
    F(int, cudnnConvolutionForward,                                                                   \
      (geeps_cudnn handle, const void *alpha, geeps_cudnn_tensor x_layout, const void *x,             \
       geeps_cudnn_filter w_layout, const void *w, geeps_cudnn_convolution convolution,               \
       int algorithm, void *workspace, size_t workspace_bytes, const void *beta,                      \
       geeps_cudnn_tensor y_layout, void *y))                                                         \
    F(int, cudnnGetConvolutionBackwardDataAlgorithm_v7,                                               \
      (geeps_cudnn handle, geeps_cudnn_filter w, geeps_cudnn_tensor dy,                               \
       geeps_cudnn_convolution convolution, geeps_cudnn_tensor dx, int capacity, int *count,          \
       geeps_cudnn_algorithm *answers))                                                               \
    F(int, cudnnGetConvolutionBackwardDataWorkspaceSize,                                              \
      (geeps_cudnn handle, geeps_cudnn_filter w, geeps_cudnn_tensor dy,                               \
       geeps_cudnn_convolution convolution, geeps_cudnn_tensor dx, int algorithm, size_t *bytes))     \
    F(int, cudnnConvolutionBackwardData,                                                              \
      (geeps_cudnn handle, const void *alpha, geeps_cudnn_filter w_layout, const void *w,             \
       geeps_cudnn_tensor dy_layout, const void *dy, geeps_cudnn_convolution convolution,             \
       int algorithm, void *workspace, size_t workspace_bytes, const void *beta,                      \
       geeps_cudnn_tensor dx_layout, void *dx))                                                       \
    F(int, cudnnGetConvolutionBackwardFilterAlgorithm_v7,                                             \
      (geeps_cudnn handle, geeps_cudnn_tensor x, geeps_cudnn_tensor dy,                               \
       geeps_cudnn_convolution convolution, geeps_cudnn_filter dw, int capacity, int *count,          \
       geeps_cudnn_algorithm *answers))                                                               \
    F(int, cudnnGetConvolutionBackwardFilterWorkspaceSize,                                            \
      (geeps_cudnn handle, geeps_cudnn_tensor x, geeps_cudnn_tensor dy,                               \
       geeps_cudnn_convolution convolution, geeps_cudnn_filter dw, int algorithm, size_t *bytes))     \
    F(int, cudnnConvolutionBackwardFilter,                                                            \
      (geeps_cudnn handle, const void *alpha, geeps_cudnn_tensor x_layout, const void *x,             \
       geeps_cudnn_tensor dy_layout, const void *dy, geeps_cudnn_convolution convolution,             \
       int algorithm, void *workspace, size_t workspace_bytes, const void *beta,                      \
       geeps_cudnn_filter dw_layout, void *dw))                                                       \
    F(int, cudnnConvolutionBackwardBias,                                                              \
      (geeps_cudnn handle, const void *alpha, geeps_cudnn_tensor dy_layout, const void *dy,           \
       const void *beta, geeps_cudnn_tensor db_layout, void *db))                                     \
    F(int, cudnnAddTensor,                                                                            \
      (geeps_cudnn handle, const void *alpha, geeps_cudnn_tensor a_layout, const void *a,             \
       const void *beta, geeps_cudnn_tensor c_layout, void *c))                                       \
    F(int, cudnnCreatePoolingDescriptor, (geeps_cudnn_pooling *descriptor))                           \
    F(int, cudnnDestroyPoolingDescriptor, (geeps_cudnn_pooling descriptor))                           \
    F(int, cudnnSetPooling2dDescriptor,                                                               \
      (geeps_cudnn_pooling descriptor, int mode, int nan, int window_h, int window_w, int padding_h,  \
       int padding_w, int stride_h, int stride_w))                                                    \
    F(int, cudnnPoolingForward,                                                                       \
      (geeps_cudnn handle, geeps_cudnn_pooling pooling, const void *alpha,                            \
       geeps_cudnn_tensor x_layout, const void *x, const void *beta, geeps_cudnn_tensor y_layout,     \
       void *y))                                                                                      \
    F(int, cudnnPoolingBackward,                                                                      \
      (geeps_cudnn handle, geeps_cudnn_pooling pooling, const void *alpha,                            \
       geeps_cudnn_tensor y_layout, const void *y, geeps_cudnn_tensor dy_layout, const void *dy,      \
       geeps_cudnn_tensor x_layout, const void *x, const void *beta, geeps_cudnn_tensor dx_layout,    \
       void *dx))                                                                                     \
    F(int, cudnnCreateActivationDescriptor, (geeps_cudnn_activation *descriptor))                     \
    F(int, cudnnDestroyActivationDescriptor, (geeps_cudnn_activation descriptor))                     \
    F(int, cudnnSetActivationDescriptor,                                                              \
      (geeps_cudnn_activation descriptor, int mode, int nan, double coefficient))                     \
    F(int, cudnnActivationForward,                                                                    \
      (geeps_cudnn handle, geeps_cudnn_activation activation, const void *alpha,                      \
       geeps_cudnn_tensor x_layout, const void *x, const void *beta, geeps_cudnn_tensor y_layout,     \
       void *y))                                                                                      \
    F(int, cudnnActivationBackward,                                                                   \
      (geeps_cudnn handle, geeps_cudnn_activation activation, const void *alpha,                      \
       geeps_cudnn_tensor y_layout, const void *y, geeps_cudnn_tensor dy_layout, const void *dy,      \
       geeps_cudnn_tensor x_layout, const void *x, const void *beta, geeps_cudnn_tensor dx_layout,    \
       void *dx))                                                                                     \
    F(int, cudnnSoftmaxForward,                                                                       \
      (geeps_cudnn handle, int algorithm, int mode, const void *alpha, geeps_cudnn_tensor x_layout,   \
       const void *x, const void *beta, geeps_cudnn_tensor y_layout, void *y))                        \
    F(int, cudnnCreateLRNDescriptor, (geeps_cudnn_lrn *descriptor))                                   \
    F(int, cudnnDestroyLRNDescriptor, (geeps_cudnn_lrn descriptor))                                   \
    F(int, cudnnSetLRNDescriptor,                                                                     \
      (geeps_cudnn_lrn descriptor, unsigned size, double alpha, double beta, double k))               \
    F(int, cudnnLRNCrossChannelForward,                                                               \
      (geeps_cudnn handle, geeps_cudnn_lrn lrn, int mode, const void *alpha,                          \
       geeps_cudnn_tensor x_layout, const void *x, const void *beta, geeps_cudnn_tensor y_layout,     \
       void *y))                                                                                      \
    F(int, cudnnLRNCrossChannelBackward,                                                              \
      (geeps_cudnn handle, geeps_cudnn_lrn lrn, int mode, const void *alpha,                          \
       geeps_cudnn_tensor y_layout, const void *y, geeps_cudnn_tensor dy_layout, const void *dy,      \
       geeps_cudnn_tensor x_layout, const void *x, const void *beta, geeps_cudnn_tensor dx_layout,    \
       void *dx))                                                                                     \
    F(int, cudnnBatchNormalizationForwardTraining,                                                    \
      (geeps_cudnn handle, int mode, const void *alpha, const void *beta,                             \
       geeps_cudnn_tensor x_layout, const void *x, geeps_cudnn_tensor y_layout, void *y,              \
       geeps_cudnn_tensor parameter_layout, const void *scale, const void *bias,                      \
       double average_factor, void *running_mean, void *running_variance, double epsilon,             \
       void *saved_mean, void *saved_inverse_deviation))                                              \
    F(int, cudnnBatchNormalizationForwardInference,                                                   \
      (geeps_cudnn handle, int mode, const void *alpha, const void *beta,                             \
       geeps_cudnn_tensor x_layout, const void *x, geeps_cudnn_tensor y_layout, void *y,              \
       geeps_cudnn_tensor parameter_layout, const void *scale, const void *bias, const void *mean,    \
       const void *variance, double epsilon))                                                         \
    F(int, cudnnBatchNormalizationBackward,                                                           \
      (geeps_cudnn handle, int mode, const void *alpha_data, const void *beta_data,                   \
       const void *alpha_parameters, const void *beta_parameters, geeps_cudnn_tensor x_layout,        \
       const void *x, geeps_cudnn_tensor dy_layout, const void *dy, geeps_cudnn_tensor dx_layout,     \
       void *dx, geeps_cudnn_tensor parameter_layout, const void *scale, void *scale_gradient,        \
       void *bias_gradient, double epsilon, const void *saved_mean,                                   \
       const void *saved_inverse_deviation))

// ---- Tables

#define GEEPS_CUDA_MEMBER(result, name, parameters) result(*name) parameters;

/// Functions of libcuda.so.1.
typedef struct geeps_cuda_driver {
    GEEPS_CUDA_DRIVER(GEEPS_CUDA_MEMBER)
} geeps_cuda_driver;
/// Functions of libnvrtc.so.
typedef struct geeps_cuda_nvrtc {
    GEEPS_CUDA_NVRTC(GEEPS_CUDA_MEMBER)
} geeps_cuda_nvrtc;
/// Functions of libcublas.so.
typedef struct geeps_cuda_cublas {
    GEEPS_CUDA_CUBLAS(GEEPS_CUDA_MEMBER)
} geeps_cuda_cublas;
/// Functions of libcudnn.so.
typedef struct geeps_cuda_cudnn {
    GEEPS_CUDA_CUDNN(GEEPS_CUDA_MEMBER)
} geeps_cuda_cudnn;

/// Fills a table from a library that `dlopen` opened.
///
/// Returns null, or the name of the first symbol that the library lacks.
const char *geeps_cuda_driver_load(geeps_cuda_driver *table, void *library);
const char *geeps_cuda_nvrtc_load(geeps_cuda_nvrtc *table, void *library);
const char *geeps_cuda_cublas_load(geeps_cuda_cublas *table, void *library);
const char *geeps_cuda_cudnn_load(geeps_cuda_cudnn *table, void *library);

// ---- Values

enum {
    // CUresult
    GEEPS_CU_SUCCESS = 0,
    GEEPS_CU_INVALID_VALUE = 1,
    GEEPS_CU_OUT_OF_MEMORY = 2,
    GEEPS_CU_NOT_INITIALIZED = 3,
    GEEPS_CU_NO_DEVICE = 100,
    GEEPS_CU_INVALID_DEVICE = 101,
    GEEPS_CU_INVALID_IMAGE = 200,
    GEEPS_CU_INVALID_CONTEXT = 201,
    GEEPS_CU_INVALID_HANDLE = 400,
    GEEPS_CU_NOT_FOUND = 500,
    GEEPS_CU_NOT_READY = 600,
    GEEPS_CU_ILLEGAL_ADDRESS = 700,
    GEEPS_CU_LAUNCH_FAILED = 719,
    GEEPS_CU_SYSTEM_DRIVER_MISMATCH = 803,
    GEEPS_CU_UNKNOWN = 999,

    // Flags
    GEEPS_CU_STREAM_NON_BLOCKING = 1,
    GEEPS_CU_EVENT_BLOCKING_SYNC = 1,
    GEEPS_CU_EVENT_DISABLE_TIMING = 2,
    GEEPS_CU_HOST_ALLOC_PORTABLE = 1,

    // CUdevice_attribute
    GEEPS_CU_MULTIPROCESSOR_COUNT = 16,
    GEEPS_CU_PCI_BUS_ID = 33,
    GEEPS_CU_ASYNC_ENGINE_COUNT = 40,
    GEEPS_CU_COMPUTE_CAPABILITY_MAJOR = 75,
    GEEPS_CU_COMPUTE_CAPABILITY_MINOR = 76,

    // cublasOperation_t, cudaDataType, cublasComputeType_t, cublasMath_t, cublasGemmAlgo_t
    GEEPS_CUBLAS_PLAIN = 0,
    GEEPS_CUBLAS_TRANSPOSED = 1,
    GEEPS_CUBLAS_FLOAT32 = 0,
    GEEPS_CUBLAS_BFLOAT16 = 14,
    GEEPS_CUBLAS_COMPUTE_FLOAT32 = 68,
    GEEPS_CUBLAS_COMPUTE_FAST_BFLOAT16 = 75,
    GEEPS_CUBLAS_COMPUTE_FAST_TF32 = 77,
    GEEPS_CUBLAS_DEFAULT_MATH = 0,
    GEEPS_CUBLAS_DEFAULT_ALGORITHM = -1,

    // cudnnTensorFormat_t, cudnnDataType_t, cudnnMathType_t, cudnnConvolutionMode_t, cudnnNanPropagation_t
    GEEPS_CUDNN_NCHW = 0,
    GEEPS_CUDNN_NHWC = 1,
    GEEPS_CUDNN_FLOAT32 = 0,
    GEEPS_CUDNN_BFLOAT16 = 9,
    GEEPS_CUDNN_DEFAULT_MATH = 0,
    GEEPS_CUDNN_TENSOR_OP_MATH = 1,
    GEEPS_CUDNN_FMA_MATH = 3,
    GEEPS_CUDNN_CROSS_CORRELATION = 1,
    GEEPS_CUDNN_PROPAGATE_NAN = 1,

    // cudnnPoolingMode_t, cudnnActivationMode_t, cudnnSoftmaxAlgorithm_t, cudnnSoftmaxMode_t
    GEEPS_CUDNN_POOLING_AVERAGE_WITH_PADDING = 1,
    GEEPS_CUDNN_POOLING_MAXIMUM_DETERMINISTIC = 3,
    GEEPS_CUDNN_SIGMOID = 0,
    GEEPS_CUDNN_RELU = 1,
    GEEPS_CUDNN_TANH = 2,
    GEEPS_CUDNN_SOFTMAX_ACCURATE = 1,
    GEEPS_CUDNN_SOFTMAX_LOG = 2,
    GEEPS_CUDNN_SOFTMAX_INSTANCE = 0,

    // cudnnLRNMode_t, cudnnBatchNormMode_t
    GEEPS_CUDNN_LRN_CROSS_CHANNEL = 0,
    GEEPS_CUDNN_BATCH_NORM_SPATIAL = 1,
};

#endif
