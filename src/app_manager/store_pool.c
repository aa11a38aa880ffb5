#include "app_manager/store_pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#define NS_PER_MS UINT64_C(1000000)
#define BACKOFF_FIRST_MS 100  /* doubling */
#define BACKOFF_LAST_MS 10000 /* of all threads but one */
#define BACKOFF_SCOUT_MS 1000 /* of the first one, so that a store that is back is found soon */
#define PREPARE_TIMEOUT_MS 60000

const uint32_t store_latency_bounds_us[STORE_LATENCY_BUCKETS - 1] = {250,    1000,   2500,    10000,  25000,
                                                                     100000, 500000, 2500000, 5000000};

struct pool_thread {
    struct store_pool *pool;
    struct pool_thread *next; /* of pool->leaving */
    pthread_t id;
    struct store_connection *connection; /* NULL: none */
    bool scout;                          /* the first thread */
    uint32_t backoff_ms;                 /* 0: the last attempt to connect succeeded */
    uint64_t retry_ns;
    uint64_t rescued; /* the pool's count of successful connects when the back-off began */
};

enum pool_prepared { POOL_UNPREPARED, POOL_PREPARING, POOL_PREPARED };

struct store_pool {
    struct store_pool_settings settings;
    pthread_mutex_t mutex;
    pthread_cond_t work;  /* something for threads: an operation, the end, a store that answers again */
    pthread_cond_t ended; /* a thread has ended */
    struct list queues[STORE_PRIORITY_COUNT];
    unsigned waiting[STORE_PRIORITY_COUNT];
    unsigned threads, idle, connections, busy;
    unsigned opening;            /* threads that open a connection without being asked for one */
    struct pool_thread *leaving; /* threads that have ended but for their last breath, to be joined */
    enum pool_prepared prepared;
    uint64_t connects;       /* successful ones: threads that back off try again when it changes */
    bool unreachable;        /* no connection, and the last attempt failed */
    struct error last_error; /* why */
    bool stopping;
    int cancel_fd;
    uint64_t turned_away, failures, latency[STORE_LATENCY_BUCKETS], latency_sum_us;
};

static void *thread_run(void *argument);

struct store_pool *store_pool_create(const struct store_pool_settings *settings) {
    struct store_pool *pool = alloc_zero(sizeof *pool);
    pthread_condattr_t attributes;

    pool->settings = *settings;
    pool->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->work, &attributes);
    pthread_cond_init(&pool->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    for (unsigned i = 0; i < STORE_PRIORITY_COUNT; i++)
        list_init(&pool->queues[i]);
    return pool;
}

void store_pool_destroy(struct store_pool *pool) {
    pthread_cond_destroy(&pool->ended);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
    if (pool->cancel_fd >= 0)
        close(pool->cancel_fd);
    free(pool);
}

int store_pool_stop_fd(const struct store_pool *pool) {
    return pool->cancel_fd;
}

/* --- threads come and go; all with the mutex held --- */

static void start_thread(struct store_pool *pool) {
    struct pool_thread *thread = alloc_zero(sizeof *thread);
    sigset_t all, before;

    thread->pool = pool;
    thread->scout = pool->threads == 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread->id, NULL, thread_run, thread) == 0)
        pool->threads++;
    else
        free(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Waits for the very end of threads that are leaving. Without the mutex. */
static void join_leaving(struct store_pool *pool) {
    struct pool_thread *thread;

    pthread_mutex_lock(&pool->mutex);
    thread = pool->leaving;
    pool->leaving = NULL;
    pthread_mutex_unlock(&pool->mutex);
    while (thread != NULL) {
        struct pool_thread *next = thread->next;
        pthread_join(thread->id, NULL);
        free(thread);
        thread = next;
    }
}

static unsigned waiting_count(const struct store_pool *pool) {
    return pool->waiting[STORE_URGENT] + pool->waiting[STORE_KNOWN] + pool->waiting[STORE_UNKNOWN];
}

static struct store_operation *take_operation(struct store_pool *pool) {
    for (unsigned i = 0; i < STORE_PRIORITY_COUNT; i++) {
        struct list *first = pool->queues[i].next;
        if (list_empty(&pool->queues[i]))
            continue;
        list_remove(first);
        pool->waiting[i]--;
        return container_of(first, struct store_operation, link);
    }
    return NULL;
}

/* Moves all that waits to `taken`. */
static void take_all(struct store_pool *pool, struct list *taken) {
    for (unsigned i = 0; i < STORE_PRIORITY_COUNT; i++) {
        list_move_all(&pool->queues[i], taken);
        pool->waiting[i] = 0;
    }
}

static void note_latency(struct store_pool *pool, const struct store_operation *operation) {
    uint64_t took_us = (clock_monotonic_ns() - operation->began_ns) / 1000;
    unsigned bucket = 0;

    while (bucket < STORE_LATENCY_BUCKETS - 1 && took_us > store_latency_bounds_us[bucket])
        bucket++;
    pool->latency[bucket]++;
    pool->latency_sum_us += took_us;
}

/* Finishes operations that no connection can be had for. Without the mutex. */
static void fail_all(struct list *operations, const struct error *error) {
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
    pool->settings.driver->disconnect(thread->connection);
    thread->connection = NULL;
    pthread_mutex_lock(&pool->mutex);
    pool->connections--;
    pthread_cond_broadcast(&pool->work); /* is it one of the least that is kept? */
    pthread_mutex_unlock(&pool->mutex);
}

/* The first connection prepares the store, the others wait until that is done. True if it is this thread's turn. */
static bool take_turn_to_prepare(struct store_pool *pool) {
    bool mine;

    pthread_mutex_lock(&pool->mutex);
    while (pool->prepared == POOL_PREPARING && !pool->stopping)
        pthread_cond_wait(&pool->work, &pool->mutex);
    mine = pool->prepared == POOL_UNPREPARED;
    if (mine)
        pool->prepared = POOL_PREPARING;
    pthread_mutex_unlock(&pool->mutex);
    return mine;
}

static bool prepare(struct store_pool *pool, struct store_connection *connection, struct error *error) {
    const struct deadline deadline = deadline_after(PREPARE_TIMEOUT_MS, pool->cancel_fd);

    return pool->settings.driver->prepare(connection, &deadline, error) == STORE_OK &&
           (pool->settings.prepared == NULL ||
            pool->settings.prepared(pool->settings.context, connection, pool->cancel_fd, error));
}

static struct store_connection *connect_and_prepare(struct store_pool *pool, const struct deadline *deadline,
                                                    struct error *error) {
    const struct app_store_driver *driver = pool->settings.driver;
    bool first = take_turn_to_prepare(pool);
    struct store_connection *connection = driver->connect(pool->settings.store, deadline, error);

    if (!first)
        return connection;
    if (connection != NULL && !prepare(pool, connection, error)) {
        driver->disconnect(connection);
        connection = NULL;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->prepared = connection != NULL ? POOL_PREPARED : POOL_UNPREPARED;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    return connection;
}

static void connected(struct pool_thread *thread) {
    struct store_pool *pool = thread->pool;

    thread->backoff_ms = 0;
    pthread_mutex_lock(&pool->mutex);
    pool->connections++;
    pool->connects++;
    pool->unreachable = false;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
}

static void not_connected(struct pool_thread *thread, const struct error *error) {
    struct store_pool *pool = thread->pool;
    uint32_t last_ms = thread->scout ? BACKOFF_SCOUT_MS : BACKOFF_LAST_MS;
    struct list failed;
    bool unreachable;

    list_init(&failed);
    thread->backoff_ms = thread->backoff_ms == 0 ? BACKOFF_FIRST_MS : thread->backoff_ms * 2;
    if (thread->backoff_ms > last_ms)
        thread->backoff_ms = last_ms;
    thread->retry_ns = clock_monotonic_ns() + thread->backoff_ms * NS_PER_MS;
    pthread_mutex_lock(&pool->mutex);
    thread->rescued = pool->connects;
    unreachable = pool->connections == 0 && !pool->stopping;
    if (unreachable) {
        pool->unreachable = true;
        pool->last_error = *error;
        pool->failures += waiting_count(pool);
        take_all(pool, &failed);
    }
    pthread_mutex_unlock(&pool->mutex);
    if (unreachable && pool->settings.unreachable != NULL)
        pool->settings.unreachable(pool->settings.context, error);
    fail_all(&failed, error);
}

/* Sees to it that the thread has a connection; false with an error when there is none to be had now. */
static bool need_connection(struct pool_thread *thread, const struct deadline *deadline, struct error *error) {
    if (thread->connection != NULL)
        return true;
    thread->connection = connect_and_prepare(thread->pool, deadline, error);
    if (thread->connection != NULL)
        connected(thread);
    else
        not_connected(thread, error);
    return thread->connection != NULL;
}

/* --- operations --- */

static enum store_answer attempt(struct pool_thread *thread, struct store_operation *operation,
                                 const struct deadline *deadline, struct error *error) {
    const struct app_store_driver *driver = thread->pool->settings.driver;
    enum store_answer answer;

    if (!need_connection(thread, deadline, error))
        return STORE_UNAVAILABLE;
    answer = operation->run(operation, driver, thread->connection, deadline, error);
    if (answer == STORE_UNAVAILABLE)
        drop_connection(thread);
    return answer;
}

/* A write cannot be repeated, so a connection that may have died in the meantime is tried with something harmless. */
static void check_before_write(struct pool_thread *thread, const struct deadline *deadline) {
    struct error ignored;

    if (thread->connection != NULL &&
        thread->pool->settings.driver->check_health(thread->connection, deadline, &ignored) == STORE_UNAVAILABLE)
        drop_connection(thread);
}

static enum store_answer run_operation(struct pool_thread *thread, struct store_operation *operation,
                                       struct error *error) {
    const struct deadline deadline = {.ends_ns = operation->deadline_ns, .cancel_fd = thread->pool->cancel_fd};
    enum store_answer answer;
    bool again;

    if (deadline_passed(&deadline)) {
        error_set(error, "no connection to the store was free in time");
        return STORE_UNAVAILABLE;
    }
    operation->asked = true;
    if (!operation->repeatable)
        check_before_write(thread, &deadline);
    again = operation->repeatable && thread->connection != NULL;
    answer = attempt(thread, operation, &deadline, error);
    if (answer == STORE_UNAVAILABLE && again && !deadline_passed(&deadline))
        answer = attempt(thread, operation, &deadline, error);
    return answer;
}

static void do_operation(struct pool_thread *thread, struct store_operation *operation) {
    struct store_pool *pool = thread->pool;
    struct error error = {0};
    enum store_answer answer = run_operation(thread, operation, &error);

    pthread_mutex_lock(&pool->mutex);
    note_latency(pool, operation);
    pool->failures += answer == STORE_UNAVAILABLE;
    pthread_mutex_unlock(&pool->mutex);
    operation->finished(operation, answer, &error);
}

/* --- a thread's life --- */

static struct timespec timespec_of(uint64_t ns) {
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
}

/* A connection of the least that is kept, to be opened without being asked for. */
static bool wants_connection(const struct pool_thread *thread) {
    const struct store_pool *pool = thread->pool;

    return thread->connection == NULL && (pool->connections + pool->opening < pool->settings.min ||
                                          pool->prepared == POOL_UNPREPARED || pool->unreachable);
}

static bool backs_off(const struct pool_thread *thread) {
    return thread->connection == NULL && thread->backoff_ms != 0 && thread->rescued == thread->pool->connects &&
           clock_monotonic_ns() < thread->retry_ns;
}

/* A thread, and a connection if it has one, beyond what is kept without work. What waits for the store to be prepared
 * is work: who submitted it started threads for it, and nobody will again. */
static bool is_spare(const struct pool_thread *thread) {
    const struct store_pool *pool = thread->pool;

    return !thread->scout && pool->threads > pool->settings.min && waiting_count(pool) == 0 &&
           (thread->connection == NULL || pool->connections > pool->settings.min);
}

enum pool_duty { POOL_END, POOL_CONNECT, POOL_OPERATE };

/* Waits until there is something to do. With the mutex held. */
static enum pool_duty next_duty(struct pool_thread *thread, struct store_operation **operation) {
    struct store_pool *pool = thread->pool;
    uint64_t idle_end_ns = clock_monotonic_ns() + pool->settings.idle_ms * NS_PER_MS;

    for (;;) {
        bool waits_to_connect = backs_off(thread), spare = is_spare(thread);
        uint64_t until_ns = waits_to_connect ? thread->retry_ns : idle_end_ns;
        struct timespec until = timespec_of(until_ns);

        if (pool->stopping)
            return POOL_END;
        /* Until the store is prepared, which may take longer, operations wait in the queue, where their time is
         * watched. */
        if (!waits_to_connect && pool->prepared == POOL_PREPARED && (*operation = take_operation(pool)) != NULL)
            return POOL_OPERATE;
        if (!waits_to_connect && wants_connection(thread))
            return POOL_CONNECT;
        if (spare && clock_monotonic_ns() >= idle_end_ns)
            return POOL_END;
        pool->idle += !waits_to_connect;
        if (waits_to_connect || spare)
            pthread_cond_timedwait(&pool->work, &pool->mutex, &until);
        else
            pthread_cond_wait(&pool->work, &pool->mutex);
        pool->idle -= !waits_to_connect;
    }
}

/* Opens a connection that nobody has asked for yet. */
static void connect_unasked(struct pool_thread *thread) {
    struct store_pool *pool = thread->pool;
    const struct deadline deadline = deadline_after(pool->settings.timeout_ms, pool->cancel_fd);
    struct error error = {0};

    need_connection(thread, &deadline, &error);
}

static void *thread_run(void *argument) {
    struct pool_thread *thread = argument;
    struct store_pool *pool = thread->pool;
    struct store_operation *operation;
    enum pool_duty duty;

    pthread_mutex_lock(&pool->mutex);
    while ((duty = next_duty(thread, &operation)) != POOL_END) {
        pool->busy++;
        pool->opening += duty == POOL_CONNECT;
        pthread_mutex_unlock(&pool->mutex);
        if (duty == POOL_OPERATE)
            do_operation(thread, operation);
        else
            connect_unasked(thread);
        pthread_mutex_lock(&pool->mutex);
        pool->busy--;
        if (duty == POOL_CONNECT) {
            pool->opening--;
            pthread_cond_broadcast(&pool->work); /* another thread's turn, if there are still too few */
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    drop_connection(thread);
    pthread_mutex_lock(&pool->mutex);
    thread->next = pool->leaving;
    pool->leaving = thread;
    pool->threads--;
    pthread_cond_signal(&pool->ended);
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

void store_pool_start(struct store_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    do
        start_thread(pool);
    while (pool->threads != 0 && pool->threads < pool->settings.min);
    pthread_mutex_unlock(&pool->mutex);
}

bool store_pool_stop(struct store_pool *pool) {
    const struct error error = {"the server stops"};
    const struct timespec until = timespec_of(clock_monotonic_ns() + STORE_END_MS * NS_PER_MS);
    struct list left;
    bool ended;

    list_init(&left);
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    eventfd_write(pool->cancel_fd, 1);
    pthread_cond_broadcast(&pool->work);
    while (pool->threads != 0 && pthread_cond_timedwait(&pool->ended, &pool->mutex, &until) == 0)
        continue;
    ended = pool->threads == 0;
    take_all(pool, &left);
    pthread_mutex_unlock(&pool->mutex);
    join_leaving(pool);
    fail_all(&left, &error);
    return ended;
}

/* --- submitting --- */

/* Whether the operation may wait for a connection; if not, `error` says why. With the mutex held. */
static bool admit(struct store_pool *pool, const struct store_operation *operation, struct error *error) {
    if (pool->stopping)
        return error_set(error, "the server stops");
    if (pool->unreachable) {
        *error = pool->last_error;
        pool->failures++;
        return false;
    }
    if (operation->priority == STORE_UNKNOWN && pool->waiting[STORE_UNKNOWN] >= STORE_UNKNOWN_WAITING_MAX) {
        pool->turned_away++;
        return error_set(error, "%u lookups wait already", STORE_UNKNOWN_WAITING_MAX);
    }
    return true;
}

void store_pool_submit(struct store_pool *pool, struct store_operation *operation, uint32_t timeout_ms) {
    struct error error;
    bool admitted;

    operation->asked = false;
    operation->began_ns = clock_monotonic_ns();
    operation->deadline_ns =
        operation->began_ns + (timeout_ms != 0 ? timeout_ms : pool->settings.timeout_ms) * NS_PER_MS;
    pthread_mutex_lock(&pool->mutex);
    admitted = admit(pool, operation, &error);
    if (admitted) {
        list_append(&pool->queues[operation->priority], &operation->link);
        pool->waiting[operation->priority]++;
        if (waiting_count(pool) > pool->idle && pool->threads < pool->settings.max)
            start_thread(pool);
        pthread_cond_broadcast(&pool->work); /* a thread that backs off may be the one that a signal wakes */
    }
    pthread_mutex_unlock(&pool->mutex);
    if (!admitted)
        operation->finished(operation, STORE_UNAVAILABLE, &error);
}

void store_pool_expire(struct store_pool *pool) {
    struct error error = {"no connection to the store was free in time"};
    uint64_t now_ns = clock_monotonic_ns();
    struct list expired;

    list_init(&expired);
    pthread_mutex_lock(&pool->mutex);
    if (pool->prepared != POOL_PREPARED)
        error_set(&error, "the store is still being prepared");
    for (unsigned i = 0; i < STORE_PRIORITY_COUNT; i++) {
        struct list *link = pool->queues[i].next, *next;
        for (; link != &pool->queues[i]; link = next) {
            next = link->next;
            if (container_of(link, struct store_operation, link)->deadline_ns > now_ns)
                continue;
            list_remove(link);
            list_append(&expired, link);
            pool->waiting[i]--;
            pool->failures++;
            note_latency(pool, container_of(link, struct store_operation, link));
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    join_leaving(pool);
    fail_all(&expired, &error);
}

void store_pool_look(struct store_pool *pool, struct store_pool_status *status) {
    pthread_mutex_lock(&pool->mutex);
    *status = (struct store_pool_status){.connections = pool->connections,
                                         .busy = pool->busy,
                                         .turned_away = pool->turned_away,
                                         .latency_sum_us = pool->latency_sum_us,
                                         .failures = pool->failures};
    for (unsigned i = 0; i < STORE_PRIORITY_COUNT; i++)
        status->waiting[i] = pool->waiting[i];
    for (unsigned i = 0; i < STORE_LATENCY_BUCKETS; i++)
        status->latency[i] = pool->latency[i];
    pthread_mutex_unlock(&pool->mutex);
}
