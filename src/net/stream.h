/*
 * A stream: one accepted connection (TCP, TLS or a unix socket) as bytes in and chunks out.
 *
 * Reading: bytes go to the handler straight from the worker's one receive buffer. Bytes that the handler does not
 * consume (half a frame) are kept in a buffer of the stream's own, which is freed as soon as it is empty.
 *
 * Writing: stream_send puts a chunk on the output queue and the stream on its worker's flush queue; the end of the turn
 * writes each stream once. For an event with many subscribers, stream_fan_out puts the streams on a second queue, of
 * which a turn writes a share. So input of the next turn is answered before the last subscriber has its event, and
 * later events join it on the way to the subscribers still to come. An idle stream owns no buffer of either kind.
 *
 *   OPEN ---- stream_finish ----> FINISHING -- all written --> LINGERING -- end of input or 5 s --> closed
 *     \--- stream_close/reset, error or end of input --------------------------------------------> closed
 *
 * LINGERING has sent its FIN and ignores further input: closing a socket with unread input would reset the connection,
 * and the peer could lose the last answer.
 *
 * Owned by one worker; all functions are for its thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/list.h"
#include "base/timer.h"
#include "net/chunk.h"
#include "net/worker.h"

struct stream;
struct tls_connection;

/* The callbacks of a protocol. All are set but `encode`, which may be NULL. */
struct stream_handler {
    /* Consumes bytes from the front and returns how many; the rest comes again with later input. May change the bytes.
     */
    size_t (*on_data)(struct stream *stream, uint8_t *data, size_t length);
    /* The peer has closed its side. Called once. */
    void (*on_end)(struct stream *stream);
    /* The timer of stream_set_timeout has fired. */
    void (*on_timer)(struct stream *stream);
    /* The unsent output is over `limits` and the socket is full. Called once; sends are dropped until the handler calls
     * stream_drop_output. */
    void (*on_slow)(struct stream *stream);
    /* The stream is closed; the last call. Free the context. */
    void (*on_closed)(struct stream *stream);
    /* For streams with `encodes`: returns the chunk to queue in place of `chunk`, with a reference for the caller.
     * Called once for each queued chunk, in order. */
    struct chunk *(*encode)(struct stream *stream, struct chunk *chunk);
};

/* Bounds on unsent output; 0 is none. Shared by all streams of a kind. */
struct stream_limits {
    uint32_t max_messages;
    uint64_t max_bytes;
    bool drop_droppable; /* at the bound drop droppable chunks instead of calling on_slow */
};

enum stream_state { STREAM_OPEN, STREAM_FINISHING, STREAM_LINGERING, STREAM_CLOSED };

#define STREAM_INLINE_CHUNKS 2
#define STREAM_FAN_OUT_LEAST 16

struct stream {
    struct poll_target target;
    struct worker *worker;
    const struct stream_handler *handler;
    void *context; /* the handler's */
    const struct stream_limits *limits;

    int fd;
    uint8_t state; /* enum stream_state */
    bool in_flush_queue : 1;
    bool slow : 1;                /* over its limits: on_slow was called or will be */
    bool broken : 1;              /* the socket reported an error: nothing more is written */
    bool reset : 1;               /* close with RST */
    bool paused : 1;              /* not reading */
    bool want_write : 1;          /* the socket is full: waiting for EPOLLOUT */
    bool ended : 1;               /* the peer has closed its side */
    bool resume_when_drained : 1; /* paused until all output is written */
    bool tls_repeat : 1;          /* TLS has begun the first chunk and needs the same write again */
    bool tls_read_writes : 1;     /* TLS can read only after a write */
    bool offer_due : 1;           /* kept input has to be offered to the handler again */
    bool encodes : 1;             /* chunks go through the handler's `encode` */

    /* The output queue: a ring of chunks, inside the stream while it is short. */
    uint16_t out_first, out_count, out_capacity;
    uint32_t out_offset; /* bytes of the first chunk that are written */
    uint32_t out_messages;
    uint64_t out_bytes; /* unsent */
    struct chunk **out; /* out_inline or an array of out_capacity */
    struct chunk *out_inline[STREAM_INLINE_CHUNKS];

    struct list queued; /* in the worker's flush_queue or fan_out_queue, or in neither */
    struct list link;   /* in the worker's streams or closed */
    struct timer timer;
    struct buffer *in;          /* input that the handler has not consumed, or NULL */
    struct tls_connection *tls; /* NULL: plain */
};

/* Takes over a connected, non-blocking socket, with TLS on it unless `tls` is NULL. NULL if epoll refuses it; both are
 * then closed. */
struct stream *stream_create(struct worker *worker, int fd, struct tls_connection *tls,
                             const struct stream_handler *handler, void *context);

/* Hands the stream to another protocol, with the input that is not consumed yet. */
void stream_set_handler(struct stream *stream, const struct stream_handler *handler, void *context);

/* Queues `chunk`, taking a reference of its own, to be written at the end of this turn. Dropped when the stream is
 * closing. Returns the bytes that will go out, -1 if it was dropped. */
ssize_t stream_send(struct stream *stream, struct chunk *chunk);

/* The same for a copy of the bytes. */
ssize_t stream_send_copy(struct stream *stream, const void *data, size_t length);

/* The same as stream_send for a chunk that more than STREAM_FAN_OUT_LEAST streams get. A turn writes only some of them,
 * so that other connections do not wait for all; the rest follows in the next turns, each with all that was queued for
 * it by then. */
ssize_t stream_fan_out(struct stream *stream, struct chunk *chunk);

/* Puts the stream into the flush queue of this turn; stream_send does so. */
void stream_schedule_flush(struct stream *stream);

/* Drops the queued chunks of which no byte is written, and lets a slow stream take output again. */
void stream_drop_output(struct stream *stream);

/* The handler's one timer: on_timer in `delay_ms` or up to a second later; 0 cancels it. */
void stream_set_timeout(struct stream *stream, uint64_t delay_ms);

/* Stop and start reading; meanwhile input waits in the kernel. Resuming offers unconsumed input in the same turn. */
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream);

/* Pauses until all output is written: back-pressure for a peer that asks more than it reads. */
void stream_pause_until_drained(struct stream *stream);

/* Closes when all output is written and the peer has read it. No more input reaches the handler. */
void stream_finish(struct stream *stream);

/* Closes at the end of this turn, after output that the socket takes at once. */
void stream_close(struct stream *stream);

/* The same with RST: the peer gets an error, and the kernel keeps nothing of the connection. */
void stream_reset(struct stream *stream);

/* Sets the bounds on unsent output; they outlive the stream. */
static inline void stream_set_limits(struct stream *stream, const struct stream_limits *limits) {
    stream->limits = limits;
}

static inline uint64_t stream_unsent_bytes(const struct stream *stream) {
    return stream->out_bytes;
}

/* True if the handler's protocol speaks on the stream. */
static inline bool stream_is(const struct stream *stream, const struct stream_handler *handler) {
    return stream->handler == handler;
}

static inline bool stream_is_open(const struct stream *stream) {
    return stream->state == STREAM_OPEN;
}

/* Calls `each` for every stream of the worker that is not freed. It may close streams. */
void streams_each(struct worker *worker, void (*each)(struct stream *stream, void *context), void *context);

/* For a worker that ends: peers of finishing streams get two more seconds to read the output. */
void streams_shorten_timeouts(struct worker *worker);

/* The end of a worker's turn: writes the output of the streams in the queues and frees closed streams. */
void streams_flush(struct worker *worker);
