#include "base/log_queue.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"

#define POLL_MS 100       /* between looks at whether the queue stops, while nothing is read */
#define GIVE_UP_MS 2000   /* after the stop, when nothing is read */
#define JOIN_MS 3000      /* for a thread that hangs in a write */
#define ABORT_WAIT_MS 500 /* for the reader, when the process aborts */
#define NS_PER_MS UINT64_C(1000000)

/* The length of an entry that is not a line, but the number of lines that were lost at this place. */
#define LOST_MARK UINT16_MAX

enum queue_state {
    QUEUE_OFF, /* lines are written directly */
    QUEUE_RUNS,
    QUEUE_ABANDONED, /* nobody reads: lines are lost */
};

static struct log_queue {
    pthread_mutex_t mutex;
    pthread_cond_t added;
    enum queue_state state;
    char *bytes;       /* entries: their length in two bytes, then the line */
    size_t head, used; /* where the oldest entry begins; the bytes of all */
    uint64_t unsaid;   /* lines that were lost, and that no entry tells of yet */
    pthread_t thread;
    log_lost_line *lost_line;

    atomic_uint_fast64_t lost;
    atomic_bool stopping;
} queue = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* --- the ring; with the mutex held --- */

static void put_queued_bytes(const void *bytes, size_t length) {
    size_t at = (queue.head + queue.used) % LOG_QUEUE_BYTES, first = LOG_QUEUE_BYTES - at;

    first = first < length ? first : length;
    memcpy(queue.bytes + at, bytes, first);
    memcpy(queue.bytes, (const char *)bytes + first, length - first);
    queue.used += length;
}

static void take_queued_bytes(void *bytes, size_t length) {
    size_t first = LOG_QUEUE_BYTES - queue.head;

    first = first < length ? first : length;
    memcpy(bytes, queue.bytes + queue.head, first);
    memcpy((char *)bytes + first, queue.bytes, length - first);
    queue.used -= length;
    /* An empty ring begins at its start again, so that a log that is read uses few pages. */
    queue.head = queue.used != 0 ? (queue.head + length) % LOG_QUEUE_BYTES : 0;
}

/* False if there is no room for the line, and for the mark in front of it. */
static bool put_queued_line(const char *line, uint16_t length) {
    const uint16_t mark = LOST_MARK;
    size_t needed = sizeof length + length + (queue.unsaid != 0 ? sizeof mark + sizeof queue.unsaid : 0);

    if (needed > LOG_QUEUE_BYTES - queue.used)
        return false;
    if (queue.unsaid != 0) {
        put_queued_bytes(&mark, sizeof mark);
        put_queued_bytes(&queue.unsaid, sizeof queue.unsaid);
        queue.unsaid = 0;
    }
    put_queued_bytes(&length, sizeof length);
    put_queued_bytes(line, length);
    return true;
}

/* Takes the oldest line, or one about lines that were lost. Returns its length; 0: there is none. */
static size_t take_queued_line(char line[LOG_LINE_MAX_BYTES]) {
    uint64_t lost = queue.unsaid;
    uint16_t length = LOST_MARK;

    if (queue.used == 0 && lost == 0)
        return 0;
    if (queue.used == 0) {
        queue.unsaid = 0;
        return queue.lost_line(lost, line);
    }
    take_queued_bytes(&length, sizeof length);
    if (length == LOST_MARK) {
        take_queued_bytes(&lost, sizeof lost);
        return queue.lost_line(lost, line);
    }
    take_queued_bytes(line, length);
    return length;
}

/* --- the writer --- */

static bool is_writable(int timeout_ms) {
    struct pollfd descriptor = {.fd = STDERR_FILENO, .events = POLLOUT};

    return poll(&descriptor, 1, timeout_ms) != 0; /* an error is told by write() */
}

/* False if the queue stops, and nothing has been read for a while. */
static bool wait_until_writable(uint64_t since_ms) {
    while (!is_writable(POLL_MS))
        if (atomic_load(&queue.stopping) && clock_monotonic_ms() >= since_ms + GIVE_UP_MS)
            return false;
    return true;
}

/* False if nobody reads. A line that cannot be written is lost. */
static bool write_line(const char *line, size_t length) {
    uint64_t since_ms = clock_monotonic_ms();

    while (length != 0) {
        ssize_t written;

        if (!wait_until_writable(since_ms))
            return false;
        written = write(STDERR_FILENO, line, length);
        if (written < 0 && errno != EINTR && errno != EAGAIN) {
            atomic_fetch_add(&queue.lost, 1);
            return true;
        }
        if (written < 0)
            continue;
        line += written;
        length -= (size_t)written;
    }
    return true;
}

/* Waits for a line; 0 when the queue has stopped and is empty, which ends it. */
static size_t next_line(char line[LOG_LINE_MAX_BYTES]) {
    size_t length;

    pthread_mutex_lock(&queue.mutex);
    while ((length = take_queued_line(line)) == 0 && !atomic_load(&queue.stopping))
        pthread_cond_wait(&queue.added, &queue.mutex);
    if (length == 0)
        queue.state = QUEUE_OFF;
    pthread_mutex_unlock(&queue.mutex);
    return length;
}

static void *run_writer(void *context) {
    char line[LOG_LINE_MAX_BYTES];
    bool read = true;
    size_t length;

    (void)context;
    while (read && (length = next_line(line)) != 0)
        read = write_line(line, length);
    return NULL;
}

/* The process aborts: writes what is left, as far as somebody reads it. The thread that aborts may hold the mutex, and
 * a signal handler must not wait for it. */
static void write_rest(int signal_number) {
    char line[LOG_LINE_MAX_BYTES];
    size_t length;

    raise(
        signal_number); /* once more, with the default action, when this returns: the signal may be another process's */
    if (pthread_mutex_trylock(&queue.mutex) != 0)
        return;
    while (queue.state == QUEUE_RUNS && (length = take_queued_line(line)) != 0 && is_writable(ABORT_WAIT_MS))
        if (write(STDERR_FILENO, line, length) < 0)
            break;
    pthread_mutex_unlock(&queue.mutex);
}

/* --- interface --- */

bool log_queue_start(log_lost_line *lost_line, struct error *error) {
    const struct sigaction on_abort = {.sa_handler = write_rest, .sa_flags = (int)SA_RESETHAND};

    queue.bytes = alloc(LOG_QUEUE_BYTES);
    queue.head = queue.used = 0;
    queue.unsaid = 0;
    queue.lost_line = lost_line;
    atomic_store(&queue.stopping, false);
    pthread_cond_init(&queue.added, NULL);
    queue.state = QUEUE_RUNS;
    if (thread_start(&queue.thread, "curlew-log", run_writer, NULL, error)) {
        sigaction(SIGABRT, &on_abort, NULL);
        return true;
    }
    queue.state = QUEUE_OFF;
    free(queue.bytes);
    return false;
}

bool log_queue_add(const char *line, size_t length) {
    enum queue_state state;
    bool fits = false, wakes;

    pthread_mutex_lock(&queue.mutex);
    state = queue.state;
    wakes = queue.used == 0;
    if (state == QUEUE_RUNS) {
        fits = put_queued_line(line, (uint16_t)length);
        queue.unsaid += !fits;
    }
    pthread_mutex_unlock(&queue.mutex);
    if (state == QUEUE_OFF)
        return false;
    if (!fits)
        atomic_fetch_add_explicit(&queue.lost, 1, memory_order_relaxed);
    if (wakes)
        pthread_cond_signal(&queue.added);
    return true;
}

void log_queue_stop(void) {
    bool ended;

    pthread_mutex_lock(&queue.mutex);
    ended = queue.state != QUEUE_RUNS;
    atomic_store(&queue.stopping, true);
    pthread_mutex_unlock(&queue.mutex);
    if (ended)
        return;
    pthread_cond_signal(&queue.added);
    ended = thread_join_until(queue.thread, clock_monotonic_ns() + JOIN_MS * NS_PER_MS);
    signal(SIGABRT, SIG_DFL);
    pthread_mutex_lock(&queue.mutex);
    if (queue.state == QUEUE_RUNS)
        queue.state = QUEUE_ABANDONED;
    pthread_mutex_unlock(&queue.mutex);
    if (ended)
        free(queue.bytes);
}

uint64_t log_queue_lost(void) {
    return atomic_load_explicit(&queue.lost, memory_order_relaxed);
}
