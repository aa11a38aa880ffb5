/*
 * Any messages on an established session, with another session in the same channels: every frame to either client is
 * complete and contains JSON, members are added and removed alternately, and no state is left when both have closed.
 * The other session stays from one input to the next, which halves the time of a run; it begins each one in the same
 * state. That the tested session connects is no part of the coverage, since each input begins with it.
 *
 * Each line of the input is a message of one client, up to the 16th. Longer inputs reached no more code; libFuzzer
 * keeps them because they run the same code more often.
 *
 *   +CHANNEL|DATA   pusher:subscribe with `channel_data` DATA (none without `|`), with a valid signature
 *   !DATA           pusher:signin with `user_data` DATA, with a valid signature
 *   ~               the other client leaves presence-room or joins it again
 *   anything else   is sent unchanged
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "plain_json.h"

#include "base/crypto.h"
#include "base/utf8.h"
#include "coverage.h"
#include "loop.h"
#include "net/worker_loop.h"
#include "session/session.h"

#define SECRET "secret"
#define OBSERVER_RUNS 256 /* inputs for which the observer stays */
#define MESSAGES_MAX 16   /* the lines of an input that are sent */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct client {
    struct memory_socket *socket;
    char socket_id[48];
    bool in_room;       /* subscribed to presence-room; kept for the observer only */
    bool other_in_room; /* another user is in it, by the member list and the events after it */
    bool closed;        /* a close frame was received */
};

static struct workers workers;
static struct config config;
static struct session_server server;
static struct hmac_key key;
static struct client actor, observer;

static void on_request(struct http_connection *connection, struct http_request *request) {
    session_accept(&server, connection, request, request->path);
}

static void on_abort(struct http_connection *connection) {
    (void)connection;
}

static const struct http_handler handler = {.on_request = on_request, .on_abort = on_abort, .max_body_bytes = 1000};

static void ignore_changes(struct worker *worker, void *context) {
    (void)worker;
    (void)context;
}

static const struct app_manager_hooks hooks = {
    .changed = ignore_changes, .free_channels = channel_table_destroy, .channels_empty = channel_table_empty};

static void start(void) {
    const struct channel_hub_settings settings = {.cache_ttl_s = 60,
                                                  .cache_max_channels = 3,
                                                  .group_max_messages = 64,
                                                  .group_max_bytes = 65536,
                                                  .deltas = {.interval = 3, .max_keys = 2, .max_bytes = 4096},
                                                  .filters = true,
                                                  .terminate = session_terminate,
                                                  .has_socket_id = session_has_socket_id};

    MUST(workers_create(&workers, 1, NULL));
    config.activity_timeout_s = 120;
    config.delta_compression.enabled = true;
    config.tag_filtering.enabled = true;
    config.app_manager.array_apps = json_pack(
        "[{s:s, s:s, s:s, s:b, s:b, s:i, s:i, s:i, s:i, s:[{s:s, s:[s]}]}]", "id", "1", "key", "key", "secret", SECRET,
        "enable_client_messages", 1, "enable_watchlist_events", 1, "max_presence_members_per_channel", 2,
        "max_event_name_length", 50, "max_event_payload_in_kb", 1, "max_channel_name_length", 60, "webhooks", "url",
        "http://127.0.0.1/", "event_types", "subscription_count");
    MUST(config.app_manager.array_apps != NULL);
    session_server_init(&server);
    server.config = &config;
    server.apps = app_manager_create(&config, &workers, &hooks, NULL);
    MUST(server.apps != NULL);
    server.channels = channel_hub_create(&workers, &settings);
    server.limits = (struct websocket_limits){.max_message_bytes = 8000, .max_frame_bytes = 8000};
    hmac_key_init(&key, SLICE(SECRET));
}

/* --- messages from the server --- */

/* Checks member events: an added member was not there, a removed one was. There are only two clients. */
static void follow_room(struct client *client, struct slice event, struct slice data) {
    if (slice_equal(event, SLICE("pusher_internal:subscription_succeeded"))) {
        client->other_in_room = !slice_starts_with(data, SLICE("{\"presence\":{\"count\":1,"));
    } else if (slice_equal(event, SLICE("pusher_internal:member_added"))) {
        MUST(!client->other_in_room);
        client->other_in_room = true;
    } else if (slice_equal(event, SLICE("pusher_internal:member_removed"))) {
        MUST(client->other_in_room);
        client->other_in_room = false;
    }
}

/* Reads the members of a message: `event`, `channel` and `data`, each empty if it is not a string. */
static void read_message(struct slice text, struct buffer storage[3], struct slice members[3]) {
    static const struct slice names[3] = {SLICE_INIT("event"), SLICE_INIT("channel"), SLICE_INIT("data")};
    struct json_value values[3];

    MUST(json_scan_object(text, names, values, 3, NULL));
    for (unsigned i = 0; i < 3; i++) {
        storage[i].length = 0;
        members[i] = values[i].type == JSON_TYPE_STRING ? json_decode_string(values[i], &storage[i]) : SLICE("");
    }
}

static void keep_socket_id(struct client *client, struct slice data) {
    static const struct slice name = SLICE_INIT("socket_id");
    struct buffer storage = {0};
    struct json_value value;
    struct slice id;

    MUST(json_scan_object(data, &name, &value, 1, NULL) && value.type == JSON_TYPE_STRING);
    id = json_decode_string(value, &storage);
    MUST(id.length < sizeof client->socket_id);
    memcpy(client->socket_id, id.data, id.length);
    client->socket_id[id.length] = '\0';
    buffer_dispose(&storage);
}

static void check_text(struct client *client, struct slice text) {
    static struct buffer storage[3];
    struct slice members[3], event, channel, data;
    struct json_value value;

    MUST(utf8_valid(text));
    read_message(text, storage, members);
    event = members[0];
    channel = members[1];
    data = members[2];
    MUST(event.length != 0);
    /* Events of the protocol have a string with JSON as data. */
    if (data.length != 0 && slice_starts_with(event, SLICE("pusher")))
        MUST(json_scan(data, &value, NULL) && value.type == JSON_TYPE_OBJECT);
    if (slice_equal(event, SLICE("pusher:connection_established")))
        keep_socket_id(client, data);
    if (client->in_room && slice_equal(channel, SLICE("presence-room")))
        follow_room(client, event, data);
}

/* Checks each frame that the client has received. */
static void check_frames(struct client *client) {
    struct buffer *in = &client->socket->to_client;
    const uint8_t *data = (const uint8_t *)in->data;
    size_t at = 0;

    while (in->length - at >= 2) {
        size_t header = 2, length = data[at + 1];
        MUST(length < 127 && !client->closed); /* unmasked, under 64 KiB, and no frame after a close frame */
        if (length == 126) {
            MUST(in->length - at >= 4);
            length = (size_t)data[at + 2] << 8 | data[at + 3];
            header = 4;
        }
        MUST(in->length - at >= header + length); /* the loop is idle, so frames are complete */
        if (data[at] == 0x81)
            check_text(client, (struct slice){(const char *)data + at + header, length});
        else if (data[at] == 0x88)
            client->closed = true;
        else
            MUST(data[at] == 0x8a);
        at += header + length;
    }
    MUST(at == in->length);
    in->length = 0;
}

static void read_both(void) {
    loop_until_idle(workers.list[0]);
    if (actor.socket != NULL)
        check_frames(&actor);
    check_frames(&observer);
}

/* --- messages from the clients --- */

static void send_frame(struct client *client, struct slice payload) {
    uint8_t header[14] = {0x81, 0x80 | 126, (uint8_t)(payload.length >> 8), (uint8_t)payload.length, 0, 0, 0, 0};
    size_t length = 8;

    if (payload.length < 126) {
        header[1] = (uint8_t)(0x80 | payload.length);
        memset(header + 2, 0, 4);
        length = 6;
    }
    memory_socket_send(client->socket, header, length);
    memory_socket_send(client->socket, payload.data, payload.length);
    read_both();
}

static void append_member(struct buffer *out, const char *name, struct slice value) {
    buffer_append_string(out, name);
    json_append_string(out, value);
}

static void append_signature(struct buffer *out, const struct slice *parts, size_t count) {
    char hex[HMAC_SHA256_HEX];

    hmac_sha256_hex(&key, parts, count, hex);
    buffer_append(out, SLICE("\"auth\":\"key:"));
    buffer_append_bytes(out, hex, sizeof hex);
    buffer_append_byte(out, '"');
}

static void subscribe(struct client *client, struct slice channel, struct slice channel_data, bool with_data) {
    const struct slice parts[] = {slice_of(client->socket_id), SLICE(":"), channel, SLICE(":"), channel_data};
    static struct buffer out;

    out.length = 0;
    buffer_append(&out, SLICE("{\"event\":\"pusher:subscribe\",\"data\":{"));
    append_signature(&out, parts, with_data ? 5 : 3);
    append_member(&out, ",\"channel\":", channel);
    if (with_data)
        append_member(&out, ",\"channel_data\":", channel_data);
    buffer_append(&out, SLICE("}}"));
    send_frame(client, buffer_slice(&out));
}

static void sign_in(struct client *client, struct slice user_data) {
    const struct slice parts[] = {slice_of(client->socket_id), SLICE("::user::"), user_data};
    static struct buffer out;

    out.length = 0;
    buffer_append(&out, SLICE("{\"event\":\"pusher:signin\",\"data\":{"));
    append_signature(&out, parts, 3);
    append_member(&out, ",\"user_data\":", user_data);
    buffer_append(&out, SLICE("}}"));
    send_frame(client, buffer_slice(&out));
}

static void observer_enters_or_leaves_room(void) {
    observer.in_room = !observer.in_room;
    if (observer.in_room)
        subscribe(&observer, SLICE("presence-room"), SLICE("{\"user_id\":\"observer\"}"), true);
    else
        send_frame(&observer, SLICE("{\"event\":\"pusher:unsubscribe\",\"data\":{\"channel\":\"presence-room\"}}"));
}

static void send_line(struct slice line) {
    if (line.length != 0 && line.data[0] == '+') {
        const char *bar = memchr(line.data, '|', line.length);
        size_t length = bar != NULL ? (size_t)(bar - line.data) : line.length;
        subscribe(&actor, (struct slice){line.data + 1, length - 1},
                  bar != NULL ? slice_skip(line, length + 1) : SLICE(""), bar != NULL);
    } else if (line.length != 0 && line.data[0] == '!') {
        sign_in(&actor, slice_skip(line, 1));
    } else if (line.length == 1 && line.data[0] == '~') {
        observer_enters_or_leaves_room();
    } else {
        send_frame(&actor, line);
    }
}

/* --- a run --- */

static void open_client(struct client *client) {
    static const char handshake[] =
        "GET /app/key?protocol=7 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    struct worker *worker = workers.list[0];
    struct buffer *in;
    const char *end;

    *client = (struct client){.socket = loop_connect(worker, &handler)};
    loop_send(worker, client->socket, handshake, sizeof handshake - 1);
    in = &client->socket->to_client;
    end = memmem(in->data, in->length, "\r\n\r\n", 4);
    MUST(end != NULL);
    in->length -= (size_t)(end + 4 - in->data);
    memmove(in->data, end + 4, in->length);
    check_frames(client);
    MUST(client->socket_id[0] != '\0');
}

struct left {
    unsigned connections;
    bool channels;
};

static void channel_left(void *context, struct slice name, struct channel_type type, struct channel_counts counts) {
    const struct left *left = context;

    MUST(left->channels && counts.subscriptions == 1 && counts.users == (type.kind == CHANNEL_PRESENCE));
    MUST(slice_equal(name, SLICE("presence-room")) || slice_equal(name, SLICE("private-room")));
}

static void slot_left(struct app_slot *slot, void *context) {
    const struct left *left = context;

    MUST(atomic_load(&slot->connections) == left->connections);
    MUST(left->channels || channel_table_empty(atomic_load(&slot->channels)));
    channel_each(slot, SLICE(""), channel_left, context);
}

/* Checks that nothing is left but a session of the observer, if it is still there. */
static void check_what_is_left(void) {
    struct left left = {.connections = observer.socket != NULL ? 1 : 0, .channels = observer.socket != NULL};

    MUST(workers.list[0]->stream_count == left.connections);
    app_manager_each_slot(server.apps, slot_left, &left);
}

static void open_observer(void) {
    memory_random_reset(1);
    open_client(&observer);
    observer_enters_or_leaves_room();
    subscribe(&observer, SLICE("private-room"), SLICE(""), false);
    sign_in(&observer, SLICE("{\"id\":\"observer\",\"watchlist\":[\"1\",\"observer\"]}"));
}

static void close_observer(void) {
    loop_close(workers.list[0], observer.socket);
    observer.socket = NULL;
    check_what_is_left();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static unsigned runs;
    struct slice rest = {(const char *)data, size};

    if (workers.count == 0)
        start();
    if (observer.socket == NULL)
        open_observer();
    memory_random_reset(2);
    open_client(&actor);
    coverage_forget();
    for (unsigned sent = 0; rest.length != 0 && sent < MESSAGES_MAX; sent++) {
        const char *line_end = memchr(rest.data, '\n', rest.length);
        size_t length = line_end != NULL ? (size_t)(line_end - rest.data) : rest.length;
        if (length <= 4000)
            send_line((struct slice){rest.data, length});
        rest = slice_skip(rest, line_end != NULL ? length + 1 : length);
    }
    loop_close(workers.list[0], actor.socket);
    actor.socket = NULL;
    check_frames(&observer);
    MUST(!observer.closed && (!observer.other_in_room || !observer.in_room));
    if (!observer.in_room)
        observer_enters_or_leaves_room();
    check_what_is_left();
    if (runs++ % OBSERVER_RUNS == 0)
        close_observer();
    return 0;
}
