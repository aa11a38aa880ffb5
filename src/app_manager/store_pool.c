#include "app_manager/store_pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#define NS_PER_MS UINT64_C(1000000)
#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS 10000       /* of every thread but the prober */
#define BACKOFF_PROBER_LAST_MS 1000 /* a store that is back is noticed within a second */
#define PREPARE_TIMEOUT_MS 60000

const uint32_t store_latency_bounds_us[STORE_LATENCY_BUCKETS - 1] = {250,    1000,   2500,    10000,  25000,
                                                                     100000, 500000, 2500000, 5000000};

struct pool_thread {
    struct store_pool *pool;
    struct pool_thread *next; /* of pool->finished */
    pthread_t id;
    struct store_connection *connection; /* NULL: none */
    bool prober;                         /* never ends, and backs off for a second at most */
    uint32_t backoff_ms;                 /* 0: the last attempt to connect succeeded */
    uint64_t retry_ns;                   /* end of the back-off */
    /* pool->connects at the start of the back-off: another value ends it. */
    uint64_t connects_seen;
};

enum pool_state { POOL_UNPREPARED, POOL_PREPARING, POOL_PREPARED };

struct store_pool {
    struct store_pool_settings settings;
    pthread_mutex_t mutex;
    /* Wakes idle threads: an operation, a missing connection, the end. */
    pthread_cond_t work;
    /* Wakes threads in their back-off: a connection was opened, the end. */
    pthread_cond_t reconnect;
    pthread_cond_t ended; /* a thread has ended */
    struct store_queue queue;
    unsigned threads, idle, connections, busy;
    unsigned opening;             /* threads that open a connection without an operation for it */
    struct pool_thread *finished; /* threads that still need pthread_join */
    enum pool_state state;
    uint64_t connects;       /* successful ones */
    bool unreachable;        /* no connection, and the last attempt failed */
    struct error last_error; /* of that attempt */
    bool no_thread;          /* the last start of a thread failed */
    bool stopping;
    int cancel_fd;
    uint64_t rejected, failures, latency[STORE_LATENCY_BUCKETS], latency_sum_us;
};

static void *run_thread(void *argument);

struct store_pool *store_pool_create(const struct store_pool_settings *settings) {
    struct store_pool *pool = alloc_zero(sizeof *pool);

    pool->settings = *settings;
    pool->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&pool->mutex, NULL);
    condition_init(&pool->work);
    condition_init(&pool->reconnect);
    condition_init(&pool->ended);
    store_queue_init(&pool->queue);
    return pool;
}

void store_pool_destroy(struct store_pool *pool) {
    pthread_cond_destroy(&pool->ended);
    pthread_cond_destroy(&pool->reconnect);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
    if (pool->cancel_fd >= 0)
        close(pool->cancel_fd);
    free(pool);
}

int store_pool_stop_fd(const struct store_pool *pool) {
    return pool->cancel_fd;
}

/* --- threads start and end --- */

/* With the mutex held. */
static bool start_pool_thread(struct store_pool *pool, struct error *error) {
    struct pool_thread *thread = alloc_zero(sizeof *thread);

    thread->pool = pool;
    thread->prober = pool->threads == 0;
    if (!thread_start(&thread->id, "curlew-store", run_thread, thread, error)) {
        free(thread);
        return false;
    }
    pool->threads++;
    return true;
}

/* Logs that a thread could not be started, once until it works again. Without the mutex. */
static void note_thread_start(struct store_pool *pool, bool started, const struct error *error) {
    bool logs;

    pthread_mutex_lock(&pool->mutex);
    logs = !started && !pool->no_thread;
    pool->no_thread = !started;
    pthread_mutex_unlock(&pool->mutex);
    if (logs)
        log_error("app", "%s", error->text);
}

/* Without the mutex. */
static void join_finished(struct store_pool *pool) {
    struct pool_thread *thread;

    pthread_mutex_lock(&pool->mutex);
    thread = pool->finished;
    pool->finished = NULL;
    pthread_mutex_unlock(&pool->mutex);
    while (thread != NULL) {
        struct pool_thread *next = thread->next;
        pthread_join(thread->id, NULL);
        free(thread);
        thread = next;
    }
}

/* With the mutex held. */
static void note_operation_latency(struct store_pool *pool, const struct store_operation *operation) {
    uint64_t took_us = (clock_monotonic_ns() - operation->began_ns) / 1000;
    unsigned bucket = 0;

    while (bucket < STORE_LATENCY_BUCKETS - 1 && took_us > store_latency_bounds_us[bucket])
        bucket++;
    pool->latency[bucket]++;
    pool->latency_sum_us += took_us;
}

/* Finishes operations that get no connection. Without the mutex. */
static void fail_operations(struct list *operations, const struct error *error) {
    while (!list_empty(operations)) {
        struct store_operation *operation = container_of(operations->next, struct store_operation, link);
        list_remove(&operation->link);
        operation->finished(operation, STORE_UNAVAILABLE, error);
    }
}

/* --- connections; on a thread of the pool, without the mutex --- */

static void drop_connection(struct pool_thread *thread) {
    struct store_pool *pool = thread->pool;

    if (thread->connection == NULL)
        return;
    store_disconnect(thread->connection);
    thread->connection = NULL;
    pthread_mutex_lock(&pool->mutex);
    pool->connections--;
    pthread_cond_broadcast(&pool->work); /* another thread may have to reopen it to keep `min` connections */
    pthread_mutex_unlock(&pool->mutex);
}

static bool prepare_store(struct store_pool *pool, struct store_connection *connection, struct error *error) {
    const struct deadline deadline = deadline_after(PREPARE_TIMEOUT_MS, pool->cancel_fd);

    store_begin(connection, &deadline);
    return store_prepare(connection, error) == STORE_OK &&
           (pool->settings.prepared == NULL ||
            pool->settings.prepared(pool->settings.context, connection, pool->cancel_fd, error));
}

static struct store_connection *open_pool_connection(struct store_pool *pool, bool prepares,
                                                     const struct deadline *deadline, struct error *error) {
    struct store_connection *connection = store_connect(pool->settings.store, deadline, error);

    if (connection != NULL && prepares && !prepare_store(pool, connection, error)) {
        store_disconnect(connection);
        connection = NULL;
    }
    return connection;
}

/* The store counts as prepared and the connection as open in one step: a thread that fails to connect at this moment
 * must not find a prepared store without a connection, which it would report as unreachable. */
static void note_connected(struct pool_thread *thread, bool prepared) {
    struct store_pool *pool = thread->pool;

    thread->backoff_ms = 0;
    pthread_mutex_lock(&pool->mutex);
    if (prepared)
        pool->state = POOL_PREPARED;
    pool->connections++;
    pool->connects++;
    pool->unreachable = false;
    pthread_cond_broadcast(&pool->work);
    pthread_cond_broadcast(&pool->reconnect);
    pthread_mutex_unlock(&pool->mutex);
}

static void note_connect_failure(struct pool_thread *thread, bool prepared, const struct error *error) {
    struct store_pool *pool = thread->pool;
    struct list failed;
    bool unreachable;

    list_init(&failed);
    thread->backoff_ms = backoff_next_ms(thread->backoff_ms, BACKOFF_FIRST_MS,
                                         thread->prober ? BACKOFF_PROBER_LAST_MS : BACKOFF_LAST_MS);
    thread->retry_ns = clock_monotonic_ns() + thread->backoff_ms * NS_PER_MS;
    pthread_mutex_lock(&pool->mutex);
    if (prepared) {
        pool->state = POOL_UNPREPARED;
        pthread_cond_broadcast(&pool->work);
    }
    thread->connects_seen = pool->connects;
    unreachable = pool->connections == 0 && !pool->stopping;
    if (unreachable) {
        pool->unreachable = true;
        pool->last_error = *error;
        pool->failures += store_queue_count(&pool->queue);
        store_queue_take_all(&pool->queue, &failed);
    }
    pthread_mutex_unlock(&pool->mutex);
    if (unreachable && pool->settings.unreachable != NULL)
        pool->settings.unreachable(pool->settings.context, error);
    fail_operations(&failed, error);
}

static bool connect_thread(struct pool_thread *thread, bool prepares, const struct deadline *deadline,
                           struct error *error) {
    thread->connection = open_pool_connection(thread->pool, prepares, deadline, error);
    if (thread->connection != NULL)
        note_connected(thread, prepares);
    else
        note_connect_failure(thread, prepares, error);
    return thread->connection != NULL;
}

/* --- operations --- */

static enum store_answer try_operation(struct pool_thread *thread, struct store_operation *operation,
                                       const struct deadline *deadline, struct error *error) {
    enum store_answer answer;

    if (thread->connection == NULL && !connect_thread(thread, false, deadline, error))
        return STORE_UNAVAILABLE;
    store_begin(thread->connection, deadline);
    answer = operation->run(operation, thread->connection, error);
    if (answer == STORE_UNAVAILABLE)
        drop_connection(thread);
    return answer;
}

/* Checks a connection that may have died while it was idle: a write cannot be repeated on another one. */
static void check_before_write(struct pool_thread *thread, const struct deadline *deadline) {
    struct error ignored;

    if (thread->connection == NULL)
        return;
    store_begin(thread->connection, deadline);
    if (store_check_health(thread->connection, &ignored) == STORE_UNAVAILABLE)
        drop_connection(thread);
}

static enum store_answer run_operation(struct pool_thread *thread, struct store_operation *operation,
                                       struct error *error) {
    const struct deadline deadline = {.ends_ns = operation->deadline_ns, .cancel_fd = thread->pool->cancel_fd};
    enum store_answer answer;
    bool repeats;

    if (deadline_passed(&deadline)) {
        error_set(error, "no connection to the store was free in time");
        return STORE_UNAVAILABLE;
    }
    operation->asked = true;
    if (!operation->repeatable)
        check_before_write(thread, &deadline);
    repeats = operation->repeatable && thread->connection != NULL;
    answer = try_operation(thread, operation, &deadline, error);
    if (answer == STORE_UNAVAILABLE && repeats && !deadline_passed(&deadline))
        answer = try_operation(thread, operation, &deadline, error);
    return answer;
}

static void finish_operation(struct pool_thread *thread, struct store_operation *operation) {
    struct store_pool *pool = thread->pool;
    struct error error = {0};
    enum store_answer answer = run_operation(thread, operation, &error);

    pthread_mutex_lock(&pool->mutex);
    note_operation_latency(pool, operation);
    pool->failures += answer == STORE_UNAVAILABLE;
    pthread_mutex_unlock(&pool->mutex);
    operation->finished(operation, answer, &error);
}

/* --- a thread's life; the next four with the mutex held --- */

/* True if the thread is to open a connection without an operation for it: to keep `min` of them, or to find out when
 * the store can be asked again. */
static bool wants_connection(const struct pool_thread *thread) {
    const struct store_pool *pool = thread->pool;

    return thread->connection == NULL && pool->state == POOL_PREPARED &&
           (pool->connections + pool->opening < pool->settings.min || pool->unreachable);
}

static bool backs_off(const struct pool_thread *thread) {
    return thread->connection == NULL && thread->backoff_ms != 0 && thread->connects_seen == thread->pool->connects &&
           clock_monotonic_ns() < thread->retry_ns;
}

/* True if the thread may end: there are more than `min` and nothing is queued. Operations stay in the queue until the
 * store is prepared; threads were started for them when they were submitted, and are not started again. */
static bool is_spare(const struct pool_thread *thread) {
    const struct store_pool *pool = thread->pool;

    return !thread->prober && pool->threads > pool->settings.min && store_queue_count(&pool->queue) == 0 &&
           (thread->connection == NULL || pool->connections > pool->settings.min);
}

enum pool_task { POOL_END, POOL_PREPARE, POOL_CONNECT, POOL_OPERATE };

/* Waits until there is something to do. */
static enum pool_task next_task(struct pool_thread *thread, struct store_operation **operation) {
    struct store_pool *pool = thread->pool;
    uint64_t idle_end_ns = clock_monotonic_ns() + pool->settings.idle_ms * NS_PER_MS;

    for (;;) {
        bool waits_to_connect = backs_off(thread), spare = is_spare(thread);

        if (pool->stopping)
            return POOL_END;
        if (!waits_to_connect && pool->state == POOL_UNPREPARED) {
            pool->state = POOL_PREPARING;
            return POOL_PREPARE;
        }
        /* Preparing may take long: meanwhile operations stay in the queue, where their deadlines are watched. */
        if (!waits_to_connect && pool->state == POOL_PREPARED && (*operation = store_queue_take(&pool->queue)) != NULL)
            return POOL_OPERATE;
        if (!waits_to_connect && wants_connection(thread))
            return POOL_CONNECT;
        if (spare && clock_monotonic_ns() >= idle_end_ns)
            return POOL_END;
        if (waits_to_connect) {
            condition_wait_until(&pool->reconnect, &pool->mutex, thread->retry_ns);
            continue;
        }
        pool->idle++;
        if (spare)
            condition_wait_until(&pool->work, &pool->mutex, idle_end_ns);
        else
            pthread_cond_wait(&pool->work, &pool->mutex);
        pool->idle--;
    }
}

/* Opens a connection without an operation for it. */
static void connect_ahead(struct pool_thread *thread, bool prepares) {
    struct store_pool *pool = thread->pool;
    const struct deadline deadline = deadline_after(pool->settings.timeout_ms, pool->cancel_fd);
    struct error error = {0};

    connect_thread(thread, prepares, &deadline, &error);
}

static void *run_thread(void *argument) {
    struct pool_thread *thread = argument;
    struct store_pool *pool = thread->pool;
    struct store_operation *operation;
    enum pool_task task;

    pthread_mutex_lock(&pool->mutex);
    while ((task = next_task(thread, &operation)) != POOL_END) {
        pool->busy++;
        pool->opening += task != POOL_OPERATE;
        pthread_mutex_unlock(&pool->mutex);
        if (task == POOL_OPERATE)
            finish_operation(thread, operation);
        else
            connect_ahead(thread, task == POOL_PREPARE);
        pthread_mutex_lock(&pool->mutex);
        pool->busy--;
        if (task != POOL_OPERATE) {
            pool->opening--;
            pthread_cond_broadcast(&pool->work); /* another thread opens the next one if there are still too few */
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    drop_connection(thread);
    budget_settle();
    pthread_mutex_lock(&pool->mutex);
    thread->next = pool->finished;
    pool->finished = thread;
    pool->threads--;
    pthread_cond_signal(&pool->ended);
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

void store_pool_start(struct store_pool *pool) {
    struct error error;
    bool started;

    pthread_mutex_lock(&pool->mutex);
    do
        started = start_pool_thread(pool, &error);
    while (started && pool->threads < pool->settings.min);
    pthread_mutex_unlock(&pool->mutex);
    note_thread_start(pool, started, &error);
}

bool store_pool_stop(struct store_pool *pool) {
    const struct error error = {"the server stops"};
    uint64_t until_ns = clock_monotonic_ns() + STORE_STOP_MS * NS_PER_MS;
    struct list left;
    bool ended;

    list_init(&left);
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    eventfd_write(pool->cancel_fd, 1);
    pthread_cond_broadcast(&pool->work);
    pthread_cond_broadcast(&pool->reconnect);
    while (pool->threads != 0 && condition_wait_until(&pool->ended, &pool->mutex, until_ns))
        continue;
    ended = pool->threads == 0;
    store_queue_take_all(&pool->queue, &left);
    pthread_mutex_unlock(&pool->mutex);
    join_finished(pool);
    fail_operations(&left, &error);
    return ended;
}

/* --- submitting --- */

/* True if the operation may wait for a connection; else `error` says why not. With the mutex held. */
static bool admit_operation(struct store_pool *pool, const struct store_operation *operation, struct error *error) {
    if (pool->stopping)
        return error_set(error, "the server stops");
    if (pool->unreachable) {
        *error = pool->last_error;
        pool->failures++;
        return false;
    }
    if (operation->priority == STORE_UNKNOWN && pool->queue.counts[STORE_UNKNOWN] >= STORE_UNKNOWN_WAITING_MAX) {
        pool->rejected++;
        return error_set(error, "%u lookups wait already", STORE_UNKNOWN_WAITING_MAX);
    }
    return true;
}

/* Starts a thread if none is idle for the next operation. With the mutex held; false if that failed. */
static bool provide_thread(struct store_pool *pool, struct error *error) {
    if (store_queue_count(&pool->queue) < pool->idle || pool->threads >= pool->settings.max)
        return true;
    return start_pool_thread(pool, error);
}

void store_pool_submit(struct store_pool *pool, struct store_operation *operation, uint32_t timeout_ms) {
    struct error error, thread_error;
    bool admitted, provided = true, note_start;

    operation->asked = false;
    operation->began_ns = clock_monotonic_ns();
    operation->deadline_ns =
        operation->began_ns + (timeout_ms != 0 ? timeout_ms : pool->settings.timeout_ms) * NS_PER_MS;
    pthread_mutex_lock(&pool->mutex);
    admitted = admit_operation(pool, operation, &error);
    if (admitted) {
        provided = provide_thread(pool, &thread_error);
        if (pool->threads == 0) { /* the queue would never be read */
            error = thread_error;
            pool->failures++;
            admitted = false;
        } else {
            store_queue_append(&pool->queue, operation);
            pthread_cond_signal(&pool->work);
        }
    }
    note_start = provided == pool->no_thread;
    pthread_mutex_unlock(&pool->mutex);
    if (note_start)
        note_thread_start(pool, provided, &thread_error);
    if (!admitted)
        operation->finished(operation, STORE_UNAVAILABLE, &error);
}

bool store_pool_expire(struct store_pool *pool) {
    struct error error = {"no connection to the store was free in time"};
    struct list expired;
    bool waiting;

    list_init(&expired);
    pthread_mutex_lock(&pool->mutex);
    if (pool->state != POOL_PREPARED)
        error_set(&error, "the store is still being prepared");
    store_queue_take_expired(&pool->queue, clock_monotonic_ns(), &expired);
    for (struct list *link = expired.next; link != &expired; link = link->next) {
        pool->failures++;
        note_operation_latency(pool, container_of(link, struct store_operation, link));
    }
    waiting = store_queue_count(&pool->queue) != 0;
    pthread_mutex_unlock(&pool->mutex);
    join_finished(pool);
    fail_operations(&expired, &error);
    return waiting;
}

void store_pool_read_stats(struct store_pool *pool, struct store_pool_stats *stats) {
    pthread_mutex_lock(&pool->mutex);
    *stats = (struct store_pool_stats){.connections = pool->connections,
                                       .busy = pool->busy,
                                       .rejected = pool->rejected,
                                       .latency_sum_us = pool->latency_sum_us,
                                       .failures = pool->failures};
    memcpy(stats->waiting, pool->queue.counts, sizeof stats->waiting);
    memcpy(stats->latency, pool->latency, sizeof stats->latency);
    pthread_mutex_unlock(&pool->mutex);
}
