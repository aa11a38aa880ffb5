#include "net/websocket.h"

#include "base/alloc.h"
#include "base/budget.h"
#include "net/peer_address.h"

#define CLOSE_TIMEOUT_MS 5000
#define SHORTENED_CLOSE_MS 2000 /* the same while the worker ends */
#define CLOSE_REASON_MAX 123
#define VERSION "13"
#define FRAME_WORK 512        /* of a frame, apart from its bytes; see worker_spend */
#define COMPRESS_MIN_BYTES 32 /* compression does not help smaller messages */

static size_t websocket_on_data(struct stream *stream, uint8_t *data, size_t length);
static void websocket_on_end(struct stream *stream);
static void websocket_on_timer(struct stream *stream);
static void websocket_on_slow(struct stream *stream);
static void websocket_on_no_room(struct stream *stream);
static void websocket_on_closed(struct stream *stream);
static struct chunk *websocket_encode(struct stream *stream, struct chunk *chunk);
static struct budget_app *app_of_stream(const struct stream *stream);

static const struct stream_handler websocket_stream_handler = {
    .on_data = websocket_on_data,
    .on_end = websocket_on_end,
    .on_timer = websocket_on_timer,
    .on_slow = websocket_on_slow,
    .on_no_room = websocket_on_no_room,
    .on_closed = websocket_on_closed,
    .encode = websocket_encode,
    .app = app_of_stream,
};

static struct budget_app *app_of(const struct websocket *websocket) {
    return websocket->handler->app != NULL ? websocket->handler->app(websocket) : NULL;
}

static struct budget_app *app_of_stream(const struct stream *stream) {
    return app_of(stream->context);
}

/* --- the handshake --- */

static bool refuse_handshake(struct http_connection *connection, unsigned status, struct slice headers,
                             const char *why) {
    struct buffer body = {0};

    peer_address_log_refusal(http_stream(connection)->fd, status, why);
    buffer_appendf(&body, "{\"error\":\"%s\"}", why);
    http_respond(connection, &(struct http_response){
                                 .status = status, .headers = headers, .body = buffer_slice(&body), .close = true});
    buffer_dispose(&body);
    return false;
}

/* Returns the worker's compression tools, created for the first connection that needs them; NULL if there is no memory.
 */
static struct deflate_tools *tools_of(struct worker *worker) {
    if (worker->deflate == NULL)
        worker->deflate = deflate_tools_create();
    return worker->deflate;
}

/* Accepts the client's first acceptable offer to compress, if there is one and the memory suffices. */
static void negotiate_compression(const struct http_request *request, struct websocket *websocket,
                                  struct worker *worker, struct buffer *answer) {
    struct deflate_agreement agreement;

    for (unsigned i = 0; i < request->header_count && websocket->limits->compress && !websocket->compresses; i++) {
        const struct http_header *header = &request->headers[i];
        websocket->compresses = slice_equal_ignoring_case(header->name, SLICE("Sec-WebSocket-Extensions")) &&
                                deflate_negotiate(header->value, websocket->limits->window_bits, &agreement);
    }
    if (!websocket->compresses)
        return;
    if (tools_of(worker) == NULL) {
        websocket->compresses = false;
        return;
    }
    websocket->window_bits = agreement.window_bits & 0xF;
    websocket->no_context = agreement.no_context;
    websocket->any_window = agreement.told_bits == 0 || agreement.told_bits == DEFLATE_WINDOW_BITS_MAX;
    deflate_append_answer(answer, &agreement);
}

bool websocket_accept(struct http_connection *connection, const struct http_request *request,
                      struct websocket *websocket, const struct websocket_handler *handler,
                      const struct websocket_limits *limits) {
    struct slice key, version;
    char accept[28];
    struct buffer *answer = &http_worker(connection)->answer;

    if (!http_header(request, SLICE("Sec-WebSocket-Version"), &version) || !slice_equal(version, SLICE(VERSION)))
        return refuse_handshake(connection, 426, SLICE("Upgrade: websocket\r\nSec-WebSocket-Version: " VERSION "\r\n"),
                                "Sec-WebSocket-Version must be " VERSION);
    if (!http_header_has(request, SLICE("Connection"), SLICE("Upgrade")))
        return refuse_handshake(connection, 400, SLICE(""), "a WebSocket handshake needs `Connection: Upgrade`");
    if (!http_header(request, SLICE("Sec-WebSocket-Key"), &key) || !websocket_accept_key(key, accept))
        return refuse_handshake(connection, 400, SLICE(""), "Sec-WebSocket-Key must be 16 bytes in base64");
    answer->length = 0;
    buffer_append(answer, SLICE("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Accept: "));
    buffer_append_bytes(answer, accept, sizeof accept);
    buffer_append(answer, SLICE("\r\n"));
    websocket->handler = handler;
    websocket->limits = limits;
    negotiate_compression(request, websocket, http_worker(connection), answer);
    buffer_append(answer, SLICE("\r\n"));
    websocket->stream = http_take_stream(connection);
    stream_set_handler(websocket->stream, &websocket_stream_handler, websocket);
    stream_send_copy(websocket->stream, answer->data, answer->length);
    stream_set_limits(websocket->stream, &limits->output);
    websocket->stream->encodes = websocket->compresses;
    return true;
}

struct websocket *websocket_of_stream(struct stream *stream) {
    return stream_is(stream, &websocket_stream_handler) ? stream->context : NULL;
}

/* --- output --- */

static char *append_parts(char *at, const struct slice *parts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (parts[i].length != 0)
            memcpy(at, parts[i].data, parts[i].length);
        at += parts[i].length;
    }
    return at;
}

static size_t parts_length(const struct slice *parts, size_t count) {
    size_t length = 0;

    for (size_t i = 0; i < count; i++)
        length += parts[i].length;
    return length;
}

struct frame *websocket_text_frame(const struct slice *parts, size_t count) {
    uint8_t header[WEBSOCKET_HEADER_MAX];
    size_t length = parts_length(parts, count);
    size_t header_length = websocket_header_write(header, WEBSOCKET_TEXT, length);
    struct frame *frame = frame_create(header_length + length);

    memcpy(frame->bytes, header, header_length);
    append_parts(frame->bytes + header_length, parts, count);
    return frame;
}

static ssize_t send_frame(struct websocket *websocket, enum websocket_opcode opcode, const struct slice *parts,
                          size_t count) {
    uint8_t header[WEBSOCKET_HEADER_MAX];
    size_t length = parts_length(parts, count);
    size_t header_length = websocket_header_write(header, opcode, length);
    char *bytes;
    struct chunk *chunk = chunk_create_for(app_of(websocket), header_length + length, &bytes);
    ssize_t queued;

    memcpy(bytes, header, header_length);
    append_parts(bytes + header_length, parts, count);
    worker_spend(websocket->stream->worker, length);
    queued = stream_send(websocket->stream, chunk);
    chunk_unref(chunk);
    return queued;
}

ssize_t websocket_send_text(struct websocket *websocket, const struct slice *parts, size_t count) {
    return websocket->closing ? -1 : send_frame(websocket, WEBSOCKET_TEXT, parts, count);
}

void websocket_ping(struct websocket *websocket) {
    if (!websocket->closing)
        send_frame(websocket, WEBSOCKET_PING, NULL, 0);
}

/* Appends a frame, compressed if it is a text that compression makes smaller. A text that has become part of a window
 * must be sent compressed in any case. */
static void append_compressed(struct buffer *out, struct deflate_tools *tools, struct deflate_window *window,
                              struct slice frame) {
    uint8_t header[WEBSOCKET_HEADER_MAX];
    struct slice payload, compressed;
    uint64_t length;
    size_t header_length = websocket_header_read((const uint8_t *)frame.data, &length);

    payload = (struct slice){frame.data + header_length, (size_t)length};
    if (((uint8_t)frame.data[0] & 0x0F) != WEBSOCKET_TEXT || payload.length < COMPRESS_MIN_BYTES ||
        !deflate_message(tools, window, payload, &compressed) ||
        (window == NULL && compressed.length >= payload.length)) {
        buffer_append(out, frame);
        return;
    }
    header_length = websocket_header_write(header, WEBSOCKET_TEXT, compressed.length);
    header[0] |= WEBSOCKET_COMPRESSED;
    buffer_append_bytes(out, header, header_length);
    buffer_append(out, compressed);
}

/* Compresses a chunk frame by frame; a chunk holds whole frames only. */
static struct chunk *compress_chunk(struct websocket *websocket, const struct chunk *chunk) {
    /* A chunk for many connections may outlive this one, but it is of the same app. */
    struct deflate_tools *tools = websocket->stream->worker->deflate;
    struct slice rest = {chunk->bytes, chunk->length};
    struct buffer out = {0};
    struct chunk *made;

    while (rest.length != 0) {
        uint64_t length;
        size_t frame_length = websocket_header_read((const uint8_t *)rest.data, &length) + (size_t)length;
        append_compressed(&out, tools, websocket->window, (struct slice){rest.data, frame_length});
        rest = slice_skip(rest, frame_length);
    }
    made = chunk_copy_for(chunk->app, out.data, out.length);
    buffer_dispose(&out);
    made->messages = chunk->messages;
    made->droppable = chunk->droppable;
    return made;
}

/* A window is created for the first message, so that a refused connection has none. While there is no room for it,
 * messages are compressed alone, or not at all if the client reads only smaller windows. */
static struct chunk *websocket_encode(struct stream *stream, struct chunk *chunk) {
    struct websocket *websocket = stream->context;

    if (websocket->window_bits != 0) {
        if (websocket->window == NULL)
            websocket->window = deflate_window_create(websocket->window_bits, websocket->no_context, app_of(websocket));
        if (websocket->window != NULL)
            return compress_chunk(websocket, chunk);
        if (!websocket->any_window)
            return chunk_ref(chunk);
    }
    if (chunk->encoded == NULL)
        chunk->encoded = compress_chunk(websocket, chunk);
    return chunk_ref(chunk->encoded);
}

static void free_fragments(struct buffer *fragments, struct budget_app *app) {
    budget_give(BUDGET_INPUT, app, fragments->capacity);
    buffer_dispose(fragments);
}

/* What the connection holds for its app goes before on_closing; no text is sent any more. */
static void begin_closing(struct websocket *websocket) {
    if (websocket->closing)
        return;
    websocket->closing = true;
    if (websocket->fragments.capacity != 0)
        free_fragments(&websocket->fragments, app_of(websocket));
    deflate_window_destroy(websocket->window);
    websocket->window = NULL;
    websocket->stream->encodes = false;
    websocket->handler->on_closing(websocket);
}

void websocket_will_close(struct websocket *websocket) {
    struct stream *stream = websocket->stream;

    if (stream->slow) {
        stream_drop_output(stream);
        /* The window holds the dropped messages, but the client's does not: send the rest uncompressed. */
        stream->encodes = false;
    }
    if (websocket->window == NULL && websocket->window_bits != 0)
        stream->encodes = false; /* no window for the last words */
    stream_set_limits(stream, NULL);
}

static void send_close(struct websocket *websocket, unsigned code, struct slice reason) {
    uint8_t status[2] = {(uint8_t)(code >> 8), (uint8_t)code};

    websocket_will_close(websocket);
    if (reason.length > CLOSE_REASON_MAX) {
        reason.length = CLOSE_REASON_MAX;
        while (reason.length != 0 && ((unsigned char)reason.data[reason.length] & 0xC0) == 0x80)
            reason.length--; /* do not cut a character in two */
    }
    send_frame(websocket, WEBSOCKET_CLOSE, (struct slice[]){{(char *)status, 2}, reason}, 2);
}

void websocket_close(struct websocket *websocket, unsigned code, struct slice reason) {
    if (websocket->closing)
        return;
    send_close(websocket, code, reason);
    stream_set_timeout(websocket->stream, websocket->stream->worker->stopping ? SHORTENED_CLOSE_MS : CLOSE_TIMEOUT_MS);
    begin_closing(websocket);
}

static void shorten_close(struct stream *stream, void *context) {
    const struct websocket *websocket = websocket_of_stream(stream);

    (void)context;
    if (websocket != NULL && websocket->closing)
        stream_set_timeout(stream, SHORTENED_CLOSE_MS);
}

void websockets_shorten_closes(struct worker *worker) {
    streams_each(worker, shorten_close, NULL);
}

void websocket_close_slow(struct websocket *websocket, struct slice text, unsigned code, struct slice reason) {
    websocket_will_close(websocket);
    if (websocket->closing)
        return;
    send_frame(websocket, WEBSOCKET_TEXT, &text, 1);
    websocket->reset_at_timeout = true;
    websocket_close(websocket, code, reason);
}

/* --- input --- */

/* Closes the connection after a protocol violation by the peer. */
static void fail_connection(struct websocket *websocket, unsigned code, const char *reason) {
    if (!websocket->closing && websocket->handler->on_fault != NULL)
        websocket->handler->on_fault(websocket, code, reason);
    websocket_close(websocket, code, slice_of(reason));
}

static void deliver_inflated(struct websocket *websocket, struct slice text) {
    worker_count_inflated(websocket->stream->worker, text.length);
    worker_spend(websocket->stream->worker, text.length);
    if (!utf8_valid(text))
        fail_connection(websocket, 1007, "the message is not valid UTF-8");
    else
        websocket->handler->on_message(websocket, text);
}

static void deliver_compressed(struct websocket *websocket, struct slice text) {
    switch (inflate_message(websocket->stream->worker->deflate, text, websocket->limits->max_message_bytes, &text)) {
    case INFLATE_OK:
        deliver_inflated(websocket, text);
        break;
    case INFLATE_BAD:
        fail_connection(websocket, 1007, "the message is not compressed as was agreed");
        break;
    case INFLATE_TOO_LARGE:
        fail_connection(websocket, 1009, "the message is too large");
        break;
    case INFLATE_NO_MEMORY:
        fail_connection(websocket, 1009, "out of memory for this message");
        break;
    }
}

/* Delivers a message. Of an uncompressed one, all pieces were checked as they arrived. */
static void deliver_message(struct websocket *websocket, const uint8_t *data, size_t length, bool compressed) {
    struct slice text = {(const char *)data, length};

    if (compressed)
        deliver_compressed(websocket, text);
    else if (websocket->text.left != 0)
        fail_connection(websocket, 1007, "the message ends inside a UTF-8 character");
    else
        websocket->handler->on_message(websocket, text);
}

/* Reserves `extra` bytes for fragments; false if there is no room. */
static bool reserve_fragments(struct buffer *fragments, size_t extra, struct budget_app *app) {
    size_t before = fragments->capacity, wanted = fragments->length + extra;

    if (before < wanted && wanted > STREAM_KEPT_BYTES && !budget_has_room(BUDGET_INPUT, app, wanted - before)) {
        budget_refused(BUDGET_INPUT);
        return false;
    }
    if (!buffer_try_reserve(fragments, extra))
        return false;
    budget_add(BUDGET_INPUT, app, fragments->capacity - before);
    return true;
}

static void handle_data_frame(struct websocket *websocket, const struct websocket_frame *frame, uint8_t *payload) {
    struct buffer *fragments = &websocket->fragments;
    bool continues = frame->opcode == WEBSOCKET_CONTINUATION;
    struct budget_app *app;
    struct buffer whole;

    if (frame->fin && !continues) {
        deliver_message(websocket, payload, frame->length, frame->compressed);
        return;
    }
    if (!continues)
        websocket->compressed = frame->compressed;
    /* Reserve one byte more: a capacity above 0 marks a message in progress, even after an empty first frame. */
    app = app_of(websocket);
    if (!reserve_fragments(fragments, frame->length + 1, app)) {
        websocket->handler->on_no_room(websocket);
        return;
    }
    buffer_append_bytes(fragments, payload, frame->length);
    if (!frame->fin)
        return;
    whole = *fragments;
    *fragments = (struct buffer){0};
    deliver_message(websocket, (const uint8_t *)whole.data, whole.length, websocket->compressed);
    free_fragments(&whole, app);
}

static void handle_close_frame(struct websocket *websocket, const uint8_t *payload, size_t length) {
    unsigned code = length >= 2 ? (unsigned)payload[0] << 8 | payload[1] : 1000;

    if (!websocket->closing) {
        if (length == 1 || !websocket_close_code_valid(code))
            code = 1002;
        else if (length > 2 && !utf8_valid((struct slice){(const char *)payload + 2, length - 2}))
            code = 1007;
        send_close(websocket, code, SLICE(""));
        begin_closing(websocket);
    }
    if (!websocket->reset_at_timeout)
        stream_finish_last(websocket->stream); /* nothing follows a close frame (RFC 6455 section 5.5.1) */
}

static bool is_control_frame(const struct websocket_frame *frame) {
    return frame->opcode >= WEBSOCKET_CLOSE;
}

static void handle_ping_or_pong(struct websocket *websocket, const struct websocket_frame *frame, uint8_t *payload) {
    bool ping = frame->opcode == WEBSOCKET_PING;
    bool answered =
        websocket->handler->on_control_frame == NULL || websocket->handler->on_control_frame(websocket, ping);

    if (ping && answered)
        send_frame(websocket, WEBSOCKET_PONG, &(struct slice){(char *)payload, frame->length}, 1);
}

static void handle_frame(struct websocket *websocket, const struct websocket_frame *frame, uint8_t *payload) {
    if (frame->opcode == WEBSOCKET_CLOSE)
        handle_close_frame(websocket, payload, frame->length);
    else if (websocket->closing)
        return; /* after our close frame, ignore all frames but the peer's close frame */
    else if (is_control_frame(frame))
        handle_ping_or_pong(websocket, frame, payload);
    else
        handle_data_frame(websocket, frame, payload);
}

static bool too_large(const struct websocket *websocket, const struct websocket_frame *frame) {
    if (is_control_frame(frame)) /* the parser bounds these: 125 bytes at most (RFC 6455 section 5.5) */
        return false;
    return frame->length > websocket->limits->max_frame_bytes ||
           frame->length > websocket->limits->max_message_bytes - websocket->fragments.length;
}

/* Closes the connection if a data frame with this header is not acceptable, whatever its payload. */
static void check_header(struct websocket *websocket, const struct websocket_frame *frame) {
    bool continues = frame->opcode == WEBSOCKET_CONTINUATION;

    if (is_control_frame(frame) || websocket->closing)
        return;
    if (frame->opcode == WEBSOCKET_BINARY)
        fail_connection(websocket, 1003, "only text messages are understood");
    else if (continues != (websocket->fragments.capacity != 0))
        fail_connection(websocket, 1002,
                        continues ? "a continuation without a first frame" : "a new message inside another");
}

/* Unmasks the payload bytes that have arrived since the last call, and checks the text in them. */
static void take_payload(struct websocket *websocket, const struct websocket_frame *frame, uint8_t *payload,
                         size_t arrived) {
    uint8_t *piece = payload + websocket->unmasked;
    size_t length = arrived - websocket->unmasked;
    bool compressed = frame->opcode == WEBSOCKET_CONTINUATION ? websocket->compressed : frame->compressed;

    websocket_unmask(piece, length, frame->mask, websocket->unmasked);
    websocket->unmasked = (uint32_t)arrived; /* max_frame_bytes is a 32-bit setting */
    if (is_control_frame(frame) || compressed || websocket->closing)
        return;
    if (!utf8_continue(&websocket->text, (struct slice){(const char *)piece, length}))
        fail_connection(websocket, 1007, "the message is not valid UTF-8");
}

static size_t consume_frames(struct websocket *websocket, uint8_t *data, size_t length) {
    struct stream *stream = websocket->stream;
    size_t at = 0;

    while (stream_is_open(stream) && worker_may_take(stream->worker)) {
        struct websocket_frame frame;
        const char *why;
        uint8_t *payload;
        size_t arrived;
        enum websocket_parse parse = websocket_frame_parse(data + at, length - at, websocket->compresses, &frame, &why);

        if (parse == WEBSOCKET_FRAME_INCOMPLETE)
            return at;
        if (parse == WEBSOCKET_FRAME_BAD || too_large(websocket, &frame)) {
            if (parse == WEBSOCKET_FRAME_BAD)
                fail_connection(websocket, 1002, why);
            else
                fail_connection(websocket, 1009, "the message is too large");
            return length; /* later bytes cannot be parsed as frames; the close timer ends the connection */
        }
        payload = data + at + frame.header_length;
        arrived = length - at - frame.header_length;
        if (arrived > frame.length)
            arrived = frame.length;
        check_header(websocket, &frame);
        take_payload(websocket, &frame, payload, arrived);
        if (arrived < frame.length)
            return at;
        websocket->unmasked = 0;
        worker_count_message(stream->worker, FRAME_WORK + frame.length);
        handle_frame(websocket, &frame, payload);
        at += frame.header_length + frame.length;
    }
    return stream_is_open(stream) ? at : length;
}

static size_t websocket_on_data(struct stream *stream, uint8_t *data, size_t length) {
    struct websocket *websocket = stream->context;
    size_t consumed;

    if (length > websocket->seen) /* unconsumed bytes are offered again */
        websocket->handler->on_activity(websocket, length - websocket->seen);
    consumed = consume_frames(websocket, data, length);
    websocket->seen = (uint32_t)(length - consumed);
    return consumed;
}

static void websocket_on_end(struct stream *stream) {
    stream_close(stream);
}

static void websocket_on_timer(struct stream *stream) {
    struct websocket *websocket = stream->context;

    if (!websocket->closing)
        websocket->handler->on_timer(websocket);
    else if (websocket->reset_at_timeout)
        stream_reset(stream);
    else
        stream_close(stream);
}

static void websocket_on_slow(struct stream *stream) {
    struct websocket *websocket = stream->context;

    websocket->handler->on_slow(websocket);
}

/* The parser begins anew: what it gets from now on is ignored, because the connection is closing. */
static void websocket_on_no_room(struct stream *stream) {
    struct websocket *websocket = stream->context;

    websocket->seen = websocket->unmasked = 0;
    if (!websocket->closing)
        websocket->handler->on_no_room(websocket);
}

static void websocket_on_closed(struct stream *stream) {
    struct websocket *websocket = stream->context;

    begin_closing(websocket);
    websocket->handler->on_closed(websocket);
}
