#include "net/deflate.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/alloc.h"
#include "base/budget.h"

#define NAME "permessage-deflate"
/* A message compressed for many connections is worth a higher level than one for a single connection. */
#define ALONE_LEVEL 6
#define WINDOW_LEVEL 1
#define MEMORY_LEVEL_MAX 8
#define FIRST_BYTES (16 * 1024)
#define KEPT_BYTES (256 * 1024)
#define DEFLATE_STATE_BYTES (6 * 1024) /* of zlib, beside window and tables */

/* The end of every compressed message, left out on the wire (section 7.2.1). */
static const uint8_t tail[4] = {0x00, 0x00, 0xFF, 0xFF};

struct deflate_tools {
    z_stream deflater, inflater;
    /* Separate: an answer is compressed while the received message is still in use. */
    struct buffer in, out;
};

struct deflate_window {
    z_stream deflater;
    struct budget_app *app; /* for which it is counted; NULL: none */
    bool no_context;        /* compress each message alone */
    uint8_t bits;
};

/* --- negotiation --- */

struct offer {
    bool has_server_no_context, has_client_no_context, has_server_bits, has_client_bits;
    unsigned server_bits;
};

static void skip_offer_blanks(struct slice *rest) {
    while (rest->length != 0 && (rest->data[0] == ' ' || rest->data[0] == '\t'))
        *rest = slice_skip(*rest, 1);
}

/* Consumes `byte` and the blanks around it; false if another byte comes next. */
static bool take_byte(struct slice *rest, char byte) {
    skip_offer_blanks(rest);
    if (rest->length == 0 || rest->data[0] != byte)
        return false;
    *rest = slice_skip(*rest, 1);
    skip_offer_blanks(rest);
    return true;
}

static bool is_token_byte(char byte) { /* RFC 9110 section 5.6.2 */
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           (byte != '\0' && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static bool take_token(struct slice *rest, struct slice *token) {
    *token = (struct slice){rest->data, 0};
    while (token->length < rest->length && is_token_byte(rest->data[token->length]))
        token->length++;
    *rest = slice_skip(*rest, token->length);
    return token->length != 0;
}

/* Consumes a token or a quoted token (RFC 6455 section 9.1: the quoted text must be a token). */
static bool take_value(struct slice *rest, struct slice *value) {
    if (rest->length == 0 || rest->data[0] != '"')
        return take_token(rest, value);
    *rest = slice_skip(*rest, 1);
    if (!take_token(rest, value) || rest->length == 0 || rest->data[0] != '"')
        return false;
    *rest = slice_skip(*rest, 1);
    return true;
}

/* Parses window bits: 8 to 15, without leading zeros (section 7.1.2). */
static bool read_bits(struct slice text, unsigned *bits) {
    unsigned long long number;

    if (!slice_to_number(text, DEFLATE_WINDOW_BITS_MAX, &number) || number < 8 || text.data[0] == '0')
        return false;
    *bits = (unsigned)number;
    return true;
}

/* Sets the flag; false if it was set: a parameter may be given once only. */
static bool first_offer(bool *seen) {
    bool again = *seen;

    *seen = true;
    return !again;
}

/* Records a parameter of the offer; false if it makes the offer unacceptable. */
static bool note_parameter(struct offer *offer, struct slice name, bool has_value, struct slice value) {
    unsigned bits;

    if (slice_equal(name, SLICE("server_no_context_takeover")))
        return !has_value && first_offer(&offer->has_server_no_context);
    if (slice_equal(name, SLICE("client_no_context_takeover")))
        return !has_value && first_offer(&offer->has_client_no_context);
    if (slice_equal(name, SLICE("server_max_window_bits")))
        return has_value && read_bits(value, &offer->server_bits) && first_offer(&offer->has_server_bits);
    if (slice_equal(name, SLICE("client_max_window_bits")))
        return (!has_value || read_bits(value, &bits)) && first_offer(&offer->has_client_bits);
    return false;
}

/* Parses one extension with its parameters. False on a syntax error. `*ours` is true if it offers permessage-deflate
 * with valid parameters. */
static bool take_offer(struct slice *rest, struct offer *offer, bool *ours) {
    struct slice name, value = {0};

    *offer = (struct offer){0};
    if (!take_token(rest, &name))
        return false;
    *ours = slice_equal_ignoring_case(name, SLICE(NAME));
    while (take_byte(rest, ';')) {
        bool has_value;
        if (!take_token(rest, &name))
            return false;
        has_value = take_byte(rest, '=');
        if (has_value && !take_value(rest, &value))
            return false;
        *ours = *ours && note_parameter(offer, name, has_value, value);
    }
    return rest->length == 0 || rest->data[0] == ',';
}

static bool offer_acceptable(const struct offer *offer, uint8_t window_bits, struct deflate_agreement *agreement) {
    unsigned most = offer->has_server_bits ? offer->server_bits : DEFLATE_WINDOW_BITS_MAX;

    /* Messages that are compressed alone need no window, but the shared compressed form uses the largest one. */
    if (offer->has_server_no_context && most == DEFLATE_WINDOW_BITS_MAX)
        window_bits = 0;
    if (most < (window_bits == 0 ? DEFLATE_WINDOW_BITS_MAX : DEFLATE_WINDOW_BITS_MIN))
        return false;
    agreement->no_context = window_bits == 0 || offer->has_server_no_context;
    agreement->window_bits = (uint8_t)(window_bits < most ? window_bits : most);
    agreement->told_bits = 0;
    if (offer->has_server_bits)
        agreement->told_bits = window_bits != 0 ? agreement->window_bits : DEFLATE_WINDOW_BITS_MAX;
    return true;
}

bool deflate_negotiate(struct slice offers, uint8_t window_bits, struct deflate_agreement *agreement) {
    struct offer offer;
    bool ours;

    do {
        skip_offer_blanks(&offers);
        if (!take_offer(&offers, &offer, &ours))
            return false;
        if (ours && offer_acceptable(&offer, window_bits, agreement))
            return true;
    } while (take_byte(&offers, ','));
    return false;
}

void deflate_append_answer(struct buffer *headers, const struct deflate_agreement *agreement) {
    buffer_append_string(headers, "Sec-WebSocket-Extensions: " NAME "; client_no_context_takeover");
    if (agreement->no_context)
        buffer_append_string(headers, "; server_no_context_takeover");
    if (agreement->told_bits != 0)
        buffer_appendf(headers, "; server_max_window_bits=%u", agreement->told_bits);
    buffer_append_string(headers, "\r\n");
}

/* --- tools --- */

static int memory_level(int bits) {
    return bits - 7 < MEMORY_LEVEL_MAX ? bits - 7 : MEMORY_LEVEL_MAX;
}

static bool deflater_init(z_stream *deflater, int level, int bits) {
    return deflateInit2(deflater, level, Z_DEFLATED, -bits, memory_level(bits), Z_DEFAULT_STRATEGY) == Z_OK;
}

/* The memory of a window: zlib's formula (zconf.h), and its state. */
static size_t window_bytes(uint8_t bits) {
    return sizeof(struct deflate_window) + ((size_t)1 << (bits + 2)) + ((size_t)1 << (memory_level(bits) + 9)) +
           DEFLATE_STATE_BYTES;
}

struct deflate_tools *deflate_tools_create(void) {
    struct deflate_tools *tools = alloc_zero(sizeof *tools);

    if (!deflater_init(&tools->deflater, ALONE_LEVEL, DEFLATE_WINDOW_BITS_MAX)) {
        free(tools);
        return NULL;
    }
    if (inflateInit2(&tools->inflater, -DEFLATE_WINDOW_BITS_MAX) != Z_OK) {
        deflateEnd(&tools->deflater);
        free(tools);
        return NULL;
    }
    return tools;
}

void deflate_tools_destroy(struct deflate_tools *tools) {
    if (tools == NULL)
        return;
    deflateEnd(&tools->deflater);
    inflateEnd(&tools->inflater);
    buffer_dispose(&tools->in);
    buffer_dispose(&tools->out);
    free(tools);
}

struct deflate_window *deflate_window_create(uint8_t window_bits, bool no_context, struct budget_app *app) {
    struct deflate_window *window;

    if (!budget_take(BUDGET_COMPRESSION, app, window_bytes(window_bits)))
        return NULL;
    window = alloc_zero(sizeof *window);
    window->app = app;
    window->no_context = no_context;
    window->bits = window_bits;
    if (deflater_init(&window->deflater, WINDOW_LEVEL, window_bits))
        return window;
    budget_give(BUDGET_COMPRESSION, app, window_bytes(window_bits));
    free(window);
    return NULL;
}

void deflate_window_destroy(struct deflate_window *window) {
    if (window == NULL)
        return;
    budget_give(BUDGET_COMPRESSION, window->app, window_bytes(window->bits));
    deflateEnd(&window->deflater);
    free(window);
}

/* Empties a buffer and reserves `bytes`; frees a large buffer before a small message. */
static bool prepare_output(struct buffer *buffer, size_t bytes) {
    if (buffer->capacity > KEPT_BYTES && bytes <= KEPT_BYTES) {
        buffer_dispose(buffer);
        *buffer = (struct buffer){0};
    }
    buffer->length = 0;
    return buffer_try_reserve(buffer, bytes);
}

/* --- messages --- */

bool deflate_message(struct deflate_tools *tools, struct deflate_window *window, struct slice message,
                     struct slice *compressed) {
    z_stream *deflater = window != NULL ? &window->deflater : &tools->deflater;
    size_t room = deflateBound(deflater, message.length) + 16; /* for the flush block at the end */

    if (!prepare_output(&tools->out, room))
        return false;
    if (window == NULL || window->no_context)
        deflateReset(deflater);
    deflater->next_in = (Bytef *)(uintptr_t)message.data;
    deflater->avail_in = (uInt)message.length;
    deflater->next_out = (Bytef *)tools->out.data;
    deflater->avail_out = (uInt)tools->out.capacity;
    deflate(deflater, Z_SYNC_FLUSH); /* cannot fail: the output fits */
    *compressed = (struct slice){tools->out.data, tools->out.capacity - deflater->avail_out - sizeof tail};
    return true;
}

/* Feeds input to the inflater. The output is at most `max_bytes` + 1 bytes. */
static enum inflate_answer feed_inflater(struct deflate_tools *tools, const uint8_t *data, size_t length,
                                         size_t max_bytes) {
    z_stream *inflater = &tools->inflater;
    struct buffer *out = &tools->in;

    inflater->next_in = (Bytef *)(uintptr_t)data;
    inflater->avail_in = (uInt)length;
    for (;;) {
        size_t room = out->capacity - out->length;
        int code;

        if (room > max_bytes + 1 - out->length)
            room = max_bytes + 1 - out->length;
        inflater->next_out = (Bytef *)out->data + out->length;
        inflater->avail_out = (uInt)room;
        code = inflate(inflater, Z_SYNC_FLUSH);
        out->length += room - inflater->avail_out;
        if (out->length > max_bytes)
            return INFLATE_TOO_LARGE;
        if (code == Z_MEM_ERROR)
            return INFLATE_NO_MEMORY;
        if (code != Z_OK && code != Z_BUF_ERROR && code != Z_STREAM_END)
            return INFLATE_BAD;
        if (code == Z_STREAM_END) /* a sender may end its stream with every message (section 7.2.3.4) */
            inflateReset(inflater);
        if (inflater->avail_out != 0 && inflater->avail_in == 0)
            return INFLATE_OK;
        if (inflater->avail_out == 0) {
            size_t more = max_bytes + 1 - out->length;
            if (!buffer_try_reserve(out, more < out->capacity ? more : out->capacity))
                return INFLATE_NO_MEMORY;
        }
    }
}

enum inflate_answer inflate_message(struct deflate_tools *tools, struct slice compressed, size_t max_bytes,
                                    struct slice *message) {
    enum inflate_answer answer;

    if (!prepare_output(&tools->in, FIRST_BYTES))
        return INFLATE_NO_MEMORY;
    inflateReset(&tools->inflater);
    answer = feed_inflater(tools, (const uint8_t *)compressed.data, compressed.length, max_bytes);
    if (answer == INFLATE_OK)
        answer = feed_inflater(tools, tail, sizeof tail, max_bytes);
    /* Bit 128 of zlib's data_type: the input ended between two blocks. Otherwise the message is incomplete. */
    if (answer == INFLATE_OK && (tools->inflater.data_type & 128) == 0)
        answer = INFLATE_BAD;
    *message = buffer_slice(&tools->in);
    return answer;
}
