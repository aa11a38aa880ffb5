/*
 * A stream: one accepted connection (TCP, TLS or a unix socket), with bytes as input and chunks as output.
 *
 * Reading: the handler gets bytes directly from the worker's receive buffer. Bytes that it does not consume (a partial
 * frame) are kept in a buffer of the stream's own, which is freed as soon as it is empty. A stream that has more input
 * than it may take in one turn is put into the worker's backlog, which is visited in each turn. While worker_may_take
 * is false, a handler consumes no further message.
 *
 * Writing: stream_send appends a chunk to the stream's output queue and the stream to its worker's flush queue; at the
 * end of the turn each stream in that queue is written once. For an event with many subscribers, stream_fan_out puts
 * the streams into a second queue, of which each turn writes a share. So the next turn can answer other connections
 * before the last subscriber gets the event, and later events go out in the same writes. An idle stream owns no
 * buffers.
 *
 *   OPEN ---- stream_finish ----> FINISHING -- all written --> LINGERING -- end of input or 5 s --> closed
 *     \--- stream_close/reset, error or end of input --------------------------------------------> closed
 *
 * stream_finish_last leaves LINGERING out.
 *
 * LINGERING has sent its FIN and ignores further input: closing a socket with unread input would reset the connection,
 * and the peer could lose the last answer.
 *
 * A stream belongs to one worker; all functions are for its thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/list.h"
#include "base/timer.h"
#include "net/chunk.h"
#include "net/worker.h"

struct stream;
struct tls_connection;

/* The callbacks of a protocol. All are set but the last three, which may be NULL. */
struct stream_handler {
    /* Consumes bytes from the front and returns their number; the rest is offered again with later input. The handler
     * may change the bytes. */
    size_t (*on_data)(struct stream *stream, uint8_t *data, size_t length);
    /* The peer has closed its side. Called once. */
    void (*on_end)(struct stream *stream);
    /* The timer of stream_set_timeout has fired. */
    void (*on_timer)(struct stream *stream);
    /* The unsent output is over `limits`, or over STREAM_SHORT_BYTES while memory is short, and the socket is full.
     * Called once; sends are dropped until the handler calls stream_drop_output. */
    void (*on_slow)(struct stream *stream);
    /* The stream is closed. The last call: the handler frees the context. */
    void (*on_closed)(struct stream *stream);
    /* For streams with `encodes`: returns the chunk to queue in place of `chunk`, with a reference for the caller.
     * Called once for each queued chunk, in order. */
    struct chunk *(*encode)(struct stream *stream, struct chunk *chunk);
    /* There was no room for input that had to be kept, so it is lost: the handler ends the connection. NULL: the stream
     * closes. */
    void (*on_no_room)(struct stream *stream);
    /* Returns the app for which the stream is counted in the account of memory; NULL: none, or not known yet. When that
     * changes, the handler moves what stream_held_bytes says. */
    struct budget_app *(*app)(const struct stream *stream);
};

/* While there is no room for output in the account of memory, streams with bounds may have so much unsent. */
#define STREAM_SHORT_BYTES (16 * 1024)

/* Bounds on unsent output; 0: no bound. Shared by all streams of a protocol. */
struct stream_limits {
    uint32_t max_messages;
    uint64_t max_bytes;
    /* Drop droppable chunks at the bound instead of calling on_slow. */
    bool drop_droppable;
};

enum stream_state { STREAM_OPEN, STREAM_FINISHING, STREAM_LINGERING, STREAM_CLOSED };

/* So much unconsumed input is kept also when there is no room in the account of memory. */
#define STREAM_KEPT_BYTES 4096

#define STREAM_INLINE_CHUNKS 2
#define STREAM_FAN_OUT_LEAST 16

struct stream {
    struct poll_target target;
    struct worker *worker;
    const struct stream_handler *handler;
    void *context; /* for the handler */
    const struct stream_limits *limits;

    int fd;
    uint8_t state; /* enum stream_state */
    bool in_flush_queue : 1;
    /* Over its limits: on_slow was called or is called at the end of the turn. */
    bool slow : 1;
    bool broken : 1;              /* the socket reported an error: nothing more is written */
    bool reset : 1;               /* close with RST */
    bool paused : 1;              /* not reading */
    bool want_write : 1;          /* the socket is full: waiting for EPOLLOUT */
    bool ended : 1;               /* the peer has closed its side */
    bool last : 1;                /* the peer has said that it sends nothing more */
    bool resume_when_drained : 1; /* paused until all output is written */
    bool tls_repeat : 1;          /* TLS must repeat its unfinished write of `tls_offered` bytes */
    bool tls_by_kernel : 1;       /* the kernel encrypts: write as without TLS */
    bool tls_read_writes : 1;     /* TLS must write before it can read */
    bool offer_due : 1;           /* kept input must be offered to the handler again */
    bool encodes : 1;             /* chunks go through the handler's `encode` */
    bool parked : 1;              /* in the backlog, and not watched for input meanwhile */

    /* The output queue: a ring of chunks, stored inside the stream while it is short. */
    uint16_t out_first, out_count, out_capacity;
    uint16_t tls_offered;  /* bytes of the last write by TLS */
    uint32_t out_offset;   /* bytes of the first chunk that are already written */
    uint32_t out_messages; /* unsent messages */
    uint64_t out_bytes;    /* unsent bytes */
    struct chunk **out;    /* out_inline or an array of out_capacity */
    struct chunk *out_inline[STREAM_INLINE_CHUNKS];

    /* Link in the worker's flush_queue or fan_out_queue, or in neither. */
    struct list queued;
    struct list link; /* link in the worker's list `streams` or `closed` */
    struct timer timer;
    struct buffer *in;            /* input that the handler has not consumed, or NULL */
    struct tls_connection *tls;   /* NULL: no TLS */
    struct backlog_entry backlog; /* in the worker's backlog: there may be more input */
};

/* Creates a stream that takes over a connected, non-blocking socket and its TLS connection (NULL: no TLS). NULL if
 * epoll refuses the socket; both are then closed. */
struct stream *stream_create(struct worker *worker, int fd, struct tls_connection *tls,
                             const struct stream_handler *handler, void *context);

/* Gives the stream to another protocol, with the input that is not consumed yet. */
void stream_set_handler(struct stream *stream, const struct stream_handler *handler, void *context);

/* Queues `chunk` to be written at the end of this turn; takes a reference of its own. Returns the number of bytes
 * queued; -1 if the chunk was dropped: the stream is closing, broken or over its limits. */
ssize_t stream_send(struct stream *stream, struct chunk *chunk);

/* The same for a copy of the bytes. */
ssize_t stream_send_copy(struct stream *stream, const void *data, size_t length);

/* The same as stream_send for a chunk that more than STREAM_FAN_OUT_LEAST streams get. A turn writes only a share of
 * these streams, so that other connections do not wait for all of them; the next turns write the rest, each stream with
 * everything that is queued for it by then. */
ssize_t stream_fan_out(struct stream *stream, struct chunk *chunk);

/* Puts the stream into the flush queue of this turn. stream_send does this. */
void stream_schedule_flush(struct stream *stream);

/* Drops the queued chunks that are not partly written, and lets a slow stream accept output again. */
void stream_drop_output(struct stream *stream);

/* Sets the handler's only timer: on_timer is called after `delay_ms` or up to a second later; 0 cancels it. */
void stream_set_timeout(struct stream *stream, uint64_t delay_ms);

/* Stop and start reading; meanwhile input waits in the kernel. After resuming, the next visit of the backlog offers
 * unconsumed input. */
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream);

/* Pauses until all output is written: back-pressure for a peer that sends requests faster than it reads answers. */
void stream_pause_until_drained(struct stream *stream);

/* Closes when all output is written and the peer has read it. No more input reaches the handler. */
void stream_finish(struct stream *stream);

/* The same for a peer that has said, in its own protocol, that it sends nothing more. So nothing is left unread that
 * would reset the connection, and it is closed when all output is written, without waiting for the peer's FIN. */
void stream_finish_last(struct stream *stream);

/* Closes at the end of this turn. Queued output is sent only as far as the socket accepts it at once. */
void stream_close(struct stream *stream);

/* The same with RST: output is dropped, the peer gets an error, and the kernel keeps no state of the connection. */
void stream_reset(struct stream *stream);

/* Sets the bounds on unsent output, which must outlive the stream; NULL: none. */
static inline void stream_set_limits(struct stream *stream, const struct stream_limits *limits) {
    stream->limits = limits;
}

/* For stream_held_bytes: what the stream holds beside itself. */
size_t stream_held_beside(const struct stream *stream);

/* Returns what the stream holds in the account of memory for its app: itself, its TLS, kept input, and a long output
 * queue without the chunks. */
static inline size_t stream_held_bytes(const struct stream *stream) {
    bool more = stream->in != NULL || stream->tls != NULL || stream->out != stream->out_inline;

    return alloc_footprint(sizeof *stream) + (more ? stream_held_beside(stream) : 0);
}

/* Returns the number of queued bytes that are not written yet. */
static inline uint64_t stream_unsent_bytes(const struct stream *stream) {
    return stream->out_bytes;
}

/* True if the stream has this handler, so that its protocol is known. */
static inline bool stream_is(const struct stream *stream, const struct stream_handler *handler) {
    return stream->handler == handler;
}

/* True if the stream is in state OPEN: its handler gets input, and output is accepted. */
static inline bool stream_is_open(const struct stream *stream) {
    return stream->state == STREAM_OPEN;
}

/* Calls `each` for every stream of the worker whose on_closed was not called; `each` may close streams. */
void streams_each(struct worker *worker, void (*each)(struct stream *stream, void *context), void *context);

/* Shortens the timeout of finishing and lingering streams to two seconds, for a worker that ends. */
void streams_shorten_timeouts(struct worker *worker);

/* Visits the first `count` places of the backlog, those of earlier turns, while the turn has time. */
void streams_visit_backlog(struct worker *worker, uint32_t count);

/* Ends a worker's turn: writes the output of the streams in the queues, while the turn has time, and frees closed
 * streams. */
void streams_flush(struct worker *worker);
