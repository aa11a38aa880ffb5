/*
 * A worker: one thread, one epoll loop, the connections it accepted, and a mailbox.
 *
 * One turn of the loop:
 *
 *   epoll_wait -> what is ready: accept, read, parse, act   (answers and events join output lists)
 *              -> the mailbox: events of channels, changes to apps
 *              -> timers, once a second
 *              -> flush: one writev for each connection that got something this turn; then the closed ones go
 *
 * A connection and everything that hangs on it is touched by its own worker's thread only. Closing is always put off to
 * the end of the turn, so a handler never finds what it is walking over freed under it.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/counter.h"
#include "base/error.h"
#include "base/list.h"
#include "base/timer.h"
#include "net/mailbox.h"

struct stream;
struct http_request;
struct deflate_tools;

/* Workers are numbered; sets of them are kept as bits of a word. */
#define WORKERS_MAX 64

/* Everything that epoll reports begins with this. */
struct poll_target {
    void (*ready)(struct poll_target *target, uint32_t events);
};

#define LAG_BUCKETS 8

struct worker_counters {
    struct counter accepted; /* connections accepted */
    struct counter closed;   /* connections closed */
    struct counter turns;    /* turns of the loop */
    struct counter
        lag_buckets[LAG_BUCKETS]; /* turns by how long they kept others waiting; bounds in worker_lag_bounds_us */
    struct counter lag_sum_us;
    struct counter lag_max_us;       /* the longest since the start */
    struct counter slow_readers;     /* connections that did not keep up */
    struct counter dropped_messages; /* left out for slow readers */
};

/* Upper bounds of the lag buckets; the last bucket has none. */
extern const uint32_t worker_lag_bounds_us[LAG_BUCKETS - 1];

struct worker {
    unsigned index;
    struct workers *all;
    int epoll_fd;
    pthread_t thread;
    struct mailbox mailbox;
    struct poll_target mailbox_target;
    struct timer_wheel timers;
    uint64_t now_ns; /* monotonic, as of this turn */
    uint64_t now_ms;
    bool stopping; /* leave the loop when the last connection is gone */

    struct list due;     /* connections that the end of this turn looks at */
    struct list fan_out; /* connections that got the events of channels; some of them are written in each turn */
    uint32_t fan_out_count;
    struct list streams; /* all connections */
    struct list corpses; /* closed this turn, freed at its end */
    uint32_t stream_count;

    uint8_t *receive_buffer; /* one for all connections: an idle connection owns none */
    size_t receive_capacity;
    struct http_request *spare_request; /* kept for the next request */
    struct deflate_tools *deflate;      /* for compressed messages; NULL until the first connection has them */

    struct worker_counters counters;
};

struct workers {
    unsigned count;
    unsigned started; /* how many threads run, the first so many */
    struct worker *list[WORKERS_MAX];
};

/* Creates `count` workers (1 to WORKERS_MAX) that do not run yet. */
bool workers_create(struct workers *workers, unsigned count, struct error *error);

/* Starts a thread for each; signals are blocked in them. After a failure those that were started run: they are to be
 * stopped and joined. */
bool workers_start(struct workers *workers, struct error *error);

/* Waits until all threads that were started have ended (see worker_stop). */
void workers_join(struct workers *workers);
/* The same, but false when some have not ended after that time, to a second: they go on, and are to be joined later. */
bool workers_join_within(struct workers *workers, uint64_t timeout_ms);

/* Frees them; nothing may be left that posts to them. */
void workers_destroy(struct workers *workers);

/* Handles the messages that came after the workers had ended: they find nobody, and free themselves. On the calling
 * thread; workers_join does it too. */
void workers_settle(struct workers *workers);

/* Posts `message` and wakes the worker. Any thread, no lock held. */
void worker_post(struct worker *worker, struct message *message);

/* On the worker's thread: the loop ends when no connection is left. */
void worker_stop(struct worker *worker);

bool worker_watch(struct worker *worker, int fd, uint32_t events, struct poll_target *target);
void worker_rewatch(struct worker *worker, int fd, uint32_t events, struct poll_target *target);
void worker_unwatch(struct worker *worker, int fd);

/* A task for every worker, for instance to apply a change: `run` is called once on each worker's thread, and `finished`
 * on the last one to do it, after which the task is freed. */
struct worker_task {
    void (*run)(struct worker *worker, void *context);
    void (*finished)(void *context);
    void *context;
};
void workers_run_on_all(struct workers *workers, const struct worker_task *task);
