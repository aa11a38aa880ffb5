/*
 * A worker: one thread, one epoll loop, the connections it accepted, and a mailbox. See worker_loop.h for the loop.
 *
 * A connection and everything that belongs to it is used only on the thread of its own worker. A closed connection is
 * freed at the end of the turn, so a handler may close connections while it iterates over them.
 *
 * A turn is one iteration of the loop.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/buffer.h"
#include "base/counter.h"
#include "base/error.h"
#include "base/list.h"
#include "base/timer.h"
#include "net/backlog.h"
#include "net/descriptors.h"
#include "net/mailbox.h"

struct stream;
struct http_request;
struct address_table;
struct deflate_tools;

/* Workers are numbered; a set of workers is a 64-bit mask. */
#define WORKERS_MAX 64

/* The receiver of epoll events; embedded in the structure that owns the descriptor. */
struct poll_target {
    /* Called on the worker's thread with the EPOLL* bits that are ready. */
    void (*ready)(struct poll_target *target, uint32_t events);
};

/* A pause of something that needs a descriptor, such as a listener. It ends when a connection of the worker has closed,
 * and at `until_ms`. Embedded in the structure that pauses. */
struct descriptor_pause {
    struct list link; /* in the worker's list `pauses`, while it lasts */
    uint64_t until_ms;
    void (*over)(struct descriptor_pause *pause);
};

#define LAG_BUCKETS 8

/* Events that one epoll_wait returns. */
#define WORKER_EVENTS 512

/* The time that a turn gives to input, and at least to each of its other parts when that time is over. */
#define TURN_INPUT_US 1000
#define TURN_PART_US 500

/* The CPU time is read before a turn if the last time was so long ago, and after a turn that took so long: a short turn
 * pays for no system call. What is counted for a turn is at most this much too long. */
#define LONG_TURN_US 1000

/* What one connection may take of its input in a turn: bytes that are read, as many that compressed messages become,
 * and messages or requests. The smaller
 * numbers are for turns in which many connections have input. */
#define INPUT_BYTES_PER_TURN (16 * 1024)
#define INPUT_MESSAGES_PER_TURN 64
#define INPUT_BYTES_OF_CROWD (4 * 1024)
#define INPUT_MESSAGES_OF_CROWD 16
#define INPUT_CROWD 8

struct worker_counters {
    struct counter accepted; /* connections accepted */
    struct counter closed;   /* connections closed */
    struct counter turns;    /* turns of the loop */
    /* Turns by their length; the bounds are worker_lag_bounds_us. */
    struct counter lag_buckets[LAG_BUCKETS];
    struct counter lag_sum_us;
    struct counter lag_max_us;          /* the longest turn since the start */
    struct counter cpu_max_us;          /* the most CPU time of a turn, of those that exceed LONG_TURN_US */
    struct counter input_bytes_max;     /* the most bytes read from one connection in a turn */
    struct counter input_messages_max;  /* the most messages taken from one connection in a turn */
    struct counter input_deferred;      /* visits that left input for the next turn */
    struct counter slow_readers;        /* connections whose output reached its limits */
    struct counter dropped_messages;    /* dropped for slow readers */
    struct counter descriptor_refusals; /* WebSockets refused because descriptors are short */
    struct counter descriptor_closes;   /* HTTP connections closed for the same reason, while they waited for input */
};

/* Upper bounds of the lag buckets; the last bucket has none. */
extern const uint32_t worker_lag_bounds_us[LAG_BUCKETS - 1];

/* What an HTTP connection waits for. */
enum http_wait {
    HTTP_WAIT_IDLE,   /* a request */
    HTTP_WAIT_READER, /* that its answer is read */
    HTTP_WAIT_HEAD,   /* the rest of a head */
    HTTP_WAIT_BODY,   /* the rest of a body */
    HTTP_WAIT_COUNT,
};

struct worker {
    unsigned index;
    struct workers *all;
    int epoll_fd;
    pthread_t thread;
    struct mailbox mailbox;
    struct poll_target mailbox_target;
    struct timer_wheel timers;
    uint64_t now_ns; /* monotonic, at the start of this turn */
    uint64_t now_ms;
    uint32_t settled_s; /* the second in which the thread's part of the account of memory was last added to the sums */
    bool stopping;      /* end the loop after the last connection has closed */
    bool draining;      /* the process shuts down: HTTP connections close after their next answer */
    /* While stopping: do not end before. A client whose handshake is under way may still be accepted. */
    uint64_t ends_ms;

    /* The turn; see worker_spend. */
    uint64_t turn_ends_ns; /* UINT64_MAX: no limit, in tests */
    uint64_t cpu_ns;       /* the CPU time of the thread, when it was read last */
    uint64_t cpu_read_ns;
    uint32_t turn_work; /* since the clock was read */
    bool turn_over;
    /* The visit of one connection: what it may still take. */
    int32_t visit_bytes, visit_messages, visit_inflated;
    /* Where the next turn goes on in `ready`, which epoll_wait has filled. */
    unsigned ready_at, ready_count;
    struct backlog backlog;   /* streams with more input than they could take */
    struct message *messages; /* taken from the mailbox and not handled yet, oldest first */

    struct list flush_queue; /* streams to flush at the end of this turn */
    /* Streams with events of large channels; each turn writes a share of them. */
    struct list fan_out_queue;
    uint32_t fan_out_count; /* streams in the fan-out queue */
    struct list streams;    /* streams whose on_closed was not called */
    struct list closed;     /* streams closed in this turn, freed at its end */
    uint32_t stream_count;
    /* HTTP connections that wait for their clients, by what for, in the order in which they began to. */
    struct list waiting_http[HTTP_WAIT_COUNT];
    struct list pauses; /* see worker_pause */

    /* Shared by all connections, so that an idle connection owns no buffer. */
    uint8_t *receive_buffer;
    size_t receive_capacity;
    struct http_request *spare_request; /* reused for the next request; may be NULL */
    struct buffer answer;               /* reused for the text of the next answer */
    struct deflate_tools *deflate;      /* NULL until the first connection is compressed */

    struct worker_counters counters;
    struct epoll_event ready[WORKER_EVENTS];
};

struct workers {
    unsigned count;
    /* Number of running threads: those of the first workers in the list. */
    unsigned started;
    struct descriptor_bounds descriptors;
    struct address_table *addresses; /* open connections by client address; NULL: they are not limited */
    /* Another process may have copies of descriptors for a moment; see workers_share_descriptors. */
    atomic_bool shares_descriptors;
    struct worker *list[WORKERS_MAX];
};

/* Posts `message`, which the worker then owns, and wakes the worker. Callable from any thread, without a lock held. */
void worker_post(struct worker *worker, struct message *message);

/* Add a descriptor to the worker's epoll set, change its events (EPOLLIN, EPOLLOUT), and remove it. worker_watch
 * returns false with errno set. On the worker's thread, or before it is started. */
bool worker_watch(struct worker *worker, int fd, uint32_t events, struct poll_target *target);
void worker_rewatch(struct worker *worker, int fd, uint32_t events, struct poll_target *target);
void worker_unwatch(struct worker *worker, int fd);

/* Reads the clock, and ends the time of a part of the turn. Only for worker_spend and the loop. */
void worker_read_clock(struct worker *worker);
void worker_begin_part(struct worker *worker);

/* Work after which the clock is read, about as many bytes of JSON as are parsed in a tenth of a millisecond. */
#define WORK_PER_CLOCK 8192

/* Counts work towards the time of the turn, so that the clock is not read for each message. */
static inline void worker_spend(struct worker *worker, size_t work) {
    size_t sum = worker->turn_work + work;

    worker->turn_work = (uint32_t)sum;
    if (sum >= WORK_PER_CLOCK)
        worker_read_clock(worker);
}

/* Counts a message or request of the connection that is visited, and the work that it is. */
static inline void worker_count_message(struct worker *worker, size_t work) {
    worker->visit_messages--;
    worker_spend(worker, work);
}

/* True if the connection that is visited may handle one more message of what was read. */
static inline bool worker_may_take(const struct worker *worker) {
    return worker->visit_messages > 0 && worker->visit_inflated > 0 && !worker->turn_over;
}

/* Counts what a compressed message of the connection that is visited has become. */
static inline void worker_count_inflated(struct worker *worker, size_t length) {
    worker->visit_inflated -= length < INPUT_BYTES_PER_TURN ? (int32_t)length : INPUT_BYTES_PER_TURN;
}

/* Removes a target from the events that are not handled yet. Call it before the target is freed: events wait until a
 * later turn. */
void worker_forget(struct worker *worker, const struct poll_target *target);

/* Pauses for want of descriptors: calls pause->over once, after `delay_ms` or as soon as a connection has closed. To
 * end a pause without that call, remove its link from the list. On the worker's thread. */
void worker_pause(struct worker *worker, struct descriptor_pause *pause, uint64_t delay_ms);

/* A task for all workers: `run` is called once on each worker's thread, then `finished` (may be NULL) on the thread of
 * the last one. */
struct worker_task {
    void (*run)(struct worker *worker, void *context);
    void (*finished)(void *context);
    void *context;
};

/* Posts a copy of the task to all workers. Callable from any thread, without a lock held. */
void workers_run_on_all(struct workers *workers, const struct worker_task *task);
