// Compares every function of geeps_tls.h, and every value, with OpenSSL's own headers: it compiles if they agree.

#include <type_traits>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

extern "C" {
#include "geeps_tls.h"
}

// What the calling convention sees of a type: a constant pointer is a pointer.
template <typename T> struct plain { using type = T; };
template <typename T> struct plain<T *> {
    using inner = typename plain<typename std::remove_cv<T>::type>::type;
    using type = inner *;
};
template <typename R, typename... A> struct plain<R(A...)> {
    using type = typename plain<R>::type(typename plain<typename std::remove_cv<A>::type>::type...);
};

#define SAME(result, name, parameters)                                                     \
    static_assert(                                                                         \
        std::is_same<plain<result parameters>::type, plain<decltype(name)>::type>::value,  \
        #name " differs from OpenSSL's header");
GEEPS_TLS_SSL(SAME)
GEEPS_TLS_CRYPTO(SAME)

#define EQUAL(ours, theirs) static_assert((uint64_t)(ours) == (uint64_t)(theirs), #ours);
EQUAL(GEEPS_TLS_VERSION_STRING, OPENSSL_VERSION)
EQUAL(GEEPS_TLS_VERSION_1_3, TLS1_3_VERSION)
EQUAL(GEEPS_TLS_CTRL_MODE, SSL_CTRL_MODE)
EQUAL(GEEPS_TLS_CTRL_SESSION_CACHE_MODE, SSL_CTRL_SET_SESS_CACHE_MODE)
EQUAL(GEEPS_TLS_CTRL_CHAIN_CERTIFICATE, SSL_CTRL_CHAIN_CERT)
EQUAL(GEEPS_TLS_CTRL_MINIMUM_VERSION, SSL_CTRL_SET_MIN_PROTO_VERSION)
EQUAL(GEEPS_TLS_CTRL_MAXIMUM_VERSION, SSL_CTRL_SET_MAX_PROTO_VERSION)
EQUAL(GEEPS_TLS_MODE_PARTIAL_WRITE, SSL_MODE_ENABLE_PARTIAL_WRITE)
EQUAL(GEEPS_TLS_MODE_MOVING_WRITE_BUFFER, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER)
EQUAL(GEEPS_TLS_MODE_NO_AUTOMATIC_CHAIN, SSL_MODE_NO_AUTO_CHAIN)
EQUAL(GEEPS_TLS_OPTION_NO_TICKET, SSL_OP_NO_TICKET)
EQUAL(GEEPS_TLS_OPTION_NO_RENEGOTIATION, SSL_OP_NO_RENEGOTIATION)
EQUAL(GEEPS_TLS_VERIFY_PEER, SSL_VERIFY_PEER)
EQUAL(GEEPS_TLS_VERIFY_FAIL_WITHOUT_CERTIFICATE, SSL_VERIFY_FAIL_IF_NO_PEER_CERT)
EQUAL(GEEPS_TLS_KEY_UPDATE_NOT_REQUESTED, SSL_KEY_UPDATE_NOT_REQUESTED)
EQUAL(GEEPS_TLS_ERROR_SSL, SSL_ERROR_SSL)
EQUAL(GEEPS_TLS_ERROR_WANT_READ, SSL_ERROR_WANT_READ)
EQUAL(GEEPS_TLS_ERROR_WANT_WRITE, SSL_ERROR_WANT_WRITE)
EQUAL(GEEPS_TLS_ERROR_ZERO_RETURN, SSL_ERROR_ZERO_RETURN)
EQUAL(GEEPS_TLS_REASON_MASK, ERR_REASON_MASK)
EQUAL(GEEPS_TLS_REASON_VERIFY_FAILED, SSL_R_CERTIFICATE_VERIFY_FAILED)
EQUAL(GEEPS_TLS_REASON_BAD_RECORD_CODE, SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC)
EQUAL(GEEPS_TLS_REASON_ALERT, SSL_AD_REASON_OFFSET)
EQUAL(GEEPS_TLS_VERIFY_OK, X509_V_OK)
EQUAL(GEEPS_TLS_VERIFY_NOT_YET_VALID, X509_V_ERR_CERT_NOT_YET_VALID)
EQUAL(GEEPS_TLS_VERIFY_EXPIRED, X509_V_ERR_CERT_HAS_EXPIRED)
EQUAL(GEEPS_TLS_VERIFY_PURPOSE, X509_V_ERR_INVALID_PURPOSE)
EQUAL(GEEPS_TLS_TEXT_UTF8, MBSTRING_UTF8)
EQUAL(GEEPS_TLS_EXTENSION_KEY_USAGE, NID_key_usage)
EQUAL(GEEPS_TLS_EXTENSION_BASIC_CONSTRAINTS, NID_basic_constraints)
EQUAL(GEEPS_TLS_EXTENSION_EXTENDED_KEY_USAGE, NID_ext_key_usage)
EQUAL(GEEPS_TLS_KEY_EC, EVP_PKEY_EC)
EQUAL(GEEPS_TLS_CURVE_P256, NID_X9_62_prime256v1)
EQUAL(GEEPS_TLS_NAME_FORMAT, XN_FLAG_RFC2253 & ~XN_FLAG_DN_REV)

int main() {}
