#include "harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/budget.h"
#include "base/clock.h"
#include "net/worker_loop.h"

#define TURNS_MAX 10000

static __thread uint64_t allocations;
static __thread size_t failing_size;
static atomic_uint thread_failures; /* failures of pthread_create still to come */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_reallocarray(void *old, size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size) {
    allocations++;
    if (size == failing_size && size != 0)
        return NULL;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    allocations++;
    return __real_calloc(count, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    allocations++;
    return __real_aligned_alloc(alignment, size);
}

void *__wrap_reallocarray(void *old, size_t count, size_t size) {
    allocations++;
    return __real_reallocarray(old, count, size);
}

void *__wrap_realloc(void *old, size_t size) {
    allocations++;
    return __real_realloc(old, size);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context) {
    unsigned failures = atomic_load(&thread_failures);

    while (failures != 0)
        if (atomic_compare_exchange_weak(&thread_failures, &failures, failures - 1))
            return EAGAIN;
    return __real_pthread_create(thread, attributes, run, context);
}

void harness_fail_malloc(size_t size) {
    failing_size = size;
}

void harness_fail_threads(unsigned count) {
    atomic_store(&thread_failures, count);
}

uint64_t harness_allocations(void) {
    return allocations;
}

void harness_create(struct workers *workers, unsigned count) {
    struct error error;

    if (!workers_create(workers, count, &error))
        fail_msg("%s", error.text);
    for (unsigned i = 0; i < count; i++) {
        struct worker *worker = workers->list[i];
        worker->now_ms = clock_monotonic_ms() / 1000 * 1000;
        worker->now_ns = worker->now_ms * 1000000;
        timer_wheel_init(&worker->timers, worker->now_ms);
    }
}

static void close_stream(struct stream *stream, void *context) {
    (void)context;
    stream_close(stream);
}

/* Without connections nothing that belongs to them may be left in the account of memory. */
static void assert_account_is_empty(void) {
    static const enum budget_kind kinds[] = {BUDGET_BODIES, BUDGET_INPUT, BUDGET_CONNECTIONS, BUDGET_TLS,
                                             BUDGET_COMPRESSION};

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (budget_used(kinds[i]) != 0)
            fail_msg("%llu bytes of %s are left in the account", (unsigned long long)budget_used(kinds[i]),
                     budget_kind_names[kinds[i]]);
}

void harness_destroy(struct workers *workers) {
    bool more = true;

    for (unsigned i = 0; i < workers->count; i++)
        streams_each(workers->list[i], close_stream, NULL);
    while (more) {
        more = false;
        for (unsigned i = 0; i < workers->count; i++) {
            harness_settle(workers->list[i]);
            timer_fire_all(&workers->list[i]->timers);
        }
        for (unsigned i = 0; i < workers->count; i++)
            more = more || atomic_load(&workers->list[i]->mailbox.head) != NULL;
    }
    workers_destroy(workers);
    assert_account_is_empty();
}

int harness_turn(struct worker *worker) {
    int count = (int)worker_poll(worker, 0);

    worker_turn(worker);
    return count;
}

void harness_settle(struct worker *worker) {
    unsigned quiet = 0; /* turns without events; the end of a turn may cause input in the next one */

    for (unsigned i = 0; i < TURNS_MAX && quiet < 2; i++) {
        bool busy = harness_turn(worker) != 0 || atomic_load(&worker->mailbox.head) != NULL;
        quiet = busy || worker_has_work(worker) ? 0 : quiet + 1;
    }
    if (quiet == 2)
        return;
    fail_msg("the loop does not come to rest");
}

void harness_settle_all(const struct workers *workers) {
    for (unsigned i = 0; i < workers->count; i++)
        harness_settle(workers->list[i]);
}

void harness_advance(struct worker *worker, uint64_t ms) {
    harness_settle(worker);
    while (ms != 0) {
        uint64_t step = ms < 1000 ? ms : 1000;
        ms -= step;
        worker->now_ms += step;
        worker->now_ns = worker->now_ms * 1000000;
        harness_settle(worker);
    }
}

struct stream *harness_stream(struct worker *worker, int fd, const struct stream_handler *handler, void *context) {
    return stream_create(worker, fd, NULL, handler, context);
}

static size_t ignore_data(struct stream *stream, uint8_t *data, size_t length) {
    (void)stream;
    (void)data;
    return length;
}

static void ignore_event(struct stream *stream) {
    (void)stream;
}

struct stream *harness_open(struct worker *worker, void *context, int *client) {
    static const struct stream_handler handler = {ignore_data, ignore_event, ignore_event, ignore_event, ignore_event};
    struct stream *stream;
    int server;

    harness_pair(&server, client);
    stream = harness_stream(worker, server, &handler, context);
    assert_non_null(stream);
    return stream;
}

void harness_close(struct stream *stream, int client) {
    stream_close(stream);
    streams_flush(stream->worker);
    close(client);
}

int harness_http(struct worker *worker, const struct http_handler *handler) {
    int server, client;

    harness_pair(&server, &client);
    http_accept(worker, server, NULL, handler);
    return client;
}

void harness_pair(int *server, int *client) {
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
        fail_msg("no sockets to be had");
    *server = ends[0];
    *client = ends[1];
}

void harness_shrink(int fd) {
    int least = 1;

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof least), 0);
}

void harness_send(struct worker *worker, int fd, struct slice text) {
    for (unsigned i = 0; i < TURNS_MAX && text.length != 0; i++) {
        ssize_t sent = send(fd, text.data, text.length, MSG_NOSIGNAL);
        if (sent > 0)
            text = slice_skip(text, (size_t)sent);
        else if (errno != EAGAIN)
            fail_msg("the client cannot send: errno %d", errno);
        else
            harness_turn(worker);
    }
    if (text.length != 0)
        fail_msg("the server does not read");
}

bool harness_receive(int fd, struct buffer *in) {
    for (;;) {
        ssize_t length;

        buffer_reserve(in, 65536);
        length = recv(fd, in->data + in->length, in->capacity - in->length, 0);
        if (length < 0 && errno == EAGAIN)
            return true;
        if (length <= 0)
            return false;
        in->length += (size_t)length;
    }
}

void harness_receive_to_end(struct worker *worker, int fd, struct buffer *in) {
    for (unsigned i = 0; i < TURNS_MAX; i++) {
        if (!harness_receive(fd, in))
            return;
        harness_turn(worker);
    }
    fail_msg("the server does not close");
}

void harness_read_to_end(int fd, struct buffer *in) {
    struct pollfd polled = {.fd = fd, .events = POLLIN};

    while (harness_receive(fd, in))
        poll(&polled, 1, -1);
    close(fd);
}

uint32_t harness_random(uint64_t *seed, uint32_t limit) {
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*seed >> 33) % limit);
}
