/* The C interface of GeePS: a parameter server with the optimiser in it, for one or many processes.

   Conventions
   -----------
   Status      Every function that can fail returns an int32_t: GEEPS_OK (0) or another geeps_status, the
               same for ever. geeps_last_error() then says, on the thread that made the call, what was being
               done, what was found and what would do. Out parameters are written on success only.
   Mistakes    A null or destroyed handle is the caller's to avoid. Everything else that a caller can get
               wrong (an unknown key, a table that is not there, a call out of order) is GEEPS_ARGUMENT and
               changes nothing.
   Threads     Calls on one handle may come from any thread and are taken one by one; a call waits while
               another one blocks. geeps_release and what takes no handle never wait, geeps_abort not
               for other calls. Handles are independent of each other. GeePS calls no function of the caller.
   Blocking    Said at each function: "does not wait" is at most a copy; "waits" is for other processes, and
               ends with an error when one of them dies or after the job's wait timeout.
   Memory      What the caller passes stays the caller's and is read before the call returns. What is lent
               (geeps_read, geeps_local) is valid until its lease is released. Strings that are returned belong
               to GeePS.
   fork        A child process must not use a handle of its parent, and need not destroy it.
   Numbers     float is IEEE binary32. Sizes are in bytes where the name says so, otherwise in values.
*/
#ifndef GEEPS_H
#define GEEPS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Grows when a function or a structure changes so that old callers would break. */
#define GEEPS_ABI_VERSION 1

/* What a call answers. */
typedef enum geeps_status {
    GEEPS_OK = 0,
    /* The caller's mistake; nothing has changed. */
    GEEPS_ARGUMENT = 1,
    /* The time given to this very call is over; calling again is fine. */
    GEEPS_NOT_YET = 2,

    /* Accesses. */
    /* A process of the job is gone. */
    GEEPS_PEER_LOST = 10,
    /* A wait reached the job's deadline. */
    GEEPS_DEADLINE = 11,
    /* No placement fits the budget of device memory; the message has the least that does. */
    GEEPS_BUDGET_TOO_SMALL = 12,
    /* The device or the host has no room. */
    GEEPS_OUT_OF_MEMORY = 13,
    /* Copies or kernels failed on the device. */
    GEEPS_DEVICE_FAILED = 14,
    /* Local data that was to survive is gone, because the plan had no use for it. */
    GEEPS_CONTENT_LOST = 15,
    /* The job has been closed. */
    GEEPS_CLOSED = 16,
    /* A peer sent what the protocol forbids. */
    GEEPS_PROTOCOL = 17,

    /* Joining, and the control plane. */
    /* Somebody was not there in time. */
    GEEPS_JOIN_TIMEOUT = 20,
    /* Two processes claim one rank, or a rank is not in the job. */
    GEEPS_RANK = 21,
    /* Processes were started for jobs of different size. */
    GEEPS_WORLD_SIZE = 22,
    /* Tables, optimisers or the like differ between processes; the message shows the lines. */
    GEEPS_DISAGREEMENT = 23,
    /* An address cannot be understood, listened on or reached. */
    GEEPS_ADDRESS = 24,
    /* Ranks called different collectives. */
    GEEPS_MISMATCH = 25,
    /* This process, or one that was waited for, has left the job. */
    GEEPS_LEFT = 26,
    /* The operating system said no. */
    GEEPS_SYSTEM = 27,
    /* The processes do not know the same job secret, or its file cannot be used. */
    GEEPS_SECRET = 28,
    /* A certificate, this process's or a peer's, will not do, or only one side has TLS. */
    GEEPS_CERTIFICATE = 29
} geeps_status;

/* A process's part in a job. */
typedef struct geeps geeps;

/* Memory that is lent. */
typedef struct geeps_lease geeps_lease;

/* The version of this interface; a caller compares it with GEEPS_ABI_VERSION. Does not wait. */
uint32_t geeps_abi_version(void);

/* The version of the library, such as "0.1.0". */
const char *geeps_version(void);

/* The name of a status, such as "GEEPS_PEER_LOST"; "GEEPS_UNKNOWN" for other numbers. */
const char *geeps_status_name(int32_t status);

/* The message of this thread's last call that failed, UTF-8; valid until its next call that fails. */
const char *geeps_last_error(void);

/* ------------------------------------------------------------------------------------------------------
   Setting a job up: create, set, add tables, join. */

/* Makes a job of one process. Pair with geeps_destroy. Does not wait. */
int32_t geeps_create(geeps **out);

/* Sets an option; before geeps_join. Does not wait.

     key              value                                             default
     rank             this process, from 0                              0
     world_size       processes                                         1
     rendezvous       host:port where rank 0 listens                    (one process needs none)
     interface        address that data lanes are accepted on, or auto  auto: the one that leads to rank 0
     keepers          keepers in the job, spread over the processes     world_size
     keeper_threads   threads of each keeper of this process            1
     staleness        clocks that reads may lag, or async               0
     transport        auto, shm, unix, tcp or ucx                       auto
     tls_certificate  PEM file with the certificate of this process     GEEPS_TLS_CERTIFICATE
     tls_key          PEM file with its private key                     GEEPS_TLS_KEY
     tls_ca           PEM file with the CA of the job                   GEEPS_TLS_CA
     join_timeout     seconds to wait for all processes                 60
     wait_timeout     seconds until a wait fails                        120
     reconnect_timeout  seconds to make a lost connection anew          10
     memory           resident, or managed within a budget              resident
     budget_bytes     device memory for everything (managed)            as much as is of use; a GPU needs it
     device           host, or cuda:N, a GPU as the driver counts       host
     agreement        text that must be equal in all processes          (empty)
*/
int32_t geeps_set(geeps *job, const char *key, const char *value);

/* What keepers do with a gradient: the rules of torch.optim, bit for bit. */
typedef enum geeps_rule_kind {
    /* Values grow by what is sent. */
    GEEPS_RULE_ADD = 0,
    GEEPS_RULE_SGD = 1,
    GEEPS_RULE_ADAM = 2,
    GEEPS_RULE_ADAMW = 3,
    GEEPS_RULE_ADAGRAD = 4,
    GEEPS_RULE_RMSPROP = 5
} geeps_rule_kind;

/* A rule with its numbers; those that a rule does not use are ignored. */
typedef struct geeps_rule {
    int32_t kind;       /* a geeps_rule_kind */
    int32_t nesterov;   /* sgd */
    int32_t centered;   /* rmsprop */
    int32_t sums;       /* 0: the workers' gradients are averaged; 1: added up */
    double learning_rate;
    double weight_decay;
    double momentum;    /* sgd, rmsprop */
    double dampening;   /* sgd */
    double beta1;       /* adam, adamw */
    double beta2;       /* adam, adamw */
    double epsilon;     /* all but add and sgd */
    double alpha;       /* rmsprop */
    double learning_rate_decay; /* adagrad */
    double initial_accumulator; /* adagrad */
} geeps_rule;

/* Adds a table of `value_count` floats; before geeps_join, in the same order in every process. All tables
   of a job have the same kind of rule. Does not wait. */
int32_t geeps_table_create(geeps *job, const char *name, uint64_t value_count, const geeps_rule *rule,
                           uint32_t *table);

/* Joins the job: waits until all processes are there and connected, at most join_timeout. */
int32_t geeps_join(geeps *job);

/* Leaves the job in order: sends what is complete, says goodbye, waits at most `timeout_s` until all
   processes have, and ends all threads. Leases stay to be released. Calling it again does nothing. */
int32_t geeps_close(geeps *job, double timeout_s);

/* Ends a job, from any thread, also while another one waits: every wait of it fails with `reason`, here and in
   the other processes. Waits at most two seconds until these have been told; geeps_close remains to be called. */
int32_t geeps_abort(geeps *job, const char *reason);

/* Frees a handle; closes it first, within a second, if that has not been done. Null is allowed. */
void geeps_destroy(geeps *job);

/* ------------------------------------------------------------------------------------------------------
   An iteration. */

/* Gives a table its initial values; those of rank 0 count, in the other processes this does nothing.
   `count` is the table's value_count. Does not wait: reads do. */
int32_t geeps_initialise(geeps *job, uint32_t table, const float *values, uint64_t count);

/* The caller's kernels run on `stream`, a CUstream or cudaStream_t, from now on, behind what it has put on the one
   before; null, the default stream, at first. For a job whose device is a GPU, after geeps_join: values, updates and
   local data are then device memory, ready and given back in the order of this stream's work. A job is used by one
   thread at a time, whose current CUDA context is left as it was. Does not wait. */
int32_t geeps_set_stream(geeps *job, void *stream);

/* Waits until the rows of `table` are as fresh as a read needs them, at most `timeout_s`; then GEEPS_NOT_YET.
   For callers that have to look at signals now and then. */
int32_t geeps_wait(geeps *job, uint32_t table, double timeout_s);

/* Lends the values of `table`, and says up to which clock every process's updates are in; waits until they
   are fresh enough. They do not change until the lease is released. With staleness 0 and resident memory they
   lie at the same place every time, and geeps_clock sends nothing of the table while they are lent. */
int32_t geeps_read(geeps *job, uint32_t table, geeps_lease **lease, const float **values, uint64_t *age);

/* The same outside the repeated iteration, for an evaluation or to save: it is not noted in the access plan. The
   values lie in host memory, also where the device is a GPU. */
int32_t geeps_peek(geeps *job, uint32_t table, geeps_lease **lease, const float **values, uint64_t *age);

/* Some values of a gradient. */
typedef struct geeps_piece {
    const float *values;
    uint64_t offset; /* of the first value in the table */
    uint64_t count;
} geeps_piece;

/* Hands over this iteration's gradient of `table`, in pieces that do not overlap; where there is none it is
   zero. Several updates of one clock add up. Waits while older updates of the table are still on their way.
   In a job of one process with one keeper, values in host memory and staleness 0, values are the keeper's own, and this
   call runs the optimiser, without a copy, where the plan has no more updates of the table and nothing of it is lent;
   otherwise geeps_clock does, or the call after the last geeps_release. The caller's thread is one of keeper_threads. */
int32_t geeps_update(geeps *job, uint32_t table, const geeps_piece *pieces, size_t count);

/* Lets this iteration's updates of `table` leave now, though its values are lent, where the plan has no more of them:
   the optimiser then runs beside the rest of the iteration. What is lent does not change, and must be given back before
   geeps_clock. Where there is no plan yet, or nothing is lent, it does nothing: the updates leave by themselves. Does not
   wait. */
int32_t geeps_send_ahead(geeps *job, uint32_t table);

/* Ends the iteration: what was updated is sent, and the optimiser runs when all processes have. A table that
   was not updated keeps its values and its optimiser's state. `tick` (may be null) is the number of clocks
   done. Does not wait. */
int32_t geeps_clock(geeps *job, uint64_t *tick);

/* The same in two phases, for gradient clipping and loss scaling: gradients are added up, and the optimiser waits
   for geeps_clock_finish. Every process must. Needs staleness 0, and no update of this clock handed over before it:
   call geeps_clock_begin, then geeps_update for each table, then geeps_clock, geeps_gradient_norm and
   geeps_clock_finish. Waits until all earlier clocks are applied. */
int32_t geeps_clock_begin(geeps *job);

/* The norm of all gradients of a two-phase clock, as the optimiser will take them. A collective; waits for all
   processes, at most `timeout_s`. Not finite when some gradient is not. */
int32_t geeps_gradient_norm(geeps *job, double *norm, double timeout_s);

/* Ends a two-phase clock: the optimiser runs on gradients times `gradient_scale`, or, when `discard` is not 0, does
   not run, and values and state stay what they were. The same in every process. Does not wait. geeps_gradient_norm may
   be left out where `gradient_scale` is 1 and nothing is discarded: gradients that come later are taken as they are. */
int32_t geeps_clock_finish(geeps *job, double gradient_scale, int32_t discard);

/* Gives lent memory back. From any thread, does not wait; the memory is taken back in the job's next call.
   Null is allowed. */
void geeps_release(geeps_lease *lease);

/* ------------------------------------------------------------------------------------------------------
   Managed memory. The first iteration's accesses - reads, updates, local data, in their order - become the plan:
   what stays on the device over which gap, what waits on the host. Another order is served, counted and planned for.
   A lease that is held over geeps_clock keeps a plan from being laid out. */

/* Names a place for `byte_count` bytes that only this process uses, such as an activation. Does not wait. */
int32_t geeps_local_create(geeps *job, const char *name, uint64_t byte_count, uint32_t *local);

/* Puts `bytes` into the place: keeps a copy. Waits for room, as planned. Where `stays` is not null, the device is the
   host and the plan has the place on the device until it is lent, nothing is copied: `*stays` is then 1, and the caller
   keeps the bytes as they are until what geeps_local_get lends, which are these bytes, is released. They count as memory
   of the budget. */
int32_t geeps_local_put(geeps *job, uint32_t local, const void *bytes, int32_t *stays);

/* Lets the next plan leave what is put into the place with the caller, as if `stays` had not been null so far. Does not
   wait. */
int32_t geeps_local_let_stay(geeps *job, uint32_t local);

/* Lends what was put last; once, with the lease's release it is gone. Waits for copies, as planned. */
int32_t geeps_local_get(geeps *job, uint32_t local, geeps_lease **lease, const void **bytes);

/* Managed memory in numbers; those of the plan are of one clock and zero where none is followed. */
typedef struct geeps_memory {
    uint64_t bytes_in;  /* copied to the device */
    uint64_t bytes_out; /* copied from it */
    uint64_t served_on_demand;
    uint64_t plans_abandoned;
    uint64_t plans_followed;
    uint64_t wait_nanoseconds;
    uint64_t plan_device_bytes;
    uint64_t plan_bytes_in;
    uint64_t plan_bytes_out;
    uint64_t budget_bytes; /* zero: as much as is of use */
    uint64_t plan_left_bytes; /* of plan_device_bytes: most at one time of what stays with the caller */
} geeps_memory;

/* Fills the first `byte_count` bytes of `out`; GEEPS_ARGUMENT where memory is not managed. Waits for
   copies under way. */
int32_t geeps_memory_count(geeps *job, geeps_memory *out, size_t byte_count);

/* What is done in an access. */
typedef enum geeps_access_kind {
    GEEPS_ACCESS_READ = 0,
    GEEPS_ACCESS_END_READ = 1,
    GEEPS_ACCESS_UPDATE = 2,
    GEEPS_ACCESS_END_UPDATE = 3,
    GEEPS_ACCESS_LOCAL = 4,
    GEEPS_ACCESS_END_LOCAL = 5,
    GEEPS_ACCESS_CLOCK = 6
} geeps_access_kind;

/* One access of an iteration that is only imagined. */
typedef struct geeps_access {
    int32_t kind;    /* a geeps_access_kind */
    uint32_t id;     /* of the table, or of the local data */
    int32_t matters; /* local: its content is needed; end of local: it must survive, and, if 2, may stay with who has
                        put it; update: it is made on the device and copied from there, which is so in all jobs but
                        those of one process, one keeper and the host device */
} geeps_access;

/* What managed memory would make of an iteration. */
typedef struct geeps_plan_report {
    uint64_t least_bytes; /* the least budget that does */
    uint64_t full_bytes;  /* more is of no use */
    uint64_t device_bytes;
    uint64_t bytes_in; /* a clock */
    uint64_t bytes_out;
    uint64_t update_bytes; /* of bytes_out */
    uint64_t tables_on_device;
    uint64_t locals_that_move;
} geeps_plan_report;

/* Plans an iteration over tables of `table_values[i]` values and local data of `local_bytes[i]` bytes within
   `budget_bytes` (zero: as much as is of use). Allocates nothing of that; needs no job. GEEPS_BUDGET_TOO_SMALL says in
   its message what would do. Takes seconds for tens of thousands of accesses. */
int32_t geeps_plan(const geeps_access *accesses, size_t access_count, const uint64_t *table_values,
                   size_t table_count, const uint64_t *local_bytes, size_t local_count,
                   uint64_t budget_bytes, geeps_plan_report *report);

/* ------------------------------------------------------------------------------------------------------
   The optimiser. */

/* Sets the learning rate of `table` from the next clock on; rank 0's counts. Does not wait. */
int32_t geeps_set_learning_rate(geeps *job, uint32_t table, double learning_rate);

/* Changes the other numbers of a table's rule from the next clock on, not its kind; every process must, with
   the same numbers. Needs staleness 0. Waits until all earlier clocks are applied. */
int32_t geeps_set_rule(geeps *job, uint32_t table, const geeps_rule *rule);

/* How many arrays of optimiser state `table` has, as many as 3. Does not wait. */
int32_t geeps_state_count(geeps *job, uint32_t table, size_t *count);

/* The name of a state array in a torch state_dict, such as "exp_avg"; valid until the job is destroyed. */
int32_t geeps_state_name(geeps *job, uint32_t table, size_t kind, const char **name);

/* Copies a state array of `table` to `values`, and the number of optimiser steps to `steps` (may be null).
   A collective: every process calls it, in the same order. Waits until all clocks are applied, and for the
   others. Needs staleness 0. */
int32_t geeps_state_read(geeps *job, uint32_t table, size_t kind, float *values, uint64_t count,
                         uint64_t *steps);

/* Sets a state array of `table` and its number of steps; every process calls it with the same values. Waits
   until all clocks are applied. Needs staleness 0. */
int32_t geeps_state_write(geeps *job, uint32_t table, size_t kind, const float *values, uint64_t count,
                          uint64_t steps);

/* Sets the values of `table` at the keepers, and nothing else; every process calls it with the same values.
   Values that are lent do not change: a caller that has loaded weights writes them there too. Waits until all
   clocks are applied. Needs staleness 0. */
int32_t geeps_write(geeps *job, uint32_t table, const float *values, uint64_t count);

/* ------------------------------------------------------------------------------------------------------
   Small things on which all processes agree. Each is a collective: every process calls it, in the same order,
   with the same label. They wait, at most `timeout_s`. */

/* Waits until all processes have come here. */
int32_t geeps_barrier(geeps *job, const char *label, double timeout_s);

/* Gives every process the bytes of rank 0, at most 1 MiB, in place. */
int32_t geeps_broadcast(geeps *job, const char *label, void *bytes, uint64_t byte_count, double timeout_s);

/* Adds `values` up over all processes in rank order, in place; at most 131072. */
int32_t geeps_sum(geeps *job, const char *label, double *values, uint64_t count, double timeout_s);

/* ------------------------------------------------------------------------------------------------------
   Watching. */

/* What has been counted since the join. New members are added at the end. */
typedef struct geeps_counters {
    uint64_t ticks;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint64_t stall_nanoseconds; /* in geeps_read and geeps_update */
    uint64_t reads_in_place;
    uint64_t reads_copied;
    uint64_t updates;
    uint64_t plan_deviations;
    uint64_t replans;
    uint64_t reconnects; /* lost connections to keepers that were made anew */
} geeps_counters;

/* Fills the first `byte_count` bytes of `out`. Does not wait. */
int32_t geeps_count(geeps *job, geeps_counters *out, size_t byte_count);

#ifdef __cplusplus
}
#endif

#endif
