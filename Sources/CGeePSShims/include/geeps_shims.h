#ifndef GEEPS_SHIMS_H
#define GEEPS_SHIMS_H

// What Glibc declares in ways Swift cannot import: variadic calls, macros, opaque atomics.

#include <stdint.h>
#include <stddef.h>

#include "shims_transport.h"

/// Names the calling thread as /proc and debuggers show it; at most 15 bytes are kept.
void geeps_thread_set_name(const char *name);

#endif
