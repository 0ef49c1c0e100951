#ifndef GEEPS_UCX_H
#define GEEPS_UCX_H

// What GeePS calls of UCX (libucp and libucs), as a table of functions that is filled at run time.
// Nothing of UCX's is needed to build.
//
// Conventions
// - The table's members have the names of the symbols they are loaded from.
// - Handles are UCX's own tags, never complete here. Structures are ours, with the first fields of UCX's own and their
//   places; UCX reads no field that its mask does not name. `make check-ucx-headers` compares all with UCX's headers.

#include <stddef.h>
#include <stdint.h>

struct ucp_context;
struct ucp_config;
struct ucp_worker;
struct ucp_ep;
struct ucp_address;

/// `ucs_status_t`: 0 is success, 1 in progress, below 0 a failure.
typedef int8_t geeps_ucx_status;

// ---- Structures

/// `ucp_params_t`.
typedef struct geeps_ucx_params {
    uint64_t field_mask;
    uint64_t features;
    size_t request_size;
    void (*request_init)(void *);
    void (*request_cleanup)(void *);
    uint64_t tag_sender_mask;
    int mt_workers_shared;
} geeps_ucx_params;

/// `ucp_worker_params_t`.
typedef struct geeps_ucx_worker_params {
    uint64_t field_mask;
    unsigned thread_mode;
} geeps_ucx_worker_params;

typedef void (*geeps_ucx_error_callback)(void *user, struct ucp_ep *endpoint, geeps_ucx_status status);

/// `ucp_ep_params_t`.
typedef struct geeps_ucx_endpoint_params {
    uint64_t field_mask;
    const struct ucp_address *address;
    unsigned err_mode;
    struct {
        geeps_ucx_error_callback cb;
        void *arg;
    } err_handler;
} geeps_ucx_endpoint_params;

/// `ucp_am_recv_param_t`.
typedef struct geeps_ucx_message_params {
    uint64_t recv_attr;
    struct ucp_ep *reply_ep;
} geeps_ucx_message_params;

typedef geeps_ucx_status (*geeps_ucx_message_callback)(
    void *user, const void *header, size_t header_length, void *data, size_t length,
    const geeps_ucx_message_params *params);

/// `ucp_am_handler_param_t`.
typedef struct geeps_ucx_handler_params {
    uint64_t field_mask;
    unsigned id;
    uint32_t flags;
    geeps_ucx_message_callback cb;
    void *arg;
} geeps_ucx_handler_params;

/// `ucp_request_param_t`.
typedef struct geeps_ucx_request_params {
    uint32_t op_attr_mask;
    uint32_t flags;
    void *request;
    void *cb;
    uint64_t datatype;
    void *user_data;
    void *reply_buffer;
    unsigned memory_type;
    void *recv_info;
    void *memh;
} geeps_ucx_request_params;

/// `ucp_context_attr_t`; UCX writes no field that the mask does not name.
typedef struct geeps_ucx_context_attributes {
    uint64_t field_mask;
    size_t request_size;
    unsigned thread_mode;
} geeps_ucx_context_attributes;

// ---- Functions

#define GEEPS_UCX_FUNCTIONS(F)                                                                                  \
    F(void, ucp_get_version, (unsigned *major, unsigned *minor, unsigned *release))                             \
    F(geeps_ucx_status, ucp_config_read,                                                                        \
      (const char *prefix, const char *file, struct ucp_config **config))                                       \
    F(geeps_ucx_status, ucp_config_modify, (struct ucp_config *config, const char *name, const char *value))    \
    F(void, ucp_config_release, (struct ucp_config *config))                                                    \
    F(geeps_ucx_status, ucp_init_version,                                                                       \
      (unsigned major, unsigned minor, const geeps_ucx_params *params, const struct ucp_config *config,         \
       struct ucp_context **context))                                                                           \
    F(geeps_ucx_status, ucp_context_query,                                                                      \
      (struct ucp_context *context, geeps_ucx_context_attributes *attributes))                                  \
    F(void, ucp_cleanup, (struct ucp_context *context))                                                         \
    F(geeps_ucx_status, ucp_worker_create,                                                                      \
      (struct ucp_context *context, const geeps_ucx_worker_params *params, struct ucp_worker **worker))         \
    F(void, ucp_worker_destroy, (struct ucp_worker *worker))                                                    \
    F(geeps_ucx_status, ucp_worker_get_address,                                                                 \
      (struct ucp_worker *worker, struct ucp_address **address, size_t *bytes))                                 \
    F(void, ucp_worker_release_address, (struct ucp_worker *worker, struct ucp_address *address))               \
    F(geeps_ucx_status, ucp_worker_get_efd, (struct ucp_worker *worker, int *descriptor))                       \
    F(geeps_ucx_status, ucp_worker_arm, (struct ucp_worker *worker))                                            \
    F(unsigned, ucp_worker_progress, (struct ucp_worker *worker))                                               \
    F(geeps_ucx_status, ucp_worker_set_am_recv_handler,                                                         \
      (struct ucp_worker *worker, const geeps_ucx_handler_params *params))                                      \
    F(geeps_ucx_status, ucp_ep_create,                                                                          \
      (struct ucp_worker *worker, const geeps_ucx_endpoint_params *params, struct ucp_ep **endpoint))           \
    F(void *, ucp_ep_close_nbx, (struct ucp_ep *endpoint, const geeps_ucx_request_params *params))              \
    F(void *, ucp_ep_flush_nbx, (struct ucp_ep *endpoint, const geeps_ucx_request_params *params))              \
    F(void *, ucp_am_send_nbx,                                                                                  \
      (struct ucp_ep *endpoint, unsigned id, const void *header, size_t header_length, const void *buffer,      \
       size_t count, const geeps_ucx_request_params *params))                                                   \
    F(void *, ucp_am_recv_data_nbx,                                                                             \
      (struct ucp_worker *worker, void *descriptor, void *buffer, size_t count,                                 \
       const geeps_ucx_request_params *params))                                                                 \
    F(void, ucp_am_data_release, (struct ucp_worker *worker, void *data))                                       \
    F(geeps_ucx_status, ucp_request_check_status, (void *request))                                              \
    F(void, ucp_request_free, (void *request))                                                                  \
    F(const char *, ucs_status_string, (geeps_ucx_status status))

#define GEEPS_UCX_MEMBER(result, name, parameters) result(*name) parameters;

/// Functions of libucp and libucs.
typedef struct geeps_ucx {
    GEEPS_UCX_FUNCTIONS(GEEPS_UCX_MEMBER)
} geeps_ucx;

/// Fills the table from libucp, opened by `dlopen`; has UCX give the process's signals back, and what it logs to
/// `geeps_ucx_take_complaint` in place of standard output, unless UCX_HANDLE_ERRORS and UCX_LOG_LEVEL say otherwise.
///
/// Returns null, or the name of the first symbol that is missing. Once a process.
const char *geeps_ucx_load(geeps_ucx *table, void *library);

/// Copies the last error or warning that UCX logged on this thread, and forgets it. Returns its length, 0 for none.
size_t geeps_ucx_take_complaint(char *target, size_t bytes);

// ---- Values

enum {
    GEEPS_UCX_OK = 0,
    GEEPS_UCX_IN_PROGRESS = 1,
    GEEPS_UCX_UNREACHABLE = -6,
    GEEPS_UCX_BUSY = -15,
    GEEPS_UCX_CANCELED = -16,
    /// Pointers from here to the end of memory are failures in place of a request.
    GEEPS_UCX_LAST_FAILURE = -100,
    GEEPS_UCX_PARAM_FEATURES = 1 << 0,
    GEEPS_UCX_PARAM_WORKERS_SHARED = 1 << 5,
    GEEPS_UCX_FEATURE_WAKEUP = 1 << 4,
    GEEPS_UCX_FEATURE_MESSAGES = 1 << 6,
    GEEPS_UCX_CONTEXT_THREAD_MODE = 1 << 1,
    GEEPS_UCX_WORKER_THREAD_MODE = 1 << 0,
    GEEPS_UCX_THREADS_SERIALIZED = 1,
    GEEPS_UCX_THREADS_MULTI = 2,
    GEEPS_UCX_ENDPOINT_ADDRESS = 1 << 0,
    GEEPS_UCX_ENDPOINT_ERROR_MODE = 1 << 1,
    GEEPS_UCX_ENDPOINT_ERROR_HANDLER = 1 << 2,
    GEEPS_UCX_ERRORS_UNSEEN = 0,
    GEEPS_UCX_ERRORS_OF_PEER = 1,
    GEEPS_UCX_CLOSE_FORCE = 1 << 0,
    GEEPS_UCX_HANDLER_ID = 1 << 0,
    GEEPS_UCX_HANDLER_CALLBACK = 1 << 2,
    GEEPS_UCX_HANDLER_ARGUMENT = 1 << 3,
    GEEPS_UCX_OPERATION_FLAGS = 1 << 4,
    GEEPS_UCX_OPERATION_MEMORY = 1 << 6,
    GEEPS_UCX_MEMORY_HOST = 0,
    GEEPS_UCX_SEND_EAGER = 1 << 1,
    GEEPS_UCX_SEND_RENDEZVOUS = 1 << 2,
    GEEPS_UCX_RECEIVED_RENDEZVOUS = 1 << 17,
    GEEPS_UCX_LOG_WARNING = 2,
    GEEPS_UCX_LOG_STOP = 0,
    GEEPS_UCX_LOG_CONTINUE = 1,
};

#endif
