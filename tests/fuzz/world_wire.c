#include "world_wire.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/json.h"
#include "world_server.h"

/* --- WebSocket --- */

void wire_frame(struct buffer *out, uint8_t opcode, struct slice payload) {
    uint8_t header[8] = {opcode, 0x80 | 126, (uint8_t)(payload.length >> 8), (uint8_t)payload.length, 0, 0, 0, 0};
    size_t length = 8;

    MUST(payload.length < 65536);
    if (payload.length < 126) {
        header[1] = (uint8_t)(0x80 | payload.length);
        memset(header + 2, 0, 4); /* a mask of zeros: the payload stays as it is */
        length = 6;
    }
    buffer_append_bytes(out, header, length);
    buffer_append(out, payload);
}

bool wire_next_frame(const struct buffer *in, size_t *at, uint8_t *opcode, struct slice *payload) {
    const uint8_t *data = (const uint8_t *)in->data + *at;
    size_t left = in->length - *at, header = 2, length;

    if (left < 4)
        return false; /* no frame of the server is shorter but an empty pong, which no ping here asks for */
    length = data[1];
    MUST(length < 127); /* not masked, and under 64 KiB */
    if (length == 126) {
        length = (size_t)data[2] << 8 | data[3];
        header = 4;
    }
    if (left < header + length)
        return false;
    *opcode = data[0];
    *payload = (struct slice){(const char *)data + header, length};
    *at += header + length;
    return true;
}

struct wire_message wire_read_message(struct slice text) {
    static const struct slice names[3] = {SLICE_INIT("event"), SLICE_INIT("channel"), SLICE_INIT("data")};
    static struct buffer storage[3];
    struct json_value values[3];
    struct slice members[3];

    MUST(json_scan_object(text, names, values, 3, NULL));
    for (unsigned i = 0; i < 3; i++) {
        storage[i].length = 0;
        members[i] = values[i].type == JSON_TYPE_STRING ? json_decode_string(values[i], &storage[i]) : SLICE("");
    }
    return (struct wire_message){members[0], members[1], members[2]};
}

struct slice wire_member(struct slice object, const char *name) {
    static struct buffer storage;
    struct slice names[1] = {slice_of(name)};
    struct json_value value;

    storage.length = 0;
    MUST(json_scan_object(object, names, &value, 1, NULL) && value.type == JSON_TYPE_STRING);
    return json_decode_string(value, &storage);
}

/* --- messages of a client --- */

static const struct hmac_key *secret_key(void) {
    static struct hmac_key key;
    static bool ready;

    if (!ready)
        hmac_key_init(&key, SLICE(WORLD_SECRET));
    ready = true;
    return &key;
}

static void append_signature(struct buffer *out, unsigned app, struct slice signed_text, bool wrong) {
    char hex[HMAC_SHA256_HEX];

    hmac_sha256_hex(secret_key(), &signed_text, 1, hex);
    if (wrong)
        hex[63] = hex[63] == '0' ? '1' : '0';
    buffer_appendf(out, "\"auth\":\"key%u:%.*s\"", app + 1, (int)sizeof hex, hex);
}

/* Sends `text` as a text frame; it is reused by the next message. */
static void append_text_frame(struct buffer *out, const struct buffer *text) {
    wire_frame(out, 0x81, buffer_slice(text));
}

void wire_subscribe(struct buffer *out, unsigned app, const char *socket_id, const char *channel, int user, bool wrong,
                    const char *delta, const char *filter) {
    static struct buffer text, signed_text;
    char data[40] = "";

    text.length = signed_text.length = 0;
    buffer_appendf(&signed_text, "%s:%s", socket_id, channel);
    buffer_appendf(&text, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"%s\",", channel);
    if (filter != NULL)
        buffer_appendf(&text, "\"filter\":%s,", filter);
    if (user >= 0) {
        snprintf(data, sizeof data, "{\"user_id\":\"u%d\"}", user);
        buffer_appendf(&signed_text, ":%s", data);
        buffer_append(&text, SLICE("\"channel_data\":"));
        json_append_string(&text, slice_of(data));
        buffer_append_byte(&text, ',');
    }
    if (delta != NULL)
        buffer_appendf(&text, "\"delta\":%s,", delta);
    append_signature(&text, app, buffer_slice(&signed_text), wrong);
    buffer_append(&text, SLICE("}}"));
    append_text_frame(out, &text);
}

void wire_unsubscribe(struct buffer *out, const char *channel) {
    static struct buffer text;

    text.length = 0;
    buffer_appendf(&text, "{\"event\":\"pusher:unsubscribe\",\"data\":{\"channel\":\"%s\"}}", channel);
    append_text_frame(out, &text);
}

void wire_client_event(struct buffer *out, const char *channel, unsigned number) {
    static struct buffer text;

    text.length = 0;
    buffer_appendf(&text, "{\"event\":\"client-e\",\"channel\":\"%s\",\"data\":\"%u" WIRE_FILLER "\"}", channel,
                   number);
    append_text_frame(out, &text);
}

void wire_enable_deltas(struct buffer *out) {
    wire_frame(out, 0x81, SLICE("{\"event\":\"pusher:enable_delta_compression\"}"));
}

void wire_delta_sync_error(struct buffer *out, const char *channel) {
    static struct buffer text;

    text.length = 0;
    buffer_appendf(&text, "{\"event\":\"pusher:delta_sync_error\",\"data\":{\"channel\":\"%s\"}}", channel);
    append_text_frame(out, &text);
}

void wire_sign_in(struct buffer *out, unsigned app, const char *socket_id, unsigned user, bool wrong) {
    static struct buffer text, signed_text;
    char data[64];

    text.length = signed_text.length = 0;
    snprintf(data, sizeof data, "{\"id\":\"u%u\"}", user);
    buffer_appendf(&signed_text, "%s::user::%s", socket_id, data);
    buffer_append(&text, SLICE("{\"event\":\"pusher:signin\",\"data\":{\"user_data\":"));
    json_append_string(&text, slice_of(data));
    buffer_append_byte(&text, ',');
    append_signature(&text, app, buffer_slice(&signed_text), wrong);
    buffer_append(&text, SLICE("}}"));
    append_text_frame(out, &text);
}

/* --- the HTTP API --- */

void wire_request(struct buffer *out, unsigned app, const char *method, const char *path, const char *query,
                  struct slice body) {
    static struct buffer parameters, signed_text;
    char hex[HMAC_SHA256_HEX], md5[MD5_HEX];
    struct slice text;

    parameters.length = signed_text.length = 0;
    md5_hex(body, md5);
    buffer_appendf(&parameters, "auth_key=key%u&auth_timestamp=%llu&auth_version=1.0", app + 1,
                   (unsigned long long)(clock_wall_ms() / 1000));
    if (body.length != 0)
        buffer_appendf(&parameters, "&body_md5=%.*s", (int)sizeof md5, md5);
    if (query[0] != '\0')
        buffer_appendf(&parameters, "&%s", query);
    buffer_appendf(&signed_text, "%s\n/apps/%u/%s\n", method, app + 1, path);
    buffer_append(&signed_text, buffer_slice(&parameters));
    text = buffer_slice(&signed_text);
    hmac_sha256_hex(secret_key(), &text, 1, hex);
    buffer_appendf(out, "%s /apps/%u/%s?%.*s&auth_signature=%.*s HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n",
                   method, app + 1, path, SLICE_ARGS(buffer_slice(&parameters)), (int)sizeof hex, hex, body.length);
    buffer_append(out, body);
}

unsigned wire_next_answer(const struct buffer *in, size_t *at, struct slice *body) {
    static const struct slice field = SLICE_INIT("Content-Length: ");
    struct slice rest = {in->data + *at, in->length - *at};
    const char *head_end, *length;
    unsigned long long bytes = 0;
    unsigned status;

    if (rest.length == 0)
        return 0;
    MUST(rest.length > 12 && slice_starts_with(rest, SLICE("HTTP/1.1 ")));
    status = (unsigned)((rest.data[9] - '0') * 100 + (rest.data[10] - '0') * 10 + (rest.data[11] - '0'));
    head_end = memmem(rest.data, rest.length, "\r\n\r\n", 4);
    MUST(head_end != NULL);
    length = memmem(rest.data, (size_t)(head_end - rest.data), field.data, field.length);
    MUST(length != NULL);
    for (length += field.length; *length >= '0' && *length <= '9'; length++)
        bytes = bytes * 10 + (unsigned)(*length - '0');
    *body = (struct slice){head_end + 4, (size_t)bytes};
    MUST(body->data + body->length <= rest.data + rest.length);
    *at += (size_t)(body->data + body->length - rest.data);
    return status;
}
