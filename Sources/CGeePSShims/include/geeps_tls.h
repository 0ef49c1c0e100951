#ifndef GEEPS_TLS_H
#define GEEPS_TLS_H

// What GeePS calls of OpenSSL 3: libssl and libcrypto, as tables of functions that are filled at run time.
// Nothing of OpenSSL's is needed to build.
//
// Conventions
// - A table's members have the names of the symbols they are loaded from.
// - Types are OpenSSL's own tags, never complete here; what OpenSSL offers as a macro is called as the function
//   behind it, with the values below. `make check-tls-headers` compares all with OpenSSL's own headers.

#include <stddef.h>
#include <stdint.h>

// Tags of OpenSSL's.
struct ssl_st;
struct ssl_ctx_st;
struct ssl_method_st;
struct bio_st;
struct bio_method_st;
struct x509_st;
struct X509_name_st;
struct X509_extension_st;
struct x509_store_st;
struct x509_store_ctx_st;
struct evp_pkey_st;
struct evp_pkey_ctx_st;
struct evp_md_st;
struct engine_st;
struct evp_cipher_st;
struct asn1_string_st;
struct ssl_cipher_st;
struct stack_st;
struct stack_st_X509;
struct lhash_st_CONF_VALUE;
struct v3_ext_ctx;
struct ossl_init_settings_st;

typedef int (*geeps_tls_verify_callback)(int, struct x509_store_ctx_st *);
typedef int (*geeps_tls_password_callback)(char *, int, int, void *);

// ---- libssl.so.3

#define GEEPS_TLS_SSL(F)                                                                                \
    F(int, OPENSSL_init_ssl, (uint64_t options, const struct ossl_init_settings_st *settings))          \
    F(const struct ssl_method_st *, TLS_method, (void))                                                 \
    F(struct ssl_ctx_st *, SSL_CTX_new, (const struct ssl_method_st *method))                           \
    F(void, SSL_CTX_free, (struct ssl_ctx_st *context))                                                 \
    F(long, SSL_CTX_ctrl, (struct ssl_ctx_st *context, int command, long number, void *pointer))        \
    F(uint64_t, SSL_CTX_set_options, (struct ssl_ctx_st *context, uint64_t options))                    \
    F(int, SSL_CTX_set_num_tickets, (struct ssl_ctx_st *context, size_t count))                         \
    F(int, SSL_CTX_set_ciphersuites, (struct ssl_ctx_st *context, const char *names))                   \
    F(void, SSL_CTX_set_verify,                                                                         \
      (struct ssl_ctx_st *context, int mode, geeps_tls_verify_callback callback))                       \
    F(int, SSL_CTX_use_certificate, (struct ssl_ctx_st *context, struct x509_st *certificate))          \
    F(int, SSL_CTX_use_PrivateKey, (struct ssl_ctx_st *context, struct evp_pkey_st *key))               \
    F(struct x509_store_st *, SSL_CTX_get_cert_store, (const struct ssl_ctx_st *context))               \
    F(struct ssl_st *, SSL_new, (struct ssl_ctx_st *context))                                           \
    F(void, SSL_free, (struct ssl_st *session))                                                         \
    F(void, SSL_set_bio, (struct ssl_st *session, struct bio_st *input, struct bio_st *output))         \
    F(void, SSL_set_connect_state, (struct ssl_st *session))                                            \
    F(void, SSL_set_accept_state, (struct ssl_st *session))                                             \
    F(int, SSL_do_handshake, (struct ssl_st *session))                                                  \
    F(int, SSL_get_error, (const struct ssl_st *session, int result))                                   \
    F(int, SSL_read_ex, (struct ssl_st *session, void *target, size_t bytes, size_t *count))            \
    F(int, SSL_write_ex, (struct ssl_st *session, const void *source, size_t bytes, size_t *count))     \
    F(int, SSL_key_update, (struct ssl_st *session, int kind))                                          \
    F(long, SSL_get_verify_result, (const struct ssl_st *session))                                      \
    F(struct x509_st *, SSL_get1_peer_certificate, (const struct ssl_st *session))                      \
    F(const struct ssl_cipher_st *, SSL_get_current_cipher, (const struct ssl_st *session))             \
    F(const char *, SSL_CIPHER_get_name, (const struct ssl_cipher_st *cipher))                          \
    F(const char *, SSL_alert_desc_string_long, (int alert))                                            \
    F(int, SSL_export_keying_material,                                                                  \
      (struct ssl_st *session, unsigned char *target, size_t bytes, const char *label,                  \
       size_t label_bytes, const unsigned char *about, size_t about_bytes, int has_about))

// ---- libcrypto.so.3

#define GEEPS_TLS_CRYPTO(F)                                                                             \
    F(const char *, OpenSSL_version, (int kind))                                                        \
    F(void, ERR_clear_error, (void))                                                                    \
    F(unsigned long, ERR_peek_last_error, (void))                                                       \
    F(const char *, ERR_reason_error_string, (unsigned long error))                                     \
    F(struct bio_method_st *, BIO_meth_new, (int type, const char *name))                               \
    F(int, BIO_meth_set_write_ex,                                                                       \
      (struct bio_method_st *method, int (*write)(struct bio_st *, const char *, size_t, size_t *)))    \
    F(int, BIO_meth_set_read_ex,                                                                        \
      (struct bio_method_st *method, int (*read)(struct bio_st *, char *, size_t, size_t *)))           \
    F(int, BIO_meth_set_ctrl,                                                                           \
      (struct bio_method_st *method, long (*ctrl)(struct bio_st *, int, long, void *)))                 \
    F(struct bio_st *, BIO_new, (const struct bio_method_st *method))                                   \
    F(int, BIO_free, (struct bio_st *bio))                                                              \
    F(void, BIO_set_data, (struct bio_st *bio, void *data))                                             \
    F(void *, BIO_get_data, (struct bio_st *bio))                                                       \
    F(void, BIO_set_init, (struct bio_st *bio, int ready))                                              \
    F(void, BIO_set_flags, (struct bio_st *bio, int flags))                                             \
    F(void, BIO_clear_flags, (struct bio_st *bio, int flags))                                           \
    F(const struct bio_method_st *, BIO_s_mem, (void))                                                  \
    F(struct bio_st *, BIO_new_mem_buf, (const void *source, int bytes))                                \
    F(int, BIO_read, (struct bio_st *bio, void *target, int bytes))                                     \
    F(size_t, BIO_ctrl_pending, (struct bio_st *bio))                                                   \
    F(struct x509_st *, PEM_read_bio_X509,                                                              \
      (struct bio_st *bio, struct x509_st **reused, geeps_tls_password_callback password, void *user))  \
    F(struct evp_pkey_st *, PEM_read_bio_PrivateKey,                                                    \
      (struct bio_st *bio, struct evp_pkey_st **reused, geeps_tls_password_callback password,           \
       void *user))                                                                                     \
    F(int, PEM_write_bio_X509, (struct bio_st *bio, const struct x509_st *certificate))                 \
    F(int, PEM_write_bio_PrivateKey,                                                                    \
      (struct bio_st *bio, const struct evp_pkey_st *key, const struct evp_cipher_st *cipher,           \
       const unsigned char *password, int bytes, geeps_tls_password_callback callback, void *user))     \
    F(struct x509_st *, X509_new, (void))                                                               \
    F(void, X509_free, (struct x509_st *certificate))                                                   \
    F(int, X509_set_version, (struct x509_st *certificate, long version))                               \
    F(struct asn1_string_st *, X509_get_serialNumber, (struct x509_st *certificate))                    \
    F(int, ASN1_INTEGER_set_uint64, (struct asn1_string_st *target, uint64_t value))                    \
    F(const struct asn1_string_st *, X509_get0_notBefore, (const struct x509_st *certificate))          \
    F(const struct asn1_string_st *, X509_get0_notAfter, (const struct x509_st *certificate))           \
    F(struct asn1_string_st *, X509_getm_notBefore, (const struct x509_st *certificate))                \
    F(struct asn1_string_st *, X509_getm_notAfter, (const struct x509_st *certificate))                 \
    F(struct asn1_string_st *, X509_gmtime_adj, (struct asn1_string_st *target, long seconds))          \
    F(int, X509_cmp_current_time, (const struct asn1_string_st *time))                                  \
    F(int, ASN1_TIME_print, (struct bio_st *bio, const struct asn1_string_st *time))                    \
    F(int, X509_set_pubkey, (struct x509_st *certificate, struct evp_pkey_st *key))                     \
    F(struct X509_name_st *, X509_get_subject_name, (const struct x509_st *certificate))                \
    F(int, X509_set_issuer_name, (struct x509_st *certificate, const struct X509_name_st *name))        \
    F(int, X509_NAME_add_entry_by_txt,                                                                  \
      (struct X509_name_st *name, const char *field, int type, const unsigned char *bytes, int count,   \
       int location, int set))                                                                          \
    F(int, X509_NAME_print_ex,                                                                          \
      (struct bio_st *bio, const struct X509_name_st *name, int indent, unsigned long flags))           \
    F(struct X509_extension_st *, X509V3_EXT_conf_nid,                                                  \
      (struct lhash_st_CONF_VALUE *configuration, struct v3_ext_ctx *context, int kind,                 \
       const char *value))                                \
    F(void, X509_EXTENSION_free, (struct X509_extension_st *extension))                                 \
    F(int, X509_add_ext,                                                                                \
      (struct x509_st *certificate, struct X509_extension_st *extension, int location))                 \
    F(int, X509_sign,                                                                                   \
      (struct x509_st *certificate, struct evp_pkey_st *key, const struct evp_md_st *digest))           \
    F(const struct evp_md_st *, EVP_sha256, (void))                                                     \
    F(int, X509_check_private_key, (const struct x509_st *certificate, const struct evp_pkey_st *key))  \
    F(const char *, X509_verify_cert_error_string, (long error))                                        \
    F(int, X509_STORE_add_cert, (struct x509_store_st *store, struct x509_st *certificate))             \
    F(struct x509_store_ctx_st *, X509_STORE_CTX_new, (void))                                           \
    F(void, X509_STORE_CTX_free, (struct x509_store_ctx_st *context))                                   \
    F(int, X509_STORE_CTX_init,                                                                         \
      (struct x509_store_ctx_st *context, struct x509_store_st *store, struct x509_st *certificate,     \
       struct stack_st_X509 *chain))                                                                    \
    F(int, X509_verify_cert, (struct x509_store_ctx_st *context))                                       \
    F(int, X509_STORE_CTX_get_error, (const struct x509_store_ctx_st *context))                         \
    F(struct x509_st *, X509_STORE_CTX_get_current_cert, (const struct x509_store_ctx_st *context))     \
    F(int, X509_up_ref, (struct x509_st *certificate))                                                  \
    F(struct stack_st *, OPENSSL_sk_new_null, (void))                                                   \
    F(int, OPENSSL_sk_push, (struct stack_st *stack, const void *item))                                 \
    F(void, OPENSSL_sk_free, (struct stack_st *stack))                                                  \
    F(struct evp_pkey_ctx_st *, EVP_PKEY_CTX_new_id, (int kind, struct engine_st *engine))              \
    F(void, EVP_PKEY_CTX_free, (struct evp_pkey_ctx_st *context))                                       \
    F(int, EVP_PKEY_keygen_init, (struct evp_pkey_ctx_st *context))                                     \
    F(int, EVP_PKEY_CTX_set_ec_paramgen_curve_nid, (struct evp_pkey_ctx_st *context, int curve))        \
    F(int, EVP_PKEY_keygen, (struct evp_pkey_ctx_st *context, struct evp_pkey_st **key))                \
    F(void, EVP_PKEY_free, (struct evp_pkey_st *key))

// ---- Tables

#define GEEPS_TLS_MEMBER(result, name, parameters) result(*name) parameters;

/// Functions of libssl and libcrypto, and the kind of BIO that lends OpenSSL our own buffers.
typedef struct geeps_tls {
    GEEPS_TLS_SSL(GEEPS_TLS_MEMBER)
    GEEPS_TLS_CRYPTO(GEEPS_TLS_MEMBER)
    struct bio_method_st *method;
} geeps_tls;

/// Fills the table from libraries that `dlopen` opened, and starts OpenSSL so that it stays usable until the process
/// has ended: other threads may still be at work when `exit` is called.
///
/// Returns null, or the name of the first symbol that is missing or failed. Once a process.
const char *geeps_tls_load(geeps_tls *table, void *ssl, void *crypto);

// ---- Buffers

/// The bytes of one TLS stream between OpenSSL and a socket; nobody but its owner touches the socket.
///
/// OpenSSL takes `input[input_start ..< input_end]` and appends to `output[0 ..< output_end]`; when a buffer is
/// empty or full it says so and is called again.
typedef struct geeps_tls_buffers {
    uint8_t *input;
    size_t input_start;
    size_t input_end;
    uint8_t *output;
    size_t output_end;
    size_t output_capacity;
} geeps_tls_buffers;

/// Makes a BIO over `buffers`, which must outlive it. Null when there is no memory.
struct bio_st *geeps_tls_make_bio(geeps_tls_buffers *buffers);

/// For `SSL_CTX_set_verify`: decides as OpenSSL does, and keeps the certificate that did not pass.
int geeps_tls_verify(int passed, struct x509_store_ctx_st *context);

/// The last certificate that did not pass on this thread, which the caller frees; null when there was none since.
struct x509_st *geeps_tls_take_rejected(void);

/// Answers the question for a key's password with none: a job starts without a person.
int geeps_tls_no_password(char *target, int bytes, int is_writing, void *user);

// ---- Values

enum {
    GEEPS_TLS_VERSION_STRING = 0,
    GEEPS_TLS_VERSION_1_3 = 0x0304,
    GEEPS_TLS_CTRL_MODE = 33,
    GEEPS_TLS_CTRL_SESSION_CACHE_MODE = 44,
    GEEPS_TLS_CTRL_CHAIN_CERTIFICATE = 89,
    GEEPS_TLS_CTRL_MINIMUM_VERSION = 123,
    GEEPS_TLS_CTRL_MAXIMUM_VERSION = 124,
    GEEPS_TLS_MODE_PARTIAL_WRITE = 1,
    GEEPS_TLS_MODE_MOVING_WRITE_BUFFER = 2,
    GEEPS_TLS_MODE_NO_AUTOMATIC_CHAIN = 8,
    GEEPS_TLS_OPTION_NO_TICKET = 1 << 14,
    GEEPS_TLS_OPTION_NO_RENEGOTIATION = 1 << 30,
    GEEPS_TLS_VERIFY_PEER = 1,
    GEEPS_TLS_VERIFY_FAIL_WITHOUT_CERTIFICATE = 2,
    GEEPS_TLS_KEY_UPDATE_NOT_REQUESTED = 0,
    GEEPS_TLS_ERROR_SSL = 1,
    GEEPS_TLS_ERROR_WANT_READ = 2,
    GEEPS_TLS_ERROR_WANT_WRITE = 3,
    GEEPS_TLS_ERROR_ZERO_RETURN = 6,
    // Reasons of errors.
    GEEPS_TLS_REASON_MASK = 0x7fffff,
    GEEPS_TLS_REASON_VERIFY_FAILED = 134,
    GEEPS_TLS_REASON_BAD_RECORD_CODE = 281,
    /// Added to the number of an alert that the peer sent.
    GEEPS_TLS_REASON_ALERT = 1000,
    GEEPS_TLS_VERIFY_OK = 0,
    GEEPS_TLS_VERIFY_NOT_YET_VALID = 9,
    GEEPS_TLS_VERIFY_EXPIRED = 10,
    GEEPS_TLS_VERIFY_PURPOSE = 26,
    // Making certificates.
    GEEPS_TLS_TEXT_UTF8 = 0x1000,
    GEEPS_TLS_EXTENSION_KEY_USAGE = 83,
    GEEPS_TLS_EXTENSION_BASIC_CONSTRAINTS = 87,
    GEEPS_TLS_EXTENSION_EXTENDED_KEY_USAGE = 126,
    GEEPS_TLS_KEY_EC = 408,
    GEEPS_TLS_CURVE_P256 = 415,
    /// Names as "CN=node,O=lab", with control characters escaped.
    GEEPS_TLS_NAME_FORMAT = 0x1010317,
};

#endif
