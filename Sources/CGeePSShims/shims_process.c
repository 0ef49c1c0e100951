#include "geeps_process.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

char *const *geeps_environment(void) { return environ; }

// Between fork and exec: only calls that are safe in a child of a threaded process.
static void become(const char *path, char *const argv[], char *const envp[], const int streams[3],
                   pid_t parent, int report) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    // A stream may sit where another one must go, so all are moved out of the way first.
    int moved[3];
    for (int i = 0; i < 3; i++) moved[i] = fcntl(streams[i], F_DUPFD_CLOEXEC, 3);
    for (int i = 0; i < 3; i++) {
        if (moved[i] < 0 || dup2(moved[i], i) < 0) goto failed;
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(path, argv, envp);
failed:;
    int reason = errno;
    ssize_t ignored = write(report, &reason, sizeof reason);
    (void)ignored;
    _exit(127);
}

int geeps_spawn(const char *path, char *const argv[], char *const envp[], int input, int output,
                int error, pid_t *child) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) return errno;
    int streams[3] = {input, output, error};
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0) {
        int reason = errno;
        close(report[0]);
        close(report[1]);
        return reason;
    }
    if (pid == 0) become(path, argv, envp, streams, parent, report[1]);
    close(report[1]);
    int reason = 0;
    ssize_t got;
    do {
        got = read(report[0], &reason, sizeof reason);
    } while (got < 0 && errno == EINTR);
    close(report[0]);
    if (got == (ssize_t)sizeof reason) {
        waitpid(pid, NULL, 0);
        return reason;
    }
    *child = pid;
    return 0;
}

int geeps_reap(pid_t child, int *code, int *signal) {
    int status = 0;
    pid_t ended;
    do {
        ended = waitpid(child, &status, WNOHANG);
    } while (ended < 0 && errno == EINTR);
    if (ended <= 0) return (int)ended;
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    *signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    return 1;
}

// Written once before the handlers are installed.
static int signal_pipe_write = -1;

static void write_signal(int signal) {
    int saved = errno;
    unsigned char byte = (unsigned char)signal;
    ssize_t ignored = write(signal_pipe_write, &byte, 1);
    (void)ignored;
    errno = saved;
}

int geeps_signal_pipe(const int *signals, int count) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return -1;
    signal_pipe_write = ends[1];
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = write_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigset_t watched;
    sigemptyset(&watched);
    for (int i = 0; i < count; i++) {
        if (sigaction(signals[i], &action, NULL) != 0) return -1;
        sigaddset(&watched, signals[i]);
    }
    // Whoever started this process may have left them blocked.
    if (pthread_sigmask(SIG_UNBLOCK, &watched, NULL) != 0) return -1;
    return ends[0];
}

int geeps_output_pipe(int ends[2]) {
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    return fcntl(ends[0], F_SETFL, O_NONBLOCK);
}

int geeps_terminal_columns(int descriptor) {
    struct winsize size;
    if (ioctl(descriptor, TIOCGWINSZ, &size) != 0) return 0;
    return size.ws_col;
}

int geeps_available_cores(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}
