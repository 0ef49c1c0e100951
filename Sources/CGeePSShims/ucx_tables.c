// Fills the table of geeps_ucx.h, and takes what UCX logs.

#include "geeps_ucx.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*log_handler)(const char *, unsigned, const char *, unsigned, const void *, const char *, va_list);

static _Thread_local char complaint[256];

// UCX logs to standard output, where a program's results go; and what it logs says more than its status.
static int take_log(const char *file, unsigned line, const char *function, unsigned level, const void *component,
                    const char *message, va_list arguments) {
    (void)file;
    (void)line;
    (void)function;
    (void)component;
    if (level <= GEEPS_UCX_LOG_WARNING) vsnprintf(complaint, sizeof complaint, message, arguments);
    return GEEPS_UCX_LOG_STOP;
}

size_t geeps_ucx_take_complaint(char *target, size_t bytes) {
    size_t length = strnlen(complaint, sizeof complaint);
    if (length > bytes) length = bytes;
    memcpy(target, complaint, length);
    complaint[0] = 0;
    return length;
}

// A pointer to a function and a pointer to data have the same form wherever there is dlsym.
#define GEEPS_UCX_FILL(result, name, parameters)       \
    *(void **)&table->name = dlsym(library, #name);    \
    if (table->name == NULL) return #name;

const char *geeps_ucx_load(geeps_ucx *table, void *library) {
    GEEPS_UCX_FUNCTIONS(GEEPS_UCX_FILL)
    // Not of UCX's documented interface: where they are missing, UCX behaves as it does everywhere.
    void (*disable_signals)(void);
    void (*push_handler)(log_handler);
    *(void **)&disable_signals = dlsym(library, "ucs_debug_disable_signals");
    *(void **)&push_handler = dlsym(library, "ucs_log_push_handler");
    if (disable_signals != NULL && getenv("UCX_HANDLE_ERRORS") == NULL) disable_signals();
    if (push_handler != NULL && getenv("UCX_LOG_LEVEL") == NULL) push_handler(take_log);
    return NULL;
}
