#include "bus_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"

enum told_kind { TOLD_UP, TOLD_DOWN, TOLD_IN_FORCE, TOLD_INTERRUPTED, TOLD_MESSAGE, TOLD_CLOSED };

/* Something that the bus has told, on its way to the main thread. */
struct told {
    struct told *next;
    enum told_kind kind;
    struct bus_message *message; /* released on the main thread */
    char text[512];              /* a subject, or why it is down */
};

/* What the thread of the loop and the main thread share. */
struct peer_shared {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct told *first, **end;
    unsigned calls_done;
    /* Of the thread alone. */
    struct bus *bus;
    struct peer_shared *publishes_for; /* told of what is in force here */
    struct loop *loop;
    uint64_t number_in_force;
};

static unsigned round_number; /* part of the names of subjects: those of an earlier test are others */

void peer_subject_name(size_t subject, char name[64]) {
    snprintf(name, 64, "bus-suite-%d-%u.s.%zu", (int)getpid(), round_number, subject);
}

/* The number of a subject; SIZE_MAX if it is of an earlier test. */
static size_t subject_of_name(struct slice name) {
    char text[64], expected[64];
    unsigned long number;

    snprintf(text, sizeof text, "%.*s", SLICE_ARGS(name));
    number = strrchr(text, '.') != NULL ? strtoul(strrchr(text, '.') + 1, NULL, 10) : 0;
    peer_subject_name(number, expected);
    return strcmp(text, expected) == 0 ? number : SIZE_MAX;
}

/* --- payloads --- */

static char payload_byte(uint64_t number, size_t at) {
    return (char)(unsigned char)(number * 31 + at * 7 + (at >> 8));
}

static struct bus_bytes *make_payload(uint64_t number, size_t length) {
    struct bus_bytes *bytes = bus_bytes_create(length);

    memcpy(bytes->data, &number, sizeof number);
    for (size_t i = sizeof number; i < length; i++)
        bytes->data[i] = payload_byte(number, i);
    return bytes;
}

/* False if it is no payload of ours. */
static bool read_payload(struct slice payload, uint64_t *number) {
    if (payload.length < sizeof *number)
        return false;
    memcpy(number, payload.data, sizeof *number);
    for (size_t i = sizeof *number; i < payload.length; i++)
        if (payload.data[i] != payload_byte(*number, i))
            return false;
    return true;
}

/* --- on the thread of the loop --- */

static void tell(struct peer_shared *shared, enum told_kind kind, struct slice text, struct bus_message *message) {
    struct told *told = alloc_zero(sizeof *told);

    told->kind = kind;
    told->message = message;
    snprintf(told->text, sizeof told->text, "%.*s", SLICE_ARGS(text));
    pthread_mutex_lock(&shared->mutex);
    *shared->end = told;
    shared->end = &told->next;
    pthread_cond_signal(&shared->changed);
    pthread_mutex_unlock(&shared->mutex);
}

static void on_bus_up(void *context) {
    tell(context, TOLD_UP, (struct slice){0}, NULL);
}

static void on_bus_down(void *context, const char *why) {
    tell(context, TOLD_DOWN, slice_of(why), NULL);
}

struct early_publish {
    struct loop_message message;
    struct peer_shared *publisher;
    uint64_t number;
    char subject[64];
};

static void publish_early(struct loop *loop, struct loop_message *message) {
    struct early_publish *early = container_of(message, struct early_publish, message);
    struct bus_bytes *bytes = make_payload(early->number, PEER_MESSAGE_MIN);

    (void)loop;
    early->publisher->bus->driver->publish(early->publisher->bus, slice_of(early->subject), bytes);
    bus_bytes_unref(bytes);
    free(early);
}

static void on_in_force(void *context, struct slice subject) {
    struct peer_shared *shared = context;

    if (shared->publishes_for != NULL) {
        struct early_publish *early = alloc_zero(sizeof *early);
        struct loop *loop = shared->publishes_for->loop;

        early->message.handle = publish_early;
        early->publisher = shared->publishes_for;
        early->number = shared->number_in_force;
        snprintf(early->subject, sizeof early->subject, "%.*s", SLICE_ARGS(subject));
        loop_post(loop, &early->message); /* which frees it */
        loop_wake(loop);
    }
    tell(shared, TOLD_IN_FORCE, subject, NULL);
}

static void on_interrupted(void *context, struct slice subject) {
    tell(context, TOLD_INTERRUPTED, subject, NULL);
}

static void on_bus_message(void *context, struct bus_message *message) {
    tell(context, TOLD_MESSAGE, message->subject, message);
}

static void on_bus_closed(void *context) {
    tell(context, TOLD_CLOSED, (struct slice){0}, NULL);
}

static void flush_bus(void *context) {
    struct peer_shared *shared = context;

    if (shared->bus != NULL)
        shared->bus->driver->flush(shared->bus);
}

/* --- calls from the main thread --- */

struct call {
    struct loop_message message;
    struct peer_shared *shared;
    void (*function)(struct peer_shared *shared, void *argument);
    void *argument;
    bool done;
};

static void handle_call(struct loop *loop, struct loop_message *message) {
    struct call *call = container_of(message, struct call, message);

    (void)loop;
    call->function(call->shared, call->argument);
    pthread_mutex_lock(&call->shared->mutex);
    call->done = true;
    pthread_cond_signal(&call->shared->changed);
    pthread_mutex_unlock(&call->shared->mutex);
}

/* Runs the function on the thread, and waits for its end. */
static void peer_call(struct peer *peer, void (*function)(struct peer_shared *shared, void *argument), void *argument) {
    struct call call = {{.handle = handle_call}, peer->shared, function, argument, false};

    loop_post(peer->loop, &call.message);
    loop_wake(peer->loop);
    pthread_mutex_lock(&peer->shared->mutex);
    while (!call.done)
        pthread_cond_wait(&peer->shared->changed, &peer->shared->mutex);
    pthread_mutex_unlock(&peer->shared->mutex);
}

static void start_bus(struct peer_shared *shared, void *argument) {
    (void)argument;
    shared->bus->driver->start(shared->bus);
}

void peer_open(struct peer *peer, const struct config *config) {
    const struct bus_driver *driver = bus_driver_find(slice_of(config->adapter.driver));
    struct bus_events events = {on_bus_up, on_bus_down, on_in_force, on_interrupted, on_bus_message, NULL};
    pthread_condattr_t attributes;
    struct error error;

    assert_non_null(driver);
    *peer = (struct peer){.shared = alloc_zero(sizeof *peer->shared)};
    pthread_mutex_init(&peer->shared->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&peer->shared->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    peer->shared->end = &peer->shared->first;
    peer->loop = peer->shared->loop = loop_create(&error);
    assert_non_null(peer->loop);
    loop_set_end_of_turn(peer->loop, flush_bus, peer->shared);
    events.context = peer->shared;
    peer->bus = driver->create(peer->loop, config, &events, &error);
    if (peer->bus == NULL)
        fail_msg("%s", error.text);
    peer->shared->bus = peer->bus;
    if (!loop_start(peer->loop, &error))
        fail_msg("%s", error.text);
    peer_call(peer, start_bus, NULL);
}

static void close_bus(struct peer_shared *shared, void *argument) {
    shared->bus->driver->close(shared->bus, *(const uint64_t *)argument, on_bus_closed, shared);
}

void peer_begin_close(struct peer *peer, uint64_t within_ms) {
    peer_call(peer, close_bus, &within_ms);
}

void peer_close(struct peer *peer) {
    const struct bus_driver *driver = peer->bus->driver;

    if (!peer->closed) {
        peer_begin_close(peer, 1000);
        PEER_WAIT(peer, peer->closed);
    }
    loop_stop(peer->loop);
    while (peer_listen(peer, 0))
        continue;
    driver->destroy(peer->bus);
    loop_destroy(peer->loop);
    pthread_mutex_destroy(&peer->shared->mutex);
    pthread_cond_destroy(&peer->shared->changed);
    free(peer->shared);
    free(peer->subjects);
    *peer = (struct peer){0};
}

struct span {
    size_t first, count;
};

static void subscribe_span(struct peer_shared *shared, void *argument) {
    const struct span *span = argument;
    char name[64];

    for (size_t i = 0; i < span->count; i++) {
        peer_subject_name(span->first + i, name);
        shared->bus->driver->subscribe(shared->bus, slice_of(name));
    }
}

static void unsubscribe_span(struct peer_shared *shared, void *argument) {
    const struct span *span = argument;
    char name[64];

    for (size_t i = 0; i < span->count; i++) {
        peer_subject_name(span->first + i, name);
        shared->bus->driver->unsubscribe(shared->bus, slice_of(name));
    }
}

void peer_subscribe(struct peer *peer, size_t first, size_t count) {
    peer_call(peer, subscribe_span, &(struct span){first, count});
}

void peer_unsubscribe(struct peer *peer, size_t first, size_t count) {
    peer_call(peer, unsubscribe_span, &(struct span){first, count});
}

struct publication {
    size_t subject, count, length, taken;
    uint64_t number;
};

static void publish_messages(struct peer_shared *shared, void *argument) {
    struct publication *publication = argument;
    char name[64];

    peer_subject_name(publication->subject, name);
    for (size_t i = 0; i < publication->count; i++) {
        struct bus_bytes *bytes = make_payload(publication->number + i, publication->length);

        publication->taken += shared->bus->driver->publish(shared->bus, slice_of(name), bytes);
        bus_bytes_unref(bytes);
    }
}

size_t peer_publish(struct peer *peer, size_t subject, uint64_t number, size_t count, size_t length) {
    struct publication publication = {subject, count, length, 0, number};

    peer_call(peer, publish_messages, &publication);
    return publication.taken;
}

struct early_setting {
    struct peer_shared *publisher;
    uint64_t number;
};

static void set_early_publish(struct peer_shared *shared, void *argument) {
    const struct early_setting *setting = argument;

    shared->publishes_for = setting->number != 0 ? setting->publisher : NULL;
    shared->number_in_force = setting->number;
}

void peer_publish_when_in_force(struct peer *peer, struct peer *other, uint64_t number) {
    peer_call(other, set_early_publish, &(struct early_setting){peer->shared, number});
}

static void read_state(struct peer_shared *shared, void *argument) {
    shared->bus->driver->state(shared->bus, argument);
}

void peer_state(struct peer *peer, struct bus_state *state) {
    peer_call(peer, read_state, state);
}

/* --- what was told --- */

void peers_renew(struct peer *peers, size_t peer_count, size_t count) {
    round_number++;
    for (size_t i = 0; i < peer_count; i++) {
        free(peers[i].subjects);
        peers[i].subjects = alloc_zero(count * sizeof *peers[i].subjects);
        peers[i].subject_count = count;
    }
}

bool peer_has_in_force(const struct peer *peer, size_t first, size_t count, unsigned times) {
    for (size_t i = first; i < first + count; i++)
        if (peer->subjects[i].in_force < times)
            return false;
    return true;
}

static void take_message(struct peer_subject *subject, struct slice payload) {
    uint64_t number;

    if (!read_payload(payload, &number)) {
        subject->damaged++;
        return;
    }
    if (subject->messages++ == 0) {
        subject->first = number;
    } else {
        subject->unordered += number <= subject->last;
        subject->gaps += number != subject->last + 1;
    }
    subject->last = number;
}

static void take_told(struct peer *peer, const struct told *told) {
    size_t index = subject_of_name(slice_of(told->text));
    struct peer_subject *subject = index < peer->subject_count ? &peer->subjects[index] : NULL;

    switch (told->kind) {
    case TOLD_UP:
        peer->ups++;
        break;
    case TOLD_DOWN:
        peer->downs++;
        snprintf(peer->why, sizeof peer->why, "%s", told->text);
        break;
    case TOLD_IN_FORCE:
        if (subject != NULL)
            subject->in_force++;
        break;
    case TOLD_INTERRUPTED:
        if (subject != NULL)
            subject->interrupted++;
        break;
    case TOLD_MESSAGE:
        if (subject != NULL)
            take_message(subject, told->message->payload);
        break;
    case TOLD_CLOSED:
        peer->closed = true;
        break;
    }
}

/* All that was told, in order; NULL if there is nothing until the deadline. */
static struct told *wait_for_told(struct peer_shared *shared, uint64_t deadline_ms) {
    struct timespec until = {(time_t)(deadline_ms / 1000), (long)(deadline_ms % 1000) * 1000000};
    struct told *first;

    pthread_mutex_lock(&shared->mutex);
    while (shared->first == NULL && clock_monotonic_ms() < deadline_ms)
        pthread_cond_timedwait(&shared->changed, &shared->mutex, &until);
    first = shared->first;
    shared->first = NULL;
    shared->end = &shared->first;
    pthread_mutex_unlock(&shared->mutex);
    return first;
}

bool peer_listen(struct peer *peer, uint64_t deadline_ms) {
    struct told *told = wait_for_told(peer->shared, deadline_ms);
    bool any = told != NULL;

    while (told != NULL) {
        struct told *next = told->next;

        take_told(peer, told);
        if (told->message != NULL)
            told->message->release(told->message);
        free(told);
        told = next;
    }
    return any;
}
