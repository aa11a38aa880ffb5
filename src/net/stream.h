/*
 * A stream: one accepted connection (TCP, TLS or a unix socket) as bytes in and chunks out.
 *
 * Reading: bytes go to the handler straight from the worker's one receive buffer. What the handler does not consume
 * (half a frame) is kept in a buffer of the stream's own, which is freed as soon as it is empty.
 *
 * Writing: stream_send puts a chunk on the output list and the stream on its worker's list of those that are due; the
 * end of the turn writes each of them once. Where one event goes to many streams, stream_fan_out puts them on a second
 * list, of which a turn writes a share: what the next turn brings is answered before the last subscriber has its event,
 * and joins it on the way to those that are still to come. An idle stream owns no buffer of either kind.
 *
 *   OPEN ---- stream_finish ----> FINISHING -- all written --> LINGERING -- end of input or 5 s --> closed
 *     \--- stream_close/reset, error or end of input --------------------------------------------> closed
 *
 * LINGERING has sent its FIN and reads on without looking, since closing a socket with unread input would reset
 * the connection and could take the last answer with it.
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

/* How a protocol takes part in a stream's life. Every pointer is set but the last. */
struct stream_handler {
    /* Consumes bytes from the front and returns how many; the rest comes again with what follows it. May change them.
     */
    size_t (*on_data)(struct stream *stream, uint8_t *data, size_t length);
    /* The peer has sent its last byte. Called once. */
    void (*on_end)(struct stream *stream);
    /* The time set by stream_set_timeout is over. */
    void (*on_timer)(struct stream *stream);
    /* More is unsent than `limits` allow although the socket takes no more. Called once; from here on sends are dropped
     * until the handler has called stream_drop_output. */
    void (*on_slow)(struct stream *stream);
    /* The stream is gone; the last call. Free the context. */
    void (*on_closed)(struct stream *stream);
    /* For streams that are marked with `encodes`: what goes out in place of `chunk`, with a reference for the caller.
     * It is called once for each chunk that is queued, in their order, and what it returns is queued. */
    struct chunk *(*encode)(struct stream *stream, struct chunk *chunk);
};

/* Bounds on unsent output; 0 is none. Shared by all streams of a kind. */
struct stream_limits {
    uint32_t max_messages;
    uint64_t max_bytes;
    bool drop_droppable; /* at the bound leave droppable chunks out in place of calling on_slow */
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
    uint8_t state;                /* enum stream_state */
    bool due : 1;                 /* on the worker's list of that name */
    bool slow : 1;                /* over its limits, on_slow is due or done */
    bool broken : 1;              /* the socket reported an error; nothing more is written */
    bool reset : 1;               /* close with RST */
    bool paused : 1;              /* not reading */
    bool want_write : 1;          /* waiting for the socket to take more */
    bool ended : 1;               /* the peer's end of input was reported */
    bool resume_when_drained : 1; /* paused until all output is written */
    bool tls_repeat : 1;          /* TLS has begun the first chunk and wants just this write again */
    bool tls_read_writes : 1;     /* TLS can read only when the socket takes more */
    bool offer_due : 1;           /* kept input is to be offered to the handler again */
    bool encodes : 1;             /* chunks go through the handler's `encode` */

    /* The output list: a ring of chunks, inside the stream while it is short. */
    uint16_t out_first, out_count, out_capacity;
    uint32_t out_offset; /* bytes of the first chunk that are written */
    uint32_t out_messages;
    uint64_t out_bytes; /* unsent */
    struct chunk **out; /* out_inline or an array of out_capacity */
    struct chunk *out_inline[STREAM_INLINE_CHUNKS];

    struct list to_write; /* on the worker's due or fan_out, or on neither */
    struct list link;     /* on the worker's streams or corpses */
    struct timer timer;
    struct buffer *in;          /* bytes that wait for more, or NULL */
    struct tls_connection *tls; /* NULL: plain */
};

/* Takes over a connected, non-blocking socket, with TLS on it unless `tls` is NULL. NULL (and both closed) if it cannot
 * be watched. */
struct stream *stream_create(struct worker *worker, int fd, struct tls_connection *tls,
                             const struct stream_handler *handler, void *context);

/* From now on another protocol speaks on this stream. Input that is there is given to it. */
void stream_set_handler(struct stream *stream, const struct stream_handler *handler, void *context);

/* Queues `chunk`, taking a reference of its own, to be written at the end of this turn. Dropped when the stream is
 * closing. Returns the bytes that will go out, -1 if it was dropped. */
ssize_t stream_send(struct stream *stream, struct chunk *chunk);

/* The same for one of more than STREAM_FAN_OUT_LEAST streams that get the chunk. A turn writes only some of them, so
 * that nobody else waits for all; the others follow in the next turns, each with what was queued for it until then. */
ssize_t stream_fan_out(struct stream *stream, struct chunk *chunk);

/* Puts the stream among those that the end of this turn looks at. stream_send does it by itself. */
void stream_mark_due(struct stream *stream);

/* Takes back all output of which no byte is written yet, and makes a slow stream take output again. */
void stream_drop_output(struct stream *stream);

/* The handler's one timer: on_timer in `delay_ms` or up to a second later; 0 cancels it. */
void stream_set_timeout(struct stream *stream, uint64_t delay_ms);

/* Stops and starts reading; what the peer sends waits in the kernel. Resuming takes up unconsumed input at once. */
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream);

/* Pauses, and resumes by itself when all output is written: for a peer that asks more than it reads. */
void stream_pause_until_drained(struct stream *stream);

/* Closes when all output is written and the peer has seen it: no more input reaches the handler. */
void stream_finish(struct stream *stream);

/* Closes at the end of this turn; what can be written without waiting is. */
void stream_close(struct stream *stream);

/* The same with RST: the peer gets an error, and nothing lingers in the kernel. */
void stream_reset(struct stream *stream);

static inline bool stream_is_open(const struct stream *stream) {
    return stream->state == STREAM_OPEN;
}

/* The worker ends: who is still to read what a finishing stream has unsent gets two more seconds. */
void streams_hurry(struct worker *worker);

/* The end of a worker's turn. */
void streams_flush(struct worker *worker);
