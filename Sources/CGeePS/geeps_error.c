#include "geeps_error.h"
#include "geeps.h"

#include <string.h>

// A thread of its own each: Swift has no thread-local variables.
static _Thread_local char last_error[4096];

void geeps_keep_error(const char *message) {
    size_t length = strnlen(message, sizeof last_error - 1);
    // Not in the middle of a character: continuation bytes are 10xxxxxx.
    while (length == sizeof last_error - 1 && length > 0 && (message[length] & 0xC0) == 0x80) length--;
    memcpy(last_error, message, length);
    last_error[length] = 0;
}

const char *geeps_last_error(void) { return last_error; }
