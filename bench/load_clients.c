#include "load_clients.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <zlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fail.h"
#include "frame.h"
#include "socket.h"
#include "upgrade.h"

#define INPUT_SIZE (256 * 1024)
/* Latency is sampled at every 16th subscriber: samples cover the server's whole walk at less cost. */
#define SAMPLE_EVERY 16
/* The server counts as stuck after this time without progress. */
#define STUCK_NS 10000000000u

#define INFLATED_EVENTS 1024
#define INFLATED_MAX 4096

struct inflated {
    struct buffer compressed, text;
};

static const char *const state_names[] = {
    [SUBSCRIBER_NEW] = "before connecting",
    [SUBSCRIBER_UPGRADING] = "waiting for the upgrade",
    [SUBSCRIBER_ESTABLISHING] = "waiting for pusher:connection_established",
    [SUBSCRIBER_SUBSCRIBING] = "waiting for pusher_internal:subscription_succeeded",
    [SUBSCRIBER_SUBSCRIBED] = "subscribed",
    [SUBSCRIBER_CLOSING] = "waiting for the end of the connection",
    [SUBSCRIBER_CLOSED] = "closed",
};

static void subscriber_ready(struct source *source, uint32_t events);

static void subscriber_move(struct subscriber *subscriber, enum subscriber_state state) {
    subscriber->clients->in_state[subscriber->state]--;
    subscriber->clients->in_state[state]++;
    subscriber->clients->progress++;
    subscriber->state = state;
}

/* Ends the program with an error: `what` happened to this subscriber, `received` is the server's data. */
static void fail_with_subscriber(struct subscriber *subscriber, const char *what, struct slice received)
    __attribute__((noreturn));

static void fail_with_subscriber(struct subscriber *subscriber, const char *what, struct slice received) {
    if (received.length > 500)
        received.length = 500;
    fail("subscriber %u of %u at %s, %s: %s; received: \"%.*s\"",
         (unsigned)(subscriber - subscriber->clients->subscribers) + 1, subscriber->clients->count,
         subscriber->clients->target->url, state_names[subscriber->state], what, SLICE_ARGS(received));
}

/* Sends `text`; bytes that the socket does not accept stay in `unsent`. */
static void subscriber_send(struct subscriber *subscriber, struct slice text) {
    ssize_t count = 0;

    if (subscriber->unsent.length == 0) {
        count = socket_send(&subscriber->source, text.data, text.length);
        if (count < 0 && errno != EAGAIN && errno != EINTR)
            fail_with_subscriber(subscriber, strerror(errno), SLICE(""));
    }
    if (count < (ssize_t)text.length)
        buffer_append(&subscriber->unsent, slice_skip(text, count > 0 ? (size_t)count : 0));
}

static void subscriber_send_unsent(struct subscriber *subscriber) {
    struct buffer waiting = subscriber->unsent;

    subscriber->unsent = (struct buffer){0};
    subscriber_send(subscriber, buffer_slice(&waiting));
    buffer_dispose(&waiting);
}

static void subscriber_send_frame(struct subscriber *subscriber, uint8_t first, struct slice payload) {
    char frame[FRAME_WRITE_ROOM];

    subscriber_send(subscriber, (struct slice){frame, frame_write(frame, first, payload)});
}

static void subscriber_start(struct subscriber *subscriber) {
    const struct target *target = subscriber->clients->target;
    struct buffer request = {0};

    subscriber->started_ns = clock_monotonic_ns();
    subscriber->source = (struct source){.ready = subscriber_ready};
    socket_open(&subscriber->source, target);
    subscriber_move(subscriber, SUBSCRIBER_UPGRADING);
    upgrade_append_request(&request, target, target->app_key);
    subscriber_send(subscriber, buffer_slice(&request));
    buffer_dispose(&request);
    poller_add(subscriber->clients->poller, &subscriber->source, POLLER_GATHERED);
}

static void subscriber_subscribe(struct subscriber *subscriber) {
    struct load_clients *clients = subscriber->clients;
    char message[FRAME_WRITE_MAX];
    int length;

    if (clients->channels == 1)
        length = snprintf(message, sizeof message, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"%s\"}}",
                          clients->channel);
    else
        length = snprintf(message, sizeof message, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"%s-%u\"}}",
                          clients->channel, (unsigned)(subscriber - clients->subscribers) % clients->channels);
    subscriber_move(subscriber, SUBSCRIBER_SUBSCRIBING);
    subscriber_send_frame(subscriber, FRAME_TEXT, (struct slice){message, (size_t)length});
}

static void subscriber_end(struct subscriber *subscriber) {
    socket_close(&subscriber->source);
    buffer_dispose(&subscriber->carry);
    buffer_dispose(&subscriber->unsent);
    subscriber_move(subscriber, SUBSCRIBER_CLOSED);
}

static bool contains(struct slice text, const char *what) {
    return memmem(text.data, text.length, what, strlen(what)) != NULL;
}

/* Handles a frame that is not an event of the generator. */
static void take_protocol_frame(struct subscriber *subscriber, const struct frame *frame) {
    struct slice text = frame->payload;

    switch (frame->first) {
    case FRAME_PING:
        subscriber_send_frame(subscriber, FRAME_PONG, text);
        return;
    case FRAME_PONG:
        return;
    case FRAME_CLOSE:
        if (subscriber->state == SUBSCRIBER_CLOSING) {
            /* The server closes first (section 7.1.1); the shutdown also helps a server that waits for the client. */
            shutdown(subscriber->source.fd, SHUT_WR);
            return;
        }
        fail_with_subscriber(subscriber, "the server sent a close frame",
                             text.length > 2 ? slice_skip(text, 2) : SLICE(""));
    case FRAME_TEXT:
        break;
    default:
        fail_with_subscriber(subscriber, "the server sent a frame that is no whole text message", text);
    }
    if (contains(text, "\"pusher:error\"") || contains(text, "\"pusher:subscription_error\"")) {
        fail_with_subscriber(subscriber, "the server refused", text);
    } else if (contains(text, "\"pusher:ping\"")) {
        subscriber_send_frame(subscriber, FRAME_TEXT, SLICE("{\"event\":\"pusher:pong\",\"data\":{}}"));
    } else if (subscriber->state == SUBSCRIBER_ESTABLISHING && contains(text, "\"pusher:connection_established\"")) {
        subscriber_subscribe(subscriber);
    } else if (subscriber->state == SUBSCRIBER_SUBSCRIBING &&
               contains(text, "\"pusher_internal:subscription_succeeded\"")) {
        subscriber_move(subscriber, SUBSCRIBER_SUBSCRIBED);
        if (subscriber->clients->latencies != NULL)
            histogram_add(subscriber->clients->latencies, clock_monotonic_ns() - subscriber->started_ns);
    } else if (contains(text, "\"pusher_internal:subscription_succeeded\"")) {
        subscriber->clients->subscribed_more++;
    }
}

static void note_wrong(struct subscriber *subscriber, struct event_identity expected, struct event_identity got) {
    struct load_clients *clients = subscriber->clients;
    unsigned publishers[2];
    uint64_t numbers[2];

    if (clients->wrong++ != 0)
        return;
    event_identity_parse(expected, &publishers[0], &numbers[0]);
    event_identity_parse(got, &publishers[1], &numbers[1]);
    snprintf(
        clients->first_wrong, sizeof clients->first_wrong,
        "subscriber %u: event %u should have been number %llu of publisher %u, and was number %llu of publisher %u",
        (unsigned)(subscriber - clients->subscribers) + 1, subscriber->position + 1, (unsigned long long)numbers[0],
        publishers[0], (unsigned long long)numbers[1], publishers[1]);
}

/* Adds the channel's next event to the record and checks that the numbers of its publisher are consecutive. */
static void put_on_record(struct subscriber *subscriber, struct event_identity got) {
    struct load_clients *clients = subscriber->clients;
    unsigned publisher;
    uint64_t number;

    event_identity_parse(got, &publisher, &number);
    if (publisher >= LOAD_CLIENTS_PUBLISHERS_MAX || number != clients->next_number[publisher]) {
        char expected[EVENT_HEADER];
        event_write(expected, publisher, publisher < LOAD_CLIENTS_PUBLISHERS_MAX ? clients->next_number[publisher] : 0);
        note_wrong(subscriber, event_identity(expected), got);
    }
    if (publisher < LOAD_CLIENTS_PUBLISHERS_MAX)
        clients->next_number[publisher] = number + 1;
    if (clients->recorded == clients->record_room) {
        clients->record_room = clients->record_room != 0 ? clients->record_room * 2 : 4096;
        clients->record = alloc_array(clients->record, clients->record_room, sizeof clients->record[0]);
    }
    clients->record[clients->recorded++] = got;
}

static void take_event(struct subscriber *subscriber, const char *data, uint64_t now_ns) {
    struct load_clients *clients = subscriber->clients;
    struct event_identity got = event_identity(data);

    if (subscriber->position == clients->recorded)
        put_on_record(subscriber, got);
    else if (!event_same(clients->record[subscriber->position], got))
        note_wrong(subscriber, clients->record[subscriber->position], got);
    subscriber->position++;
    clients->received++;
    if (now_ns != 0)
        histogram_add(clients->latencies, now_ns - event_time_ns(data));
}

/* Finds the event data in a frame: first at the offset of the last event, then by a search; NULL if there is none. */
static const char *find_event(struct load_clients *clients, struct slice payload) {
    const char *found;

    if (payload.length >= clients->data_at + EVENT_HEADER && event_has_mark(payload.data + clients->data_at))
        return payload.data + clients->data_at;
    found = memmem(payload.data, payload.length, EVENT_MARK, EVENT_MARK_LENGTH);
    if (found == NULL || (size_t)(payload.data + payload.length - found) < EVENT_HEADER)
        return NULL;
    clients->data_at = (size_t)(found - payload.data);
    return found;
}

/* Inflates a message; all subscribers get the same bytes for an event, so it is done for the first of them only. */
static struct slice inflate_event(struct subscriber *subscriber, struct slice compressed) {
    static const char tail[] = {0, 0, (char)0xff, (char)0xff}; /* left out on the wire (RFC 7692 section 7.2.2) */
    struct load_clients *clients = subscriber->clients;
    struct inflated *entry;
    z_stream stream = {0};

    if (clients->inflated == NULL)
        clients->inflated = alloc_zero(INFLATED_EVENTS * sizeof clients->inflated[0]);
    entry = &clients->inflated[subscriber->position % INFLATED_EVENTS];
    if (slice_equal(buffer_slice(&entry->compressed), compressed))
        return buffer_slice(&entry->text);
    entry->compressed.length = 0;
    buffer_append(&entry->compressed, compressed);
    buffer_append_bytes(&entry->compressed, tail, sizeof tail);
    entry->text.length = 0;
    buffer_reserve(&entry->text, INFLATED_MAX);
    stream.next_in = (Bytef *)entry->compressed.data;
    stream.avail_in = (uInt)entry->compressed.length;
    stream.next_out = (Bytef *)entry->text.data;
    stream.avail_out = INFLATED_MAX;
    if (inflateInit2(&stream, -15) != Z_OK || inflate(&stream, Z_SYNC_FLUSH) != Z_OK || stream.avail_in != 0)
        fail_with_subscriber(subscriber, "the server sent a message that does not inflate", compressed);
    entry->text.length = INFLATED_MAX - stream.avail_out;
    entry->compressed.length -= sizeof tail;
    inflateEnd(&stream);
    return buffer_slice(&entry->text);
}

/* Handles the complete frames of `text` and returns their length in bytes. */
static size_t take_frames(struct subscriber *subscriber, struct slice text) {
    struct load_clients *clients = subscriber->clients;
    bool sampled = clients->latencies != NULL && (subscriber - clients->subscribers) % SAMPLE_EVERY == 0;
    uint64_t now_ns = sampled ? clock_monotonic_ns() : 0;
    size_t at = 0, length;
    struct frame frame;

    while ((length = frame_parse(text.data + at, text.length - at, &frame)) != 0) {
        const char *data;

        if (length == SIZE_MAX)
            fail_with_subscriber(subscriber, "the server sent a masked frame", slice_skip(text, at));
        if (frame.first == FRAME_COMPRESSED_TEXT) {
            frame.payload = inflate_event(subscriber, frame.payload);
            frame.first = FRAME_TEXT;
        }
        data = frame.first == FRAME_TEXT ? find_event(clients, frame.payload) : NULL;
        if (data != NULL) {
            take_event(subscriber, data, now_ns);
            clients->received_bytes += length;
        } else {
            take_protocol_frame(subscriber, &frame);
        }
        at += length;
    }
    return at;
}

/* Handles the answer to the upgrade; returns its length, 0 if it is incomplete. */
static size_t take_upgrade(struct subscriber *subscriber, struct slice text) {
    size_t length = upgrade_answer_length(text, subscriber->clients->target->compress);

    if (length == SIZE_MAX)
        fail_with_subscriber(subscriber, "the server did not upgrade to WebSocket as RFC 6455 has it", text);
    if (length != 0)
        subscriber_move(subscriber, SUBSCRIBER_ESTABLISHING);
    return length;
}

/* Handles `text`, the carried bytes followed by the new ones. */
static void take_input(struct subscriber *subscriber, struct slice text) {
    size_t taken = 0;

    subscriber->clients->progress++;
    if (subscriber->state == SUBSCRIBER_UPGRADING)
        taken = take_upgrade(subscriber, text);
    if (subscriber->state != SUBSCRIBER_UPGRADING)
        taken += take_frames(subscriber, slice_skip(text, taken));
    if (taken == 0 && text.length == INPUT_SIZE)
        fail_with_subscriber(subscriber, "the server sent a frame or an answer that is too long for the generator",
                             text);
    subscriber->carry.length = 0;
    buffer_append(&subscriber->carry, slice_skip(text, taken));
}

static void read_input(struct subscriber *subscriber, bool to_the_end) {
    char *input = subscriber->clients->input;
    ssize_t count;
    size_t carried, room;

    do {
        carried = subscriber->carry.length;
        room = INPUT_SIZE - carried;
        if (carried != 0)
            memcpy(input, subscriber->carry.data, carried);
        count = socket_receive(&subscriber->source, input + carried, room);
        if (count < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (count <= 0 && subscriber->state == SUBSCRIBER_CLOSING) {
            subscriber_end(subscriber);
            return;
        }
        if (count <= 0)
            fail_with_subscriber(subscriber, count == 0 ? "the server closed the connection" : strerror(errno),
                                 (struct slice){input, carried});
        take_input(subscriber, (struct slice){input, carried + (size_t)count});
    } while (to_the_end || (size_t)count == room);
}

static void subscriber_ready(struct source *source, uint32_t events) {
    struct subscriber *subscriber = (struct subscriber *)source;

    if (subscriber->unsent.length != 0)
        subscriber_send_unsent(subscriber);
    if ((events & ~(uint32_t)EPOLLOUT) != 0)
        read_input(subscriber, (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
}

void load_clients_init(struct load_clients *clients, const struct target *target, struct poller *poller,
                       const char *channel, unsigned channels, unsigned count) {
    *clients = (struct load_clients){
        .target = target, .poller = poller, .channel = channel, .channels = channels, .count = count};
    clients->subscribers = alloc_zero(count * sizeof clients->subscribers[0]);
    clients->input = alloc(INPUT_SIZE);
    clients->in_state[SUBSCRIBER_NEW] = count;
    for (unsigned i = 0; i < count; i++)
        clients->subscribers[i].clients = clients;
}

/* Runs the poller until all are in `state`; calls `start` for each, with at most `in_flight` on their way to it. */
static void move_all(struct load_clients *clients, enum subscriber_state state, void (*start)(struct subscriber *),
                     unsigned in_flight) {
    enum poller_mode mode = clients->poller->mode;
    uint64_t progress = clients->progress, moved_ns = clock_monotonic_ns();
    unsigned started = 0;

    clients->poller->mode = POLLER_CONNECT;
    while (clients->in_state[state] < clients->count) {
        while (started < clients->count && started - clients->in_state[state] < in_flight)
            start(&clients->subscribers[started++]);
        poller_turn(clients->poller);
        if (clients->progress != progress) {
            progress = clients->progress;
            moved_ns = clock_monotonic_ns();
        } else if (clock_monotonic_ns() - moved_ns > STUCK_NS) {
            for (unsigned i = 0; i < started; i++)
                if (clients->subscribers[i].state != state)
                    fail_with_subscriber(&clients->subscribers[i], "nothing came for 10 s",
                                         buffer_slice(&clients->subscribers[i].carry));
        }
    }
    clients->poller->mode = mode;
}

void load_clients_open(struct load_clients *clients, unsigned in_flight) {
    move_all(clients, SUBSCRIBER_SUBSCRIBED, subscriber_start, in_flight);
}

void load_clients_subscribe_more(struct load_clients *clients, unsigned channels_each) {
    uint64_t wanted = (uint64_t)clients->count * channels_each;

    clients->poller->mode = POLLER_CONNECT;
    for (unsigned i = 0; i < clients->count; i++) {
        for (unsigned n = 0; n < channels_each; n++) {
            char message[FRAME_WRITE_MAX];
            int length = snprintf(message, sizeof message,
                                  "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"%s-more-%u-%u\"}}",
                                  clients->channel, i, n);
            subscriber_send_frame(&clients->subscribers[i], FRAME_TEXT, (struct slice){message, (size_t)length});
        }
        poller_turn(clients->poller);
    }
    while (clients->subscribed_more < wanted)
        poller_turn(clients->poller);
    clients->poller->mode = POLLER_GATHER;
}

static void subscriber_start_closing(struct subscriber *subscriber) {
    static const char normal_closure[] = {0x03, (char)0xe8}; /* status 1000 */

    subscriber_move(subscriber, SUBSCRIBER_CLOSING);
    subscriber_send_frame(subscriber, FRAME_CLOSE, (struct slice){normal_closure, sizeof normal_closure});
}

void load_clients_close(struct load_clients *clients, unsigned in_flight) {
    move_all(clients, SUBSCRIBER_CLOSED, subscriber_start_closing, in_flight);
}

void load_clients_clear_record(struct load_clients *clients) {
    for (unsigned i = 0; i < clients->count; i++)
        clients->subscribers[i].position = 0;
    clients->recorded = 0;
    clients->received = 0;
    clients->received_bytes = 0;
}

void load_clients_expect_new_publishers(struct load_clients *clients) {
    memset(clients->next_number, 0, sizeof clients->next_number);
}

bool load_clients_complete(const struct load_clients *clients, uint64_t events) {
    if (clients->received < events * clients->count)
        return false;
    for (unsigned i = 0; i < clients->count; i++)
        if (clients->subscribers[i].position != events)
            return false;
    return true;
}

void load_clients_dispose(struct load_clients *clients) {
    for (unsigned i = 0; i < clients->count; i++)
        if (clients->subscribers[i].state != SUBSCRIBER_NEW && clients->subscribers[i].state != SUBSCRIBER_CLOSED)
            subscriber_end(&clients->subscribers[i]);
    for (unsigned i = 0; clients->inflated != NULL && i < INFLATED_EVENTS; i++) {
        buffer_dispose(&clients->inflated[i].compressed);
        buffer_dispose(&clients->inflated[i].text);
    }
    free(clients->inflated);
    free(clients->subscribers);
    free(clients->record);
    free(clients->input);
}
