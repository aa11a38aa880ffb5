/* Deltas on real threads: connections that join, leave, change what they take, lose their texts, are left out or are
 * slow, while all workers publish. Whatever form an event has, a client reads the text that was published. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <poll.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/delta_pattern.h"
#include "channel/delta_state.h"
#include "delta_reader.h"
#include "harness.h"
#include "net/websocket.h"
#include "net/worker_loop.h"
#include "text_frames.h"

#define WORKERS 4
#define CHANNELS 3
#define PEERS_PER_WORKER 6 /* the last one of each is slow */
#define PEERS (WORKERS * PEERS_PER_WORKER)
#define CONNECTIONS (PEERS + CHANNELS)
#define KEYS 12
#define STEPS_PER_TURN 3
#define STEPS 4000
#define NOBODY (-1)

/* A connection and all bytes that it has received. The last ones are plain and always there: each tells the history of
 * its channel. */
struct peer {
    struct stream *stream;
    int client;
    unsigned number, channel;
    bool joined, slow;
    struct subscription own;
    struct buffer in;
};

struct actor {
    struct message message;
    struct worker *worker;
    unsigned index, steps_left;
    uint64_t seed;
    unsigned published;
};

static const struct slice names[CHANNELS] = {SLICE_INIT("prices"), SLICE_INIT("private-keyed"), SLICE_INIT("off")};
static const char *const settings_of_app[] = {
    "{}", "{\"private-keyed\":{\"conflation_key\":\"key\",\"max_conflation_keys\":5}}",
    "{\"private-keyed\":{\"conflation_key\":\"key\"},\"off\":\"disabled\"}",
    "{\"private-keyed\":{\"conflation_key\":\"key\",\"algorithm\":\"xdelta3\"},\"pr*\":\"xdelta3\"}"};
#define RECORDS (sizeof settings_of_app / sizeof settings_of_app[0])

static struct workers workers;
static struct channel_hub *hub;
static struct app_slot *slot;
static struct app records[RECORDS];
static struct peer peers[CONNECTIONS];
static struct actor actors[WORKERS];
static sem_t done;

/* --- connections --- */

static const struct stream_limits slow_limits = {.max_messages = 3, .drop_droppable = true};

static bool has_socket_id(const struct stream *stream, const struct socket_id *id) {
    return ((const struct peer *)stream->context)->number == id->first;
}

static void open_peer(unsigned number, unsigned worker) {
    struct peer *peer = &peers[number];
    *peer =
        (struct peer){.number = number, .slow = number < PEERS && number % PEERS_PER_WORKER == PEERS_PER_WORKER - 1};
    peer->stream = harness_open(workers.list[worker], peer, &peer->client);
    if (peer->slow) {
        harness_shrink(peer->stream->fd);
        harness_shrink(peer->client);
        stream_set_limits(peer->stream, &slow_limits);
    }
}

static void join(struct peer *peer, unsigned channel) {
    struct channel_join answers = {0};
    char text[60];

    peer->channel = channel;
    channel_subscribe(hub, slot, peer->stream, names[channel], &peer->own, &answers);
    peer->joined = true;
    snprintf(text, sizeof text, "{\"note\":\"joined\",\"channel\":%u}", channel);
    if (peer->number < PEERS && !peer->slow)
        text_frame_send(peer->stream, text);
}

static void leave(struct peer *peer) {
    channel_leave(hub, &peer->own, NULL);
    peer->joined = false;
    if (peer->number < PEERS && !peer->slow)
        text_frame_send(peer->stream, "{\"note\":\"left\"}");
}

/* --- actors --- */

/* The text names the one that does not get the event. */
static void publish(struct actor *actor) {
    static const char *const fills[] = {"", "one two three four five six seven eight nine ten", "x"};
    char data[600];
    int except = harness_random(&actor->seed, 4) == 0 ? (int)harness_random(&actor->seed, PEERS) : NOBODY;
    const struct socket_id id = {(uint64_t)except, 1};
    unsigned key = harness_random(&actor->seed, KEYS);
    struct channel_event event = {.event = harness_random(&actor->seed, 2) == 0 ? SLICE("\"a\"") : SLICE("\"b\"")};

    event.data.length = (size_t)snprintf(
        data, sizeof data,
        "{\"by\":%u,\"number\":%u,\"except\":%d,\"key\":\"key %u\",\"fill\":\"%s\",\"more\":\"%.*s\"}", actor->index,
        actor->published++, except, key, fills[harness_random(&actor->seed, 3)],
        (int)harness_random(&actor->seed, 8) * 40,
        "a part that all events have in common, more or less of it; a part that all events have in common, more or "
        "less "
        "of it; a part that all events have in common, more or less of it; a part that all events have in common, more "
        "or less of it; a part that all events have in common, more or less of it; and so on, to its end.");
    event.data.data = data;
    event.whole = harness_random(&actor->seed, 20) == 0;
    event.except_socket = except == NOBODY ? NULL : &id;
    channel_publish(hub, slot, actor->worker, names[harness_random(&actor->seed, CHANNELS)], &event, NULL);
}

static void change_takes(struct actor *actor, struct peer *peer) {
    static const enum delta_takes takes[] = {TAKES_WHOLE, TAKES_FOSSIL, TAKES_XDELTA3, TAKES_DEFAULT, TAKES_DEFAULT};

    assert_true(channel_set_deltas(hub, &peer->own, takes[harness_random(&actor->seed, 5)],
                                   harness_random(&actor->seed, 2) == 0));
}

static void act_on(struct actor *actor, struct peer *peer) {
    unsigned step = harness_random(&actor->seed, 10);

    if (peer->slow) {
        if (step < 2)
            harness_receive(peer->client, &peer->in);
        else if (step == 2)
            change_takes(actor, peer);
    } else if (!peer->joined) {
        join(peer, harness_random(&actor->seed, CHANNELS));
        if (step < 8)
            change_takes(actor, peer);
    } else if (step < 2) {
        leave(peer);
    } else if (step < 4) {
        change_takes(actor, peer);
    } else if (step < 5) {
        channel_forget_base(&peer->own);
        text_frame_send(peer->stream, "{\"note\":\"forgot\"}");
    }
}

static void step_of(struct actor *actor) {
    unsigned step = harness_random(&actor->seed, 100);

    if (step < 60)
        publish(actor);
    else if (step < 97)
        act_on(actor, &peers[actor->index * PEERS_PER_WORKER + harness_random(&actor->seed, PEERS_PER_WORKER)]);
    else if (step < 98)
        atomic_store(&slot->current, &records[harness_random(&actor->seed, RECORDS)]);
    else if (actor->index == 0)
        channel_hub_expire(hub, actor->worker->now_ms + harness_random(&actor->seed, 2) * 400000);
}

static void run_actor(struct worker *worker, struct message *message, struct message **rest) {
    struct actor *actor = container_of(message, struct actor, message);

    (void)rest;
    for (unsigned i = 0; i < STEPS_PER_TURN && actor->steps_left != 0; i++, actor->steps_left--)
        step_of(actor);
    if (actor->steps_left != 0)
        worker_post(worker, &actor->message);
    else
        sem_post(&done);
}

/* Reads what has come for those that are not slow, so that none of them becomes it. */
static void read_for_a_while(void) {
    struct pollfd poll_fds[CONNECTIONS];

    for (unsigned i = 0; i < CONNECTIONS; i++)
        poll_fds[i] = (struct pollfd){.fd = peers[i].slow ? -1 : peers[i].client, .events = POLLIN};
    poll(poll_fds, CONNECTIONS, 10);
    for (unsigned i = 0; i < CONNECTIONS; i++)
        if (!peers[i].slow)
            harness_receive(peers[i].client, &peers[i].in);
}

static void run_actors(uint64_t seed) {
    assert_int_equal(sem_init(&done, 0, 0), 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        actors[i] = (struct actor){
            .message.handle = run_actor, .worker = workers.list[i], .index = i, .steps_left = STEPS, .seed = seed + i};
        worker_post(workers.list[i], &actors[i].message);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        while (sem_trywait(&done) != 0)
            read_for_a_while();
    sem_destroy(&done);
}

/* In a turn after the one of the last event. */
static void end_worker(struct worker *worker, void *context) {
    (void)context;
    for (struct list *link = worker->streams.next; link != &worker->streams; link = link->next) {
        struct stream *stream = container_of(link, struct stream, link);
        struct peer *peer = stream->context;
        if (peer->joined)
            leave(peer);
        stream_finish(stream);
    }
    worker_stop(worker);
}

static void nothing_on(struct worker *worker, void *context) {
    (void)worker;
    (void)context;
}

static void all_are_idle(void *context) {
    (void)context;
    sem_post(&done);
}

static void stop(void) {
    assert_int_equal(sem_init(&done, 0, 0), 0);
    workers_run_on_all(&workers, &(struct worker_task){.run = nothing_on, .finished = all_are_idle});
    while (sem_trywait(&done) != 0)
        read_for_a_while();
    sem_destroy(&done);
    workers_run_on_all(&workers, &(struct worker_task){.run = end_worker});
    for (unsigned i = 0; i < CONNECTIONS; i++)
        harness_read_to_end(peers[i].client, &peers[i].in);
    workers_join(&workers);
}

/* --- what was read --- */

static bool names_peer(struct slice text, unsigned number) {
    char member[30];

    snprintf(member, sizeof member, "\"except\":%u,", number);
    return memmem(text.data, text.length, member, strlen(member)) != NULL;
}

struct counts {
    unsigned plain, numbered, deltas, xdelta3, gaps;
};

static void count_form(const struct reader_message *read, struct counts *counts) {
    counts->plain += read->form == READ_PLAIN;
    counts->numbered += read->form == READ_NUMBERED;
    counts->deltas += read->form == READ_DELTA;
    counts->xdelta3 += read->form == READ_DELTA && strcmp(read->algorithm, "xdelta3") == 0;
}

/* Checks the events of a peer against the histories of the channels: none is missing but those that it was left out of,
 * or, if it is slow, that were dropped. */
static void check_peer(const struct peer *peer, const struct text_frames *histories, struct counts *counts) {
    struct text_frames told = text_frames_of(buffer_slice(&peer->in));
    struct delta_reader reader = {0};
    const struct text_frames *history = peer->slow ? &histories[peer->channel] : NULL;
    bool placed = peer->slow;
    size_t place = 0;

    for (size_t i = 0; i < told.count; i++) {
        struct reader_message read;
        const char *wrong;
        if (slice_starts_with(told.list[i], SLICE("{\"note\":"))) {
            json_t *json = json_loadb(told.list[i].data, told.list[i].length, 0, NULL);
            const char *what = json_string_value(json_object_get(json, "note"));
            if (strcmp(what, "joined") == 0) {
                history = &histories[json_integer_value(json_object_get(json, "channel"))];
                placed = false;
            }
            delta_reader_forget(&reader);
            json_decref(json);
            continue;
        }
        wrong = delta_reader_read(&reader, told.list[i], &read);
        if (wrong != NULL)
            fail_msg("%u: %s: %.*s", peer->number, wrong, SLICE_ARGS(told.list[i]));
        count_form(&read, counts);
        assert_non_null(history);
        if (!placed) /* the first event after the join */
            for (place = 0; place < history->count && !slice_equal(history->list[place], read.text); place++)
                continue;
        placed = true;
        for (; place < history->count && !slice_equal(history->list[place], read.text); place++) {
            counts->gaps += !names_peer(history->list[place], peer->number);
            if (!peer->slow && !names_peer(history->list[place], peer->number))
                fail_msg("%u read %.*s where the history has %.*s", peer->number, SLICE_ARGS(read.text),
                         SLICE_ARGS(history->list[place]));
        }
        if (place == history->count)
            fail_msg("%u read %.*s, which is not in the history after the event before", peer->number,
                     SLICE_ARGS(read.text));
        place++;
    }
    delta_reader_forget(&reader);
    free(told.list);
}

static void make_record(unsigned index) {
    struct app *record = &records[index];
    struct error error;
    json_t *parsed = json_loads(settings_of_app[index], 0, NULL);

    *record = (struct app){.references = 1};
    record->delta_json =
        app_delta_settings_parse(parsed, &record->delta_settings, &record->delta_setting_count, NULL, NULL, &error);
    if (record->delta_json == NULL)
        fail_msg("%s", error.text);
    record->delta_name_count = app_delta_sort(record->delta_settings, record->delta_setting_count);
    json_decref(parsed);
}

static void every_client_reads_what_was_published(void **state) {
    const struct channel_hub_settings settings = {
        .group_max_messages = 64,
        .group_max_bytes = 65536,
        .has_socket_id = has_socket_id,
        .deltas = {.interval = 5, .min_size = 150, .max_age_s = 300, .max_keys = 8, .max_bytes = 24 * 1024}};
    struct text_frames histories[CHANNELS];
    struct counts counts = {0};
    struct error error;

    (void)state;
    if (!workers_create(&workers, WORKERS, &error))
        fail_msg("%s", error.text);
    hub = channel_hub_create(&workers, &settings);
    slot = app_slot_create(SLICE("42"), WORKERS);
    for (unsigned i = 0; i < RECORDS; i++)
        make_record(i);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        open_peer(i, i < PEERS ? i / PEERS_PER_WORKER : i % WORKERS);
        if (i >= PEERS || peers[i].slow)
            join(&peers[i], i % CHANNELS);
        if (peers[i].slow)
            assert_true(channel_set_deltas(hub, &peers[i].own, TAKES_DEFAULT, true));
    }
    if (!workers_start(&workers, &error))
        fail_msg("%s", error.text);
    run_actors(1000);
    stop();
    for (unsigned i = 0; i < CHANNELS; i++)
        histories[(PEERS + i) % CHANNELS] = text_frames_of(buffer_slice(&peers[PEERS + i].in));
    for (unsigned i = 0; i < PEERS; i++)
        check_peer(&peers[i], histories, &counts);
    print_message("%u plain, %u numbered, %u deltas (%u of xdelta3), %u dropped\n", counts.plain, counts.numbered,
                  counts.deltas, counts.xdelta3, counts.gaps);
    assert_true(counts.plain > 100 && counts.numbered > 100 && counts.deltas > 100 && counts.xdelta3 > 100 &&
                counts.gaps > 10);
    assert_int_equal(delta_texts_bytes(&hub->texts), 0);
    assert_int_equal(budget_app_held(slot->budget), 0);
    atomic_store(&slot->current, NULL);
    channel_hub_destroy(hub);
    app_slot_destroy(slot, channel_table_destroy);
    workers_destroy(&workers);
    for (unsigned i = 0; i < CHANNELS; i++)
        free(histories[i].list);
    for (unsigned i = 0; i < CONNECTIONS; i++)
        buffer_dispose(&peers[i].in);
    for (unsigned i = 0; i < RECORDS; i++) {
        free(records[i].delta_settings);
        json_decref(records[i].delta_json);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_client_reads_what_was_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
