#include "client/client.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "client/client_socket.h"
#include "client/incoming.h"

#define CONNECT_TIMEOUT_MS 10000
#define SEND_TIMEOUT_MS 10000
#define PONG_TIMEOUT_MS 30000
#define SILENCE_MAX_S 3600u
#define RECEIVE_BYTES 16384

struct client {
    struct client_socket *socket;
    int stop_fd;
    struct incoming incoming;
    char *key;
    const char *origin; /* NULL: none */
    char *socket_id;
    uint32_t silence_ms; /* without a message for so long, the server is asked whether it is there */
    unsigned error_code; /* of the last pusher:error */
    struct error error_text;
    struct buffer name, channel, data; /* decoded, of the last event */
};

static struct deadline client_deadline(const struct client *client, uint32_t timeout_ms) {
    return deadline_after(timeout_ms, client->stop_fd);
}

/* --- sending --- */

/* Sends one frame, masked as all frames of a client (RFC 6455 section 5.3). */
static bool send_masked_frame(struct client *client, enum websocket_opcode opcode, struct slice payload,
                              struct error *error) {
    const struct deadline deadline = deadline_after(SEND_TIMEOUT_MS, -1);
    uint8_t header[WEBSOCKET_HEADER_MAX], mask[4];
    struct buffer frame = {0};
    size_t start;
    bool sent;

    random_bytes(mask, sizeof mask);
    start = websocket_header_write(header, opcode, payload.length) + sizeof mask;
    header[1] |= 0x80;
    buffer_append_bytes(&frame, header, start - sizeof mask);
    buffer_append_bytes(&frame, mask, sizeof mask);
    buffer_append(&frame, payload);
    websocket_unmask((uint8_t *)frame.data + start, payload.length, mask, 0);
    sent = client_socket_send(client->socket, frame.data, frame.length, &deadline, error);
    buffer_dispose(&frame);
    return sent;
}

static bool send_text(struct client *client, struct slice text, struct client_end *end) {
    *end = (struct client_end){.kind = CLIENT_END_CLOSED};
    return send_masked_frame(client, WEBSOCKET_TEXT, text, &end->error);
}

/* --- receiving --- */

static bool explain_loss(struct client *client, struct client_end *end) {
    end->kind = CLIENT_END_CLOSED;
    if (client->error_code >= 4000 && client->error_code < 4300) { /* the server said why before it closed */
        end->code = client->error_code;
        end->error = client->error_text;
    }
    return false;
}

/* Acts on a control frame; false if it ends the connection. */
static bool handle_control(struct client *client, const struct incoming_message *message, struct client_end *end) {
    if (message->opcode == WEBSOCKET_PING)
        return send_masked_frame(client, WEBSOCKET_PONG, message->payload, &end->error) || explain_loss(client, end);
    if (message->opcode != WEBSOCKET_CLOSE)
        return true;
    send_masked_frame(client, WEBSOCKET_CLOSE, message->payload, NULL);
    if (message->payload.length >= 2) {
        const uint8_t *code = (const uint8_t *)message->payload.data;
        end->code = (unsigned)code[0] << 8 | code[1];
        error_set(&end->error, "%.*s", SLICE_ARGS(slice_skip(message->payload, 2)));
    }
    if (end->error.text[0] == '\0')
        error_set(&end->error, "the server closed the connection with code %u", end->code);
    if (end->code != 0 && client->error_code == end->code)
        end->error = client->error_text; /* the close reason is cut at 123 bytes */
    end->kind = CLIENT_END_CLOSED;
    return false;
}

enum receiving { RECEIVED_TEXT, RECEIVED_NOTHING, RECEIVED_END };

/* Receives the next text until the deadline. */
static enum receiving receive_text(struct client *client, const struct deadline *deadline, struct slice *text,
                                   struct client_end *end) {
    char bytes[RECEIVE_BYTES];
    size_t length;

    for (;;) {
        struct incoming_message message;
        enum incoming_result result = incoming_next(&client->incoming, &message, &end->error);

        if (result == INCOMING_READY && message.opcode == WEBSOCKET_TEXT) {
            *text = message.payload;
            return RECEIVED_TEXT;
        }
        if (result == INCOMING_BAD) {
            end->kind = CLIENT_END_CLOSED;
            return RECEIVED_END;
        }
        if (result == INCOMING_READY) {
            if (!handle_control(client, &message, end))
                return RECEIVED_END;
            continue;
        }
        switch (client_socket_receive(client->socket, bytes, sizeof bytes, &length, deadline, &end->error)) {
        case CLIENT_RECEIVED:
            if (incoming_append(&client->incoming, bytes, length))
                continue;
            error_set(&end->error, "the server sends more than one message may have");
            end->kind = CLIENT_END_CLOSED;
            return RECEIVED_END;
        case CLIENT_TIMED_OUT:
            return RECEIVED_NOTHING;
        case CLIENT_CANCELLED:
            end->kind = CLIENT_END_STOPPED;
            return RECEIVED_END;
        case CLIENT_DISCONNECTED:
            break;
        }
        explain_loss(client, end);
        return RECEIVED_END;
    }
}

/* Decodes a string into `storage`, or gives the JSON of another value. */
static struct slice read_event_value(struct json_value value, struct buffer *storage) {
    storage->length = 0;
    return value.type == JSON_TYPE_STRING ? json_decode_string(value, storage) : value.token;
}

static bool parse_event(struct client *client, struct slice text, struct client_event *event, struct error *error) {
    const struct slice names[] = {SLICE("event"), SLICE("channel"), SLICE("data")};
    struct json_value values[3] = {0};

    if (!json_scan_object(text, names, values, 3, error)) {
        error_prefix(error, "a message of the server");
        return false;
    }
    event->text = text;
    event->name = read_event_value(values[0], &client->name);
    event->channel = read_event_value(values[1], &client->channel);
    event->data = read_event_value(values[2], &client->data);
    return true;
}

/* Keeps the code and text of a pusher:error: the reason, if the connection closes. */
static void keep_error(struct client *client, const struct client_event *event) {
    const struct slice names[] = {SLICE("code"), SLICE("message")};
    struct json_value values[2] = {0};
    unsigned long long code;
    struct buffer storage = {0};

    client->error_code = 0;
    if (!json_scan_object(event->data, names, values, 2, NULL) || values[0].type != JSON_TYPE_NUMBER ||
        !slice_to_number(values[0].token, 4999, &code))
        return;
    client->error_code = (unsigned)code;
    error_set(&client->error_text, "%.*s", SLICE_ARGS(read_event_value(values[1], &storage)));
    buffer_dispose(&storage);
}

/* Events of the protocol itself; true if the caller need not see the event. */
static bool is_housekeeping(struct client *client, const struct client_event *event) {
    if (slice_equal(event->name, SLICE("pusher:ping"))) {
        send_masked_frame(client, WEBSOCKET_TEXT, SLICE("{\"event\":\"pusher:pong\"}"), NULL);
        return true;
    }
    if (slice_equal(event->name, SLICE("pusher:error")))
        keep_error(client, event);
    return slice_equal(event->name, SLICE("pusher:pong"));
}

bool client_next(struct client *client, struct client_event *event, struct client_end *end) {
    bool asked = false;

    *end = (struct client_end){.kind = CLIENT_END_CLOSED};
    for (;;) {
        const struct deadline deadline = client_deadline(client, asked ? PONG_TIMEOUT_MS : client->silence_ms);
        struct slice text;

        switch (receive_text(client, &deadline, &text, end)) {
        case RECEIVED_TEXT:
            if (!parse_event(client, text, event, &end->error))
                return false;
            asked = false;
            if (!is_housekeeping(client, event))
                return true;
            break;
        case RECEIVED_NOTHING:
            if (asked)
                return error_set(&end->error, "the server does not answer");
            asked = true;
            if (!send_text(client, SLICE("{\"event\":\"pusher:ping\"}"), end))
                return false;
            break;
        case RECEIVED_END:
            return false;
        }
    }
}

/* --- connecting --- */

/* The path of the URL, with its prefix, and the host with the port. */
static void split_url(const char *url, struct slice *host, const char **path) {
    const char *start = strstr(url, "://") + 3;
    size_t length = strcspn(start, "/");

    *host = (struct slice){start, length};
    *path = start + length;
}

static bool send_handshake(struct client *client, const struct server_address *address, const struct deadline *deadline,
                           char accept[28], struct error *error) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char random[22];
    struct buffer request = {0};
    char key[24];
    struct slice host;
    const char *path;
    bool sent;

    /* 16 random bytes in base64: the last digit carries only two bits. */
    random_bytes(random, sizeof random);
    for (size_t i = 0; i < sizeof random; i++)
        key[i] = digits[random[i] % 64];
    key[21] = digits[random[21] % 4 * 16];
    key[22] = key[23] = '=';
    if (!websocket_accept_key((struct slice){key, sizeof key}, accept))
        return error_set(error, "no key for the handshake");
    split_url(address->url, &host, &path);
    buffer_appendf(&request,
                   "GET %s/app/%s?protocol=7&client=curlew HTTP/1.1\r\nHost: %.*s\r\nUpgrade: websocket\r\n"
                   "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %.24s\r\n",
                   path, client->key, SLICE_ARGS(host), key);
    if (client->origin != NULL)
        buffer_appendf(&request, "Origin: %s\r\n", client->origin);
    buffer_append(&request, SLICE("\r\n"));
    sent = client_socket_send(client->socket, request.data, request.length, deadline, error);
    buffer_dispose(&request);
    return sent;
}

/* Runs the handshake; false with `end`. */
static bool shake_hands(struct client *client, const struct server_address *address, const struct deadline *deadline,
                        struct client_end *end) {
    enum incoming_result result = INCOMING_INCOMPLETE;
    char bytes[RECEIVE_BYTES], accept[28];
    size_t length;

    if (!send_handshake(client, address, deadline, accept, &end->error))
        return false;
    while (result == INCOMING_INCOMPLETE) {
        switch (client_socket_receive(client->socket, bytes, sizeof bytes, &length, deadline, &end->error)) {
        case CLIENT_RECEIVED:
            incoming_append(&client->incoming, bytes, length);
            result = incoming_handshake(&client->incoming, accept, &end->error);
            break;
        case CLIENT_CANCELLED:
            end->kind = CLIENT_END_STOPPED;
            return false;
        case CLIENT_TIMED_OUT:
            return error_set(&end->error, "no answer to the handshake in time");
        case CLIENT_DISCONNECTED:
            return false;
        }
    }
    return result == INCOMING_READY;
}

/* Reads pusher:connection_established. */
static bool read_established(struct client *client, const struct client_event *event) {
    const struct slice names[] = {SLICE("socket_id"), SLICE("activity_timeout")};
    struct json_value values[2] = {0};
    struct buffer storage = {0};
    unsigned long long silence_s = 0;
    struct slice id;

    if (!slice_equal(event->name, SLICE("pusher:connection_established")) ||
        !json_scan_object(event->data, names, values, 2, NULL) || values[0].type != JSON_TYPE_STRING)
        return false;
    id = json_decode_string(values[0], &storage);
    client->socket_id = alloc_copy(id.data, id.length);
    buffer_dispose(&storage);
    if (values[1].type == JSON_TYPE_NUMBER && slice_to_number(values[1].token, SILENCE_MAX_S, &silence_s) &&
        silence_s != 0)
        client->silence_ms = (uint32_t)silence_s * 1000;
    return true;
}

/* Waits for the first event; false with `end`. */
static bool await_established(struct client *client, struct client_end *end) {
    struct client_event event = {0};

    if (!client_next(client, &event, end))
        return false;
    if (read_established(client, &event))
        return true;
    if (slice_equal(event.name, SLICE("pusher:error"))) /* its close frame follows */
        return client_next(client, &event, end) && error_set(&end->error, "the server does not close after an error");
    end->kind = CLIENT_END_UNREACHABLE;
    return error_set(&end->error,
                     "the server does not speak the Pusher protocol: it sends something else in place of "
                     "pusher:connection_established");
}

struct client *client_open(const struct server_address *address, const char *key, const char *origin, int stop_fd,
                           struct client_end *end) {
    struct client *client = alloc_zero(sizeof *client);
    struct deadline deadline = deadline_after(CONNECT_TIMEOUT_MS, stop_fd);

    *end = (struct client_end){.kind = CLIENT_END_UNREACHABLE};
    client->stop_fd = stop_fd;
    client->key = alloc_copy(key, strlen(key));
    client->origin = origin;
    client->silence_ms = CONNECT_TIMEOUT_MS; /* until the server says another time */
    client->socket = client_socket_open(address, &deadline, &end->error);
    if (client->socket == NULL && deadline_remaining_ms(&deadline) != 0 && deadline_passed(&deadline))
        end->kind = CLIENT_END_STOPPED;
    if (client->socket != NULL && shake_hands(client, address, &deadline, end) && await_established(client, end))
        return client;
    client_close(client);
    return NULL;
}

void client_close(struct client *client) {
    if (client == NULL)
        return;
    if (client->socket != NULL) {
        send_masked_frame(client, WEBSOCKET_CLOSE, SLICE("\x03\xe8"), NULL); /* 1000, a normal end */
        client_socket_close(client->socket);
    }
    incoming_dispose(&client->incoming);
    buffer_dispose(&client->name);
    buffer_dispose(&client->channel);
    buffer_dispose(&client->data);
    free(client->key);
    free(client->socket_id);
    free(client);
}

/* --- subscribing --- */

static void append_member(struct buffer *json, const char *name, struct slice value) {
    buffer_appendf(json, ",\"%s\":", name);
    json_append_string(json, value);
}

/* Appends `auth`, and `channel_data` for a presence channel. */
static void append_signature(const struct client *client, struct slice channel, const struct hmac_key *hmac,
                             const char *user_id, struct buffer *json) {
    bool presence = slice_starts_with(channel, SLICE("presence-"));
    struct buffer member = {0}, auth = {0};
    char signature[HMAC_SHA256_HEX];

    if (presence) {
        buffer_append_string(&member, "{\"user_id\":");
        json_append_string(&member, slice_of(user_id));
        buffer_append_byte(&member, '}');
    }
    const struct slice parts[] = {slice_of(client->socket_id), SLICE(":"), channel, SLICE(":"), buffer_slice(&member)};
    hmac_sha256_hex(hmac, parts, presence ? 5 : 3, signature);
    buffer_appendf(&auth, "%s:%.*s", client->key, HMAC_SHA256_HEX, signature);
    append_member(json, "auth", buffer_slice(&auth));
    if (presence)
        append_member(json, "channel_data", buffer_slice(&member));
    buffer_dispose(&member);
    buffer_dispose(&auth);
}

bool client_subscribe(struct client *client, const char *channel, const struct hmac_key *hmac, const char *user_id,
                      struct client_end *end) {
    struct slice name = slice_of(channel);
    struct buffer json = {0};
    bool sent;

    buffer_append_string(&json, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":");
    json_append_string(&json, name);
    if (hmac != NULL && (slice_starts_with(name, SLICE("private-")) || slice_starts_with(name, SLICE("presence-"))))
        append_signature(client, name, hmac, user_id, &json);
    buffer_append_string(&json, "}}");
    sent = send_text(client, buffer_slice(&json), end);
    buffer_dispose(&json);
    return sent;
}
