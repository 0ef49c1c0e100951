// Fills the tables of geeps_tls.h, and lends OpenSSL buffers in place of a socket.

#include "geeps_tls.h"

#include "shims_transport.h"

#include <dlfcn.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

enum {
    NO_ATEXIT = 0x00080000,
    BIO_TYPE = 0x0400 | 0x7f,
    FLAG_READ = 1,
    FLAG_WRITE = 2,
    FLAG_SPECIAL = 4,
    FLAG_RETRY = 8,
    CTRL_FLUSH = 11,
};

// What the callbacks below need of the table; constant once `geeps_tls_load` has returned.
static geeps_tls functions;

static int buffers_write(struct bio_st *bio, const char *source, size_t bytes, size_t *count) {
    geeps_tls_buffers *buffers = functions.BIO_get_data(bio);
    functions.BIO_clear_flags(bio, FLAG_READ | FLAG_WRITE | FLAG_SPECIAL | FLAG_RETRY);
    size_t room = buffers->output_capacity - buffers->output_end;
    if (room == 0) {
        functions.BIO_set_flags(bio, FLAG_WRITE | FLAG_RETRY);
        return 0;
    }
    size_t taken = bytes < room ? bytes : room;
    memcpy(buffers->output + buffers->output_end, source, taken);
    buffers->output_end += taken;
    *count = taken;
    return 1;
}

static int buffers_read(struct bio_st *bio, char *target, size_t bytes, size_t *count) {
    geeps_tls_buffers *buffers = functions.BIO_get_data(bio);
    functions.BIO_clear_flags(bio, FLAG_READ | FLAG_WRITE | FLAG_SPECIAL | FLAG_RETRY);
    size_t there = buffers->input_end - buffers->input_start;
    if (there == 0) {
        functions.BIO_set_flags(bio, FLAG_READ | FLAG_RETRY);
        return 0;
    }
    size_t given = bytes < there ? bytes : there;
    memcpy(target, buffers->input + buffers->input_start, given);
    buffers->input_start += given;
    *count = given;
    return 1;
}

static long buffers_ctrl(struct bio_st *bio, int command, long number, void *pointer) {
    (void)bio;
    (void)number;
    (void)pointer;
    return command == CTRL_FLUSH;
}

// A pointer to a function and a pointer to data have the same form wherever there is dlsym.
#define GEEPS_TLS_FILL(result, name, parameters)       \
    *(void **)&table->name = dlsym(library, #name);    \
    if (table->name == NULL) return #name;

const char *geeps_tls_load(geeps_tls *table, void *ssl, void *crypto) {
    void *library = ssl;
    GEEPS_TLS_SSL(GEEPS_TLS_FILL)
    library = crypto;
    GEEPS_TLS_CRYPTO(GEEPS_TLS_FILL)
    if (table->OPENSSL_init_ssl(NO_ATEXIT, NULL) != 1) return "OPENSSL_init_ssl";
    table->method = table->BIO_meth_new(BIO_TYPE, "geeps buffers");
    if (table->method == NULL) return "BIO_meth_new";
    table->BIO_meth_set_write_ex(table->method, buffers_write);
    table->BIO_meth_set_read_ex(table->method, buffers_read);
    table->BIO_meth_set_ctrl(table->method, buffers_ctrl);
    functions = *table;
    return NULL;
}

struct bio_st *geeps_tls_make_bio(geeps_tls_buffers *buffers) {
    struct bio_st *bio = functions.BIO_new(functions.method);
    if (bio == NULL) return NULL;
    functions.BIO_set_data(bio, buffers);
    functions.BIO_set_init(bio, 1);
    return bio;
}

// Between the verification and its caller, both within one SSL_do_handshake.
static _Thread_local struct x509_st *rejected;

int geeps_tls_verify(int passed, struct x509_store_ctx_st *context) {
    if (passed) return 1;
    struct x509_st *certificate = functions.X509_STORE_CTX_get_current_cert(context);
    if (rejected != NULL) functions.X509_free(rejected);
    if (certificate != NULL) functions.X509_up_ref(certificate);
    rejected = certificate;
    return 0;
}

struct x509_st *geeps_tls_take_rejected(void) {
    struct x509_st *taken = rejected;
    rejected = NULL;
    return taken;
}

int geeps_tls_no_password(char *target, int bytes, int is_writing, void *user) {
    (void)target;
    (void)bytes;
    (void)is_writing;
    (void)user;
    return -1;
}

int geeps_has_aes(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_AES) != 0;
#elif defined(__aarch64__)
    return (getauxval(AT_HWCAP) & HWCAP_AES) != 0;
#else
    return 0;
#endif
}
