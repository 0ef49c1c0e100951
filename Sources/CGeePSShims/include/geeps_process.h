#ifndef GEEPS_PROCESS_H
#define GEEPS_PROCESS_H

// Processes, signals and terminals, as the command line needs them.

#include <stdint.h>
#include <sys/types.h>

/// The environment of this process: "NAME=value" strings, the last is null.
char *const *geeps_environment(void);

/// Starts `path` in a process group of its own that is killed when this process dies.
///
/// The descriptors become its standard input, output and error; all others that are not marked
/// close-on-exec are inherited. The signal mask is cleared.
///
/// Returns 0 and sets `child`, or the errno of what failed, exec included.
int geeps_spawn(const char *path, char *const argv[], char *const envp[], int input, int output,
                int error, pid_t *child);

/// Reaps `child` if it has ended, without waiting.
///
/// Returns 1 and sets `code` (exit status, or -1) and `signal` (that killed it, or 0); 0 while it
/// runs; -1 when there is no such child.
int geeps_reap(pid_t child, int *code, int *signal);

/// From now on each of the `count` signals is written as one byte to a pipe instead of ending the
/// process. Returns the end to read, which does not block, or -1.
int geeps_signal_pipe(const int *signals, int count);

/// Makes a pipe, closed on exec, whose end to read (the first) does not block. Returns 0, or -1 and errno.
int geeps_output_pipe(int ends[2]);

/// Columns of the terminal at `descriptor`, or 0 when it is none or does not say.
int geeps_terminal_columns(int descriptor);

/// Cores this process may run on, at least 1.
int geeps_available_cores(void);

#endif
