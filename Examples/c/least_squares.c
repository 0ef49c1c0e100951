/* Fits y = 3x - 1 with the optimiser at a keeper. Alone, or as several processes:

     $ cc -ISources/CGeePS/include Examples/c/least_squares.c -o least_squares .build-library/libgeeps.so
     $ ./least_squares
     $ ./least_squares 0 2 127.0.0.1:29500 & ./least_squares 1 2 127.0.0.1:29500
*/
#include <geeps.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static geeps *job;

/* Ends the program when a call has failed, with what it says. */
static void check(int32_t status, const char *what) {
    if (status == GEEPS_OK) return;
    fprintf(stderr, "%s: %s: %s\n", what, geeps_status_name(status), geeps_last_error());
    geeps_destroy(job);
    exit(1);
}

static void join(const char *rank, const char *world_size, const char *rendezvous, uint32_t *table) {
    check(geeps_create(&job), "create");
    check(geeps_set(job, "rank", rank), "rank");
    check(geeps_set(job, "world_size", world_size), "world_size");
    check(geeps_set(job, "rendezvous", rendezvous), "rendezvous");
    geeps_rule rule = {.kind = GEEPS_RULE_SGD, .learning_rate = 0.1, .momentum = 0.9};
    check(geeps_table_create(job, "line", 2, &rule, table), "table");
    check(geeps_join(job), "join");
}

/* One step: reads slope and offset, and hands over the gradient of the squared error at four points. */
static float step(uint32_t table, float first) {
    geeps_lease *lease;
    const float *line;
    check(geeps_read(job, table, &lease, &line, NULL), "read");
    float gradient[2] = {0, 0}, loss = 0;
    for (int i = 0; i < 4; i++) {
        float x = first + (float)i / 4;
        float error = line[0] * x + line[1] - (3 * x - 1);
        loss += error * error / 4;
        gradient[0] += error * x / 2;
        gradient[1] += error / 2;
    }
    geeps_release(lease);
    geeps_piece piece = {gradient, 0, 2};
    check(geeps_update(job, table, &piece, 1), "update");
    check(geeps_clock(job, NULL), "clock");
    return loss;
}

int main(int argc, char **argv) {
    uint32_t table;
    const char *rank = argc > 3 ? argv[1] : "0";
    join(rank, argc > 3 ? argv[2] : "1", argc > 3 ? argv[3] : "127.0.0.1:29500", &table);
    const float start[2] = {0, 0};
    check(geeps_initialise(job, table, start, 2), "initialise");
    /* Every process has points of its own. */
    float first = (float)atoi(rank) - 1, loss = 0;
    for (int i = 0; i < 300; i++) loss = step(table, first);

    geeps_lease *lease;
    const float *line;
    check(geeps_read(job, table, &lease, &line, NULL), "read");
    printf("rank %s: y = %.3f x + %.3f, loss %.1e\n", rank, line[0], line[1], loss);
    int isRight = fabsf(line[0] - 3) < 1e-3f && fabsf(line[1] + 1) < 1e-3f;
    geeps_release(lease);
    check(geeps_close(job, 10), "close");
    geeps_destroy(job);
    return isRight ? 0 : 1;
}
