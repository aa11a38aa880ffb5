#include "cluster/message/subject.h"

#include "base/crypto.h"
#include "channel/channel_name.h"

/* The longest token of NATS. */
#define TOKEN_BYTES_MAX 512

static void append_escaped_byte(struct buffer *out, unsigned char byte) {
    static const char digits[] = "0123456789ABCDEF";

    buffer_append_byte(out, '=');
    buffer_append_byte(out, digits[byte >> 4]);
    buffer_append_byte(out, digits[byte & 15]);
}

static bool token_takes(char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           byte == '_' || byte == '-';
}

static void append_token(struct buffer *out, struct slice part) {
    size_t begin = out->length;
    char hex[SHA256_HEX];

    for (size_t i = 0; i < part.length && out->length - begin <= TOKEN_BYTES_MAX; i++)
        if (token_takes(part.data[i]))
            buffer_append_byte(out, part.data[i]);
        else
            append_escaped_byte(out, (unsigned char)part.data[i]);
    if (out->length - begin <= TOKEN_BYTES_MAX)
        return;
    out->length = begin;
    sha256_hex(part, hex);
    buffer_append(out, SLICE("=H"));
    buffer_append_bytes(out, hex, sizeof hex);
}

void subjects_init(struct subjects *subjects, enum subject_spelling spelling, struct slice prefix) {
    *subjects = (struct subjects){.spelling = spelling};
    if (spelling == SUBJECT_PLAIN) {
        buffer_append(&subjects->prefix, prefix);
        buffer_append(&subjects->prefix, SLICE("curlew1:"));
        return;
    }
    if (prefix.length != 0) {
        append_token(&subjects->prefix, prefix);
        buffer_append_byte(&subjects->prefix, '.');
    }
    buffer_append(&subjects->prefix, SLICE("curlew1."));
}

void subjects_dispose(struct subjects *subjects) {
    buffer_dispose(&subjects->prefix);
}

void subject_append_all(struct buffer *out, const struct subjects *subjects) {
    buffer_append(out, buffer_slice(&subjects->prefix));
    buffer_append_byte(out, 'n');
}

void subject_append_inbox(struct buffer *out, const struct subjects *subjects, struct node_id node) {
    char hex[NODE_ID_HEX + 1];

    node_id_format(node, hex);
    buffer_append(out, buffer_slice(&subjects->prefix));
    buffer_append_string(out, subjects->spelling == SUBJECT_PLAIN ? "i:" : "i.");
    buffer_append_bytes(out, hex, NODE_ID_HEX);
}

static void append_plain_app(struct buffer *out, struct slice app) {
    for (size_t i = 0; i < app.length; i++)
        if (app.data[i] == ':' || app.data[i] == '=')
            append_escaped_byte(out, (unsigned char)app.data[i]);
        else
            buffer_append_byte(out, app.data[i]);
}

void subject_append_channel(struct buffer *out, const struct subjects *subjects, struct slice app,
                            struct slice channel) {
    bool plain = subjects->spelling == SUBJECT_PLAIN;
    bool user = slice_starts_with(channel, SLICE(USER_CHANNEL_PREFIX));
    char separator = plain ? ':' : '.';

    if (user)
        channel = slice_skip(channel, sizeof USER_CHANNEL_PREFIX - 1);
    buffer_append(out, buffer_slice(&subjects->prefix));
    buffer_append_byte(out, user ? 'u' : 'c');
    buffer_append_byte(out, separator);
    if (plain)
        append_plain_app(out, app);
    else
        append_token(out, app);
    buffer_append_byte(out, separator);
    if (plain)
        buffer_append(out, channel);
    else
        append_token(out, channel);
}
