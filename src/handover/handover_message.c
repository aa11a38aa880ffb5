#include "handover/handover_message.h"

#define PROGRAM_MAX 64
#define SUPERVISED 1

static void write_u32(char *at, uint32_t number) {
    for (int i = 0; i < 4; i++)
        at[i] = (char)(number >> (24 - 8 * i));
}

static uint32_t u32_at(const char *at) {
    const uint8_t *bytes = (const uint8_t *)at;

    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool handover_type_known(uint8_t type) {
    return (type >= HANDOVER_HELLO && type <= HANDOVER_CONTROL_LAST) ||
           (type >= HANDOVER_RELAY_FIRST && type <= HANDOVER_RELAY_LAST);
}

enum handover_parsed handover_parse(struct slice *rest, struct handover_message *message, struct error *error) {
    uint32_t length;

    if (rest->length < HANDOVER_HEAD_BYTES)
        return HANDOVER_INCOMPLETE;
    length = u32_at(rest->data);
    message->type = (uint8_t)rest->data[4];
    if (length > HANDOVER_PAYLOAD_MAX) {
        error_set(error, "a message of the other process has %u bytes, at most %u are allowed", length,
                  HANDOVER_PAYLOAD_MAX);
        return HANDOVER_INVALID;
    }
    if (!handover_type_known(message->type)) {
        error_set(error, "a message of the other process has the unknown type %u", message->type);
        return HANDOVER_INVALID;
    }
    if (rest->length - HANDOVER_HEAD_BYTES < length)
        return HANDOVER_INCOMPLETE;
    message->payload = (struct slice){rest->data + HANDOVER_HEAD_BYTES, length};
    *rest = slice_skip(*rest, HANDOVER_HEAD_BYTES + length);
    return HANDOVER_MESSAGE;
}

void handover_write_head(char *head, uint8_t type, uint32_t length) {
    write_u32(head, length);
    head[4] = (char)type;
}

void handover_append(struct buffer *out, uint8_t type, struct slice payload) {
    char head[HANDOVER_HEAD_BYTES];

    handover_write_head(head, type, (uint32_t)payload.length);
    buffer_append_bytes(out, head, sizeof head);
    buffer_append(out, payload);
}

void handover_hello_append(struct buffer *out, const struct handover_hello *hello) {
    char version[4];

    write_u32(version, hello->version);
    buffer_append_bytes(out, version, sizeof version);
    buffer_append(out, hello->program);
}

bool handover_hello_parse(struct slice payload, struct handover_hello *hello, struct error *error) {
    if (payload.length < 4 || payload.length > 4 + PROGRAM_MAX)
        return error_set(error, "the greeting of the other process has %zu bytes", payload.length);
    hello->version = u32_at(payload.data);
    hello->program = slice_skip(payload, 4);
    for (size_t i = 0; i < hello->program.length; i++)
        if (hello->program.data[i] < ' ' || hello->program.data[i] > '~')
            return error_set(error, "the greeting of the other process holds the byte 0x%02x",
                             (uint8_t)hello->program.data[i]);
    return true;
}

void handover_listener_append(struct buffer *out, const struct handover_listener *listener) {
    buffer_append_byte(out, listener->supervised ? SUPERVISED : 0);
    buffer_append(out, listener->name);
}

bool handover_listener_parse(struct slice payload, struct handover_listener *listener, struct error *error) {
    if (payload.length < 2 || payload.length > 1 + HANDOVER_NAME_MAX || (uint8_t)payload.data[0] > SUPERVISED)
        return error_set(error, "the other process passes a socket with a wrong description of %zu bytes",
                         payload.length);
    listener->supervised = payload.data[0] == SUPERVISED;
    listener->name = slice_skip(payload, 1);
    for (size_t i = 0; i < listener->name.length; i++)
        if (listener->name.data[i] < 'a' || listener->name.data[i] > 'z')
            return error_set(error, "the other process passes a socket whose name holds the byte 0x%02x",
                             (uint8_t)listener->name.data[i]);
    return true;
}
