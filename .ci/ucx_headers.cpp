// Compares every function, structure and value of geeps_ucx.h with UCX's own headers: it compiles if they agree.

#include <cstdarg>
#include <cstddef>
#include <type_traits>

#include <ucp/api/ucp.h>
#include <ucs/config/types.h>
#include <ucs/debug/log_def.h>

extern "C" {
#include "geeps_ucx.h"
}

// What the calling convention sees of a type: a constant pointer is a pointer, an enumeration its integer, and our
// structures stand for UCX's, whose fields are compared below.
template <typename T, bool = std::is_enum<T>::value> struct integer { using type = T; };
template <typename T> struct integer<T, true> { using type = typename std::underlying_type<T>::type; };
template <typename T> struct plain { using type = typename integer<T>::type; };
template <typename T> struct plain<T *> {
    using inner = typename plain<typename std::remove_cv<T>::type>::type;
    using type = inner *;
};
template <typename R, typename... A> struct plain<R(A...)> {
    using type = typename plain<R>::type(typename plain<typename std::remove_cv<A>::type>::type...);
};
template <> struct plain<geeps_ucx_params> { using type = ucp_params_t; };
template <> struct plain<geeps_ucx_worker_params> { using type = ucp_worker_params_t; };
template <> struct plain<geeps_ucx_endpoint_params> { using type = ucp_ep_params_t; };
template <> struct plain<geeps_ucx_message_params> { using type = ucp_am_recv_param_t; };
template <> struct plain<geeps_ucx_handler_params> { using type = ucp_am_handler_param_t; };
template <> struct plain<geeps_ucx_request_params> { using type = ucp_request_param_t; };
template <> struct plain<geeps_ucx_context_attributes> { using type = ucp_context_attr_t; };

#define ALIKE(ours, theirs, what) \
    static_assert(std::is_same<plain<ours>::type, plain<theirs>::type>::value, what " differs from UCX's header");
#define SAME(result, name, parameters) ALIKE(result parameters, decltype(name), #name)
GEEPS_UCX_FUNCTIONS(SAME)
ALIKE(geeps_ucx_status, ucs_status_t, "status")
ALIKE(geeps_ucx_error_callback, ucp_err_handler_cb_t, "error callback")
ALIKE(geeps_ucx_message_callback, ucp_am_recv_callback_t, "message callback")

#define FIELD(ours, theirs, field)                                                                     \
    static_assert(offsetof(ours, field) == offsetof(theirs, field), #ours "." #field " is elsewhere"); \
    static_assert(sizeof(ours::field) == sizeof(theirs::field), #ours "." #field " has another size");
FIELD(geeps_ucx_params, ucp_params_t, field_mask)
FIELD(geeps_ucx_params, ucp_params_t, features)
FIELD(geeps_ucx_params, ucp_params_t, request_size)
FIELD(geeps_ucx_params, ucp_params_t, request_init)
FIELD(geeps_ucx_params, ucp_params_t, request_cleanup)
FIELD(geeps_ucx_params, ucp_params_t, tag_sender_mask)
FIELD(geeps_ucx_params, ucp_params_t, mt_workers_shared)
FIELD(geeps_ucx_worker_params, ucp_worker_params_t, field_mask)
FIELD(geeps_ucx_worker_params, ucp_worker_params_t, thread_mode)
FIELD(geeps_ucx_endpoint_params, ucp_ep_params_t, field_mask)
FIELD(geeps_ucx_endpoint_params, ucp_ep_params_t, address)
FIELD(geeps_ucx_endpoint_params, ucp_ep_params_t, err_mode)
FIELD(geeps_ucx_endpoint_params, ucp_ep_params_t, err_handler)
FIELD(geeps_ucx_endpoint_params, ucp_ep_params_t, err_handler.cb)
FIELD(geeps_ucx_endpoint_params, ucp_ep_params_t, err_handler.arg)
FIELD(geeps_ucx_message_params, ucp_am_recv_param_t, recv_attr)
FIELD(geeps_ucx_message_params, ucp_am_recv_param_t, reply_ep)
FIELD(geeps_ucx_handler_params, ucp_am_handler_param_t, field_mask)
FIELD(geeps_ucx_handler_params, ucp_am_handler_param_t, id)
FIELD(geeps_ucx_handler_params, ucp_am_handler_param_t, flags)
FIELD(geeps_ucx_handler_params, ucp_am_handler_param_t, cb)
FIELD(geeps_ucx_handler_params, ucp_am_handler_param_t, arg)
FIELD(geeps_ucx_request_params, ucp_request_param_t, op_attr_mask)
FIELD(geeps_ucx_request_params, ucp_request_param_t, flags)
FIELD(geeps_ucx_request_params, ucp_request_param_t, request)
FIELD(geeps_ucx_request_params, ucp_request_param_t, cb)
FIELD(geeps_ucx_request_params, ucp_request_param_t, datatype)
FIELD(geeps_ucx_request_params, ucp_request_param_t, user_data)
FIELD(geeps_ucx_request_params, ucp_request_param_t, reply_buffer)
FIELD(geeps_ucx_request_params, ucp_request_param_t, memory_type)
FIELD(geeps_ucx_request_params, ucp_request_param_t, recv_info)
FIELD(geeps_ucx_request_params, ucp_request_param_t, memh)
FIELD(geeps_ucx_context_attributes, ucp_context_attr_t, field_mask)
FIELD(geeps_ucx_context_attributes, ucp_context_attr_t, request_size)
FIELD(geeps_ucx_context_attributes, ucp_context_attr_t, thread_mode)

#define EQUAL(ours, theirs) static_assert((int64_t)(ours) == (int64_t)(theirs), #ours);
EQUAL(GEEPS_UCX_OK, UCS_OK)
EQUAL(GEEPS_UCX_IN_PROGRESS, UCS_INPROGRESS)
EQUAL(GEEPS_UCX_UNREACHABLE, UCS_ERR_UNREACHABLE)
EQUAL(GEEPS_UCX_BUSY, UCS_ERR_BUSY)
EQUAL(GEEPS_UCX_CANCELED, UCS_ERR_CANCELED)
EQUAL(GEEPS_UCX_LAST_FAILURE, UCS_ERR_LAST)
EQUAL(GEEPS_UCX_PARAM_FEATURES, UCP_PARAM_FIELD_FEATURES)
EQUAL(GEEPS_UCX_PARAM_WORKERS_SHARED, UCP_PARAM_FIELD_MT_WORKERS_SHARED)
EQUAL(GEEPS_UCX_FEATURE_WAKEUP, UCP_FEATURE_WAKEUP)
EQUAL(GEEPS_UCX_FEATURE_MESSAGES, UCP_FEATURE_AM)
EQUAL(GEEPS_UCX_CONTEXT_THREAD_MODE, UCP_ATTR_FIELD_THREAD_MODE)
EQUAL(GEEPS_UCX_WORKER_THREAD_MODE, UCP_WORKER_PARAM_FIELD_THREAD_MODE)
EQUAL(GEEPS_UCX_THREADS_SERIALIZED, UCS_THREAD_MODE_SERIALIZED)
EQUAL(GEEPS_UCX_THREADS_MULTI, UCS_THREAD_MODE_MULTI)
EQUAL(GEEPS_UCX_ENDPOINT_ADDRESS, UCP_EP_PARAM_FIELD_REMOTE_ADDRESS)
EQUAL(GEEPS_UCX_ENDPOINT_ERROR_MODE, UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE)
EQUAL(GEEPS_UCX_ENDPOINT_ERROR_HANDLER, UCP_EP_PARAM_FIELD_ERR_HANDLER)
EQUAL(GEEPS_UCX_ERRORS_UNSEEN, UCP_ERR_HANDLING_MODE_NONE)
EQUAL(GEEPS_UCX_ERRORS_OF_PEER, UCP_ERR_HANDLING_MODE_PEER)
EQUAL(GEEPS_UCX_CLOSE_FORCE, UCP_EP_CLOSE_FLAG_FORCE)
EQUAL(GEEPS_UCX_HANDLER_ID, UCP_AM_HANDLER_PARAM_FIELD_ID)
EQUAL(GEEPS_UCX_HANDLER_CALLBACK, UCP_AM_HANDLER_PARAM_FIELD_CB)
EQUAL(GEEPS_UCX_HANDLER_ARGUMENT, UCP_AM_HANDLER_PARAM_FIELD_ARG)
EQUAL(GEEPS_UCX_OPERATION_FLAGS, UCP_OP_ATTR_FIELD_FLAGS)
EQUAL(GEEPS_UCX_OPERATION_MEMORY, UCP_OP_ATTR_FIELD_MEMORY_TYPE)
EQUAL(GEEPS_UCX_MEMORY_HOST, UCS_MEMORY_TYPE_HOST)
EQUAL(GEEPS_UCX_SEND_EAGER, UCP_AM_SEND_FLAG_EAGER)
EQUAL(GEEPS_UCX_SEND_RENDEZVOUS, UCP_AM_SEND_FLAG_RNDV)
EQUAL(GEEPS_UCX_RECEIVED_RENDEZVOUS, UCP_AM_RECV_ATTR_FLAG_RNDV)
EQUAL(GEEPS_UCX_LOG_WARNING, UCS_LOG_LEVEL_WARN)
EQUAL(GEEPS_UCX_LOG_STOP, UCS_LOG_FUNC_RC_STOP)
EQUAL(GEEPS_UCX_LOG_CONTINUE, UCS_LOG_FUNC_RC_CONTINUE)
