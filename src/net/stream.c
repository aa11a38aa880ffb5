#include "net/stream.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "net/tls.h"

#define FINISH_MS 30000 /* for the peer to take what is still to be written */
#define HURRY_MS 2000   /* the same while the worker ends */
#define LINGER_MS 5000  /* for the peer to close after our FIN */
#define CHUNKS_PER_WRITE 64

/* How much of a fan-out is written in one turn: a share of those that wait, within bounds that keep a turn short and
 * its overhead small. The more turns going around takes, the more events that publishers send meanwhile go out in the
 * same writes. Workers share the processors with each other and with the publishers, so that with more workers a
 * publisher comes to send in fewer of a worker's turns: there are more of them, then. */
#define FAN_OUT_SHARES_PER_WORKER 8
#define FAN_OUT_MOST 64

static void stream_ready(struct poll_target *target, uint32_t events);
static void stream_timer_fired(struct timer *timer);
static void stream_read(struct stream *stream);
static void stream_write(struct stream *stream);
static void offer_input(struct stream *stream, uint8_t *data, size_t length);

struct stream *stream_create(struct worker *worker, int fd, struct tls_connection *tls,
                             const struct stream_handler *handler, void *context) {
    struct stream *stream = alloc_zero(sizeof *stream);

    stream->target.ready = stream_ready;
    stream->worker = worker;
    stream->handler = handler;
    stream->context = context;
    stream->fd = fd;
    stream->tls = tls;
    stream->out = stream->out_inline;
    stream->out_capacity = STREAM_INLINE_CHUNKS;
    stream->timer.fire = stream_timer_fired;
    if (!worker_watch(worker, fd, EPOLLIN, &stream->target)) {
        tls_connection_destroy(tls);
        close(fd);
        free(stream);
        return NULL;
    }
    list_append(&worker->streams, &stream->link);
    worker->stream_count++;
    counter_add(&worker->counters.accepted, 1);
    return stream;
}

void stream_set_handler(struct stream *stream, const struct stream_handler *handler, void *context) {
    stream->handler = handler;
    stream->context = context;
}

static void update_watch(struct stream *stream) {
    bool writable = stream->want_write || stream->tls_read_writes;
    uint32_t events = (stream->paused ? 0 : EPOLLIN) | (writable ? EPOLLOUT : 0);

    worker_rewatch(stream->worker, stream->fd, events, &stream->target);
}

void stream_pause(struct stream *stream) {
    if (stream->paused || stream->state == STREAM_CLOSED)
        return;
    stream->paused = true;
    update_watch(stream);
}

void stream_resume(struct stream *stream) {
    if (!stream->paused || stream->state == STREAM_CLOSED)
        return;
    stream->paused = false;
    stream->offer_due = true;
    update_watch(stream);
    stream_mark_due(stream); /* kept input is offered at the end of the turn, not from inside the caller */
}

void stream_pause_until_drained(struct stream *stream) {
    stream->resume_when_drained = true;
    stream_pause(stream);
    stream_mark_due(stream);
}

static void stream_timer_fired(struct timer *timer) {
    struct stream *stream = container_of(timer, struct stream, timer);

    if (stream->state == STREAM_LINGERING || stream->state == STREAM_FINISHING)
        stream_close(stream);
    else if (stream->state == STREAM_OPEN)
        stream->handler->on_timer(stream);
}

void stream_set_timeout(struct stream *stream, uint64_t delay_ms) {
    if (stream->state != STREAM_OPEN) /* the timer belongs to the stream's end from then on */
        return;
    if (delay_ms == 0)
        timer_cancel(&stream->timer);
    else
        timer_set(&stream->worker->timers, &stream->timer, stream->worker->now_ms, delay_ms);
}

/* Takes the stream off the list of those to be written that it is on. */
static void unlist(struct stream *stream) {
    if (!stream->due && !list_empty(&stream->to_write))
        stream->worker->fan_out_count--;
    stream->due = false;
    list_remove(&stream->to_write);
}

void stream_mark_due(struct stream *stream) {
    if (stream->due)
        return;
    unlist(stream);
    stream->due = true;
    list_append(&stream->worker->due, &stream->to_write);
}

void stream_finish(struct stream *stream) {
    if (stream->state != STREAM_OPEN)
        return;
    stream->state = STREAM_FINISHING;
    timer_set(&stream->worker->timers, &stream->timer, stream->worker->now_ms,
              stream->worker->stopping ? HURRY_MS : FINISH_MS);
    stream_mark_due(stream);
}

void stream_close(struct stream *stream) {
    if (stream->state == STREAM_CLOSED)
        return;
    stream->state = STREAM_CLOSED;
    timer_cancel(&stream->timer);
    stream_mark_due(stream);
}

void stream_reset(struct stream *stream) {
    stream->reset = true;
    stream_close(stream);
}

/* --- output --- */

static struct chunk **out_at(struct stream *stream, unsigned position) {
    return &stream->out[(stream->out_first + position) % stream->out_capacity];
}

/* Doubles the ring. False if the list is as long as its counters reach. */
static bool out_grow(struct stream *stream) {
    unsigned capacity = stream->out_capacity < 16 ? 16 : stream->out_capacity * 2u;
    struct chunk **out;

    if (capacity > UINT16_MAX)
        return false;
    out = alloc(capacity * sizeof *out);
    for (unsigned i = 0; i < stream->out_count; i++)
        out[i] = *out_at(stream, i);
    if (stream->out != stream->out_inline)
        free(stream->out);
    stream->out = out;
    stream->out_first = 0;
    stream->out_capacity = (uint16_t)capacity;
    return true;
}

static void out_release_ring(struct stream *stream) {
    if (stream->out != stream->out_inline)
        free(stream->out);
    stream->out = stream->out_inline;
    stream->out_capacity = STREAM_INLINE_CHUNKS;
    stream->out_first = 0;
}

static bool over_limits(const struct stream *stream, const struct chunk *chunk) {
    const struct stream_limits *limits = stream->limits;

    if (limits == NULL || stream->out_count == 0) /* an empty queue always takes one message */
        return false;
    return (limits->max_messages != 0 && stream->out_messages + chunk->messages > limits->max_messages) ||
           (limits->max_bytes != 0 && stream->out_bytes + chunk->length > limits->max_bytes);
}

/* The socket takes no more and the list is full: either this chunk may go missing, or the reader is too slow. */
static void refuse_chunk(struct stream *stream, const struct chunk *chunk) {
    if (stream->limits != NULL && stream->limits->drop_droppable && chunk->droppable) {
        counter_add(&stream->worker->counters.dropped_messages, chunk->messages);
        return;
    }
    stream->slow = true;
    counter_add(&stream->worker->counters.slow_readers, 1);
}

/* Returns the bytes that were queued; -1 if the chunk was not taken. */
static ssize_t out_append(struct stream *stream, struct chunk *chunk) {
    if (stream->state != STREAM_OPEN || stream->slow || stream->broken)
        return -1;
    if (over_limits(stream, chunk) || (stream->out_count == stream->out_capacity && !out_grow(stream))) {
        stream_mark_due(stream);
        stream_write(stream);
        if (stream->broken)
            return -1;
        if (over_limits(stream, chunk) || stream->out_count == stream->out_capacity) {
            refuse_chunk(stream, chunk);
            return -1;
        }
    }
    chunk = stream->encodes ? stream->handler->encode(stream, chunk) : chunk_ref(chunk);
    *out_at(stream, stream->out_count) = chunk;
    stream->out_count++;
    stream->out_messages += chunk->messages;
    stream->out_bytes += chunk->length;
    return chunk->length;
}

ssize_t stream_send(struct stream *stream, struct chunk *chunk) {
    ssize_t queued = out_append(stream, chunk);

    if (queued >= 0)
        stream_mark_due(stream);
    return queued;
}

ssize_t stream_fan_out(struct stream *stream, struct chunk *chunk) {
    struct worker *worker = stream->worker;
    ssize_t queued = out_append(stream, chunk);

    if (queued >= 0 && list_empty(&stream->to_write)) {
        list_append(&worker->fan_out, &stream->to_write);
        worker->fan_out_count++;
    }
    return queued;
}

static void out_drop(struct stream *stream, unsigned keep) {
    while (stream->out_count > keep) {
        struct chunk *chunk = *out_at(stream, stream->out_count - 1u);
        stream->out_count--;
        stream->out_messages -= chunk->messages;
        stream->out_bytes -= chunk->length;
        chunk_unref(chunk);
    }
}

void stream_drop_output(struct stream *stream) {
    out_drop(stream, stream->out_offset != 0 || stream->tls_repeat ? 1 : 0);
    stream->slow = false;
}

/* Takes what `written` bytes cover off the front of the list. */
static void out_consume(struct stream *stream, size_t written) {
    stream->out_bytes -= written;
    written += stream->out_offset;
    while (stream->out_count != 0) {
        struct chunk *chunk = *out_at(stream, 0);
        if (written < chunk->length)
            break;
        written -= chunk->length;
        stream->out_first = (uint16_t)((stream->out_first + 1u) % stream->out_capacity);
        stream->out_count--;
        stream->out_messages -= chunk->messages;
        chunk_unref(chunk);
    }
    stream->out_offset = (uint32_t)written;
}

static ssize_t write_some(struct stream *stream, size_t *wanted) {
    struct iovec parts[CHUNKS_PER_WRITE];
    unsigned count = stream->out_count < CHUNKS_PER_WRITE ? stream->out_count : CHUNKS_PER_WRITE;
    struct chunk *first = *out_at(stream, 0);

    if (stream->tls != NULL) {
        bool want_write;
        ssize_t written;
        *wanted = first->length - stream->out_offset;
        written = tls_write(stream->tls, first->bytes + stream->out_offset, *wanted, &want_write);
        stream->tls_repeat = written < 0;
        if (written >= 0)
            *wanted = (size_t)written; /* a short count is the end of a record, not of the socket's room */
        return written;
    }
    if (count == 1) {
        *wanted = first->length - stream->out_offset;
        return send(stream->fd, first->bytes + stream->out_offset, *wanted, MSG_NOSIGNAL);
    }
    *wanted = 0;
    for (unsigned i = 0; i < count; i++) {
        struct chunk *chunk = *out_at(stream, i);
        size_t skip = i == 0 ? stream->out_offset : 0;
        parts[i] = (struct iovec){(char *)chunk->bytes + skip, chunk->length - skip};
        *wanted += parts[i].iov_len;
    }
    return sendmsg(stream->fd, &(struct msghdr){.msg_iov = parts, .msg_iovlen = count}, MSG_NOSIGNAL);
}

/* Writes until the list is empty or the socket takes no more. */
static void stream_write(struct stream *stream) {
    bool want_write = false;

    while (stream->out_count != 0 && !stream->broken) {
        size_t wanted;
        ssize_t written = write_some(stream, &wanted);
        if (written >= 0) {
            out_consume(stream, (size_t)written);
            want_write = (size_t)written < wanted;
        } else if (errno == EAGAIN) {
            want_write = true;
        } else if (errno != EINTR) {
            stream->broken = true;
        }
        if (want_write)
            break;
    }
    if (stream->out_count == 0 && stream->out != stream->out_inline)
        out_release_ring(stream);
    if (want_write != stream->want_write && !stream->broken) {
        stream->want_write = want_write;
        update_watch(stream);
    }
}

/* --- input --- */

static void stream_ready(struct poll_target *target, uint32_t events) {
    struct stream *stream = container_of(target, struct stream, target);

    if (stream->state == STREAM_CLOSED)
        return;
    if ((events & EPOLLHUP) && stream->ended) { /* nobody is left to write to, and it is reported in every turn */
        stream_close(stream);
        return;
    }
    if (events & EPOLLOUT || stream->tls_repeat)
        stream_mark_due(stream);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) || stream->tls_read_writes)
        stream_read(stream);
}

static void input_ended(struct stream *stream) {
    if (stream->ended)
        return;
    stream->ended = true;
    if (stream->state == STREAM_OPEN)
        stream->handler->on_end(stream);
    else if (stream->state == STREAM_LINGERING)
        stream_close(stream);             /* when finishing, what is unsent still has a reader */
    if (stream->state != STREAM_CLOSED) { /* a socket at its end stays readable; do not be told again and again */
        stream->paused = true;
        update_watch(stream);
    }
}

/* Reads once; as recv. */
static ssize_t read_some(struct stream *stream, void *data, size_t length) {
    bool want_write;
    ssize_t count;

    if (stream->tls == NULL)
        return recv(stream->fd, data, length, 0);
    count = tls_read(stream->tls, data, length, &want_write);
    if (want_write != stream->tls_read_writes) {
        stream->tls_read_writes = want_write;
        update_watch(stream);
    }
    return count;
}

/* True if there may be more that the socket will not tell of. */
static bool read_and_offer(struct stream *stream) {
    struct worker *worker = stream->worker;
    struct buffer *in = stream->in;
    ssize_t length;

    if (in != NULL && stream->state == STREAM_OPEN) {
        if (!buffer_try_reserve(in, in->length < 4096 ? 4096 : in->length)) {
            stream_close(stream);
            return false;
        }
        length = read_some(stream, in->data + in->length, in->capacity - in->length);
    } else {
        length = read_some(stream, worker->receive_buffer, worker->receive_capacity);
    }
    if (length < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            stream->broken = true;
            stream_close(stream);
        }
        return false;
    }
    if (length == 0) {
        input_ended(stream);
        return false;
    }
    if (stream->state == STREAM_OPEN && in != NULL) {
        in->length += (size_t)length;
        offer_input(stream, (uint8_t *)in->data, in->length);
    } else if (stream->state == STREAM_OPEN) {
        offer_input(stream, worker->receive_buffer, (size_t)length);
    } /* else lingering: the bytes are of no interest */
    return stream->tls != NULL && tls_has_pending(stream->tls);
}

static void stream_read(struct stream *stream) {
    while (read_and_offer(stream) && stream->state != STREAM_CLOSED && !stream->paused)
        continue;
}

/* Gives input to the handler for as long as it consumes some, and keeps the rest. */
static void offer_input(struct stream *stream, uint8_t *data, size_t length) {
    size_t consumed = 0;
    struct buffer *in;

    while (consumed < length && stream->state == STREAM_OPEN && !stream->paused) {
        const struct stream_handler *handler = stream->handler;
        size_t step = handler->on_data(stream, data + consumed, length - consumed);
        consumed += step;
        if (step == 0 && stream->handler == handler)
            break;
    }
    in = stream->in;
    if (consumed == length || stream->state != STREAM_OPEN) {
        if (in != NULL) {
            buffer_dispose(in);
            free(in);
            stream->in = NULL;
        }
        return;
    }
    if (in != NULL) {
        if (consumed != 0) {
            memmove(in->data, in->data + consumed, in->length - consumed);
            in->length -= consumed;
        }
        return;
    }
    in = alloc_zero(sizeof *in);
    if (!buffer_try_reserve(in, length - consumed)) {
        free(in);
        stream_close(stream);
        return;
    }
    buffer_append_bytes(in, data + consumed, length - consumed);
    stream->in = in;
}

/* --- the end of the turn --- */

static void stream_destroy(struct stream *stream) {
    struct worker *worker = stream->worker;
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    if (stream->out_count != 0 && !stream->broken && !stream->reset)
        stream_write(stream);
    out_drop(stream, 0);
    out_release_ring(stream);
    if (stream->in != NULL) {
        buffer_dispose(stream->in);
        free(stream->in);
    }
    timer_cancel(&stream->timer);
    stream->handler->on_closed(stream);
    tls_connection_destroy(stream->tls);
    if (stream->reset)
        setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(stream->fd);
    worker->stream_count--;
    counter_add(&worker->counters.closed, 1);
    list_remove(&stream->link);
    list_append(&worker->corpses, &stream->link);
}

static void flush_one(struct stream *stream) {
    if (stream->state != STREAM_CLOSED && (stream->out_count != 0 || stream->want_write))
        stream_write(stream);
    if (stream->slow && stream->state == STREAM_OPEN) {
        stream->handler->on_slow(stream);
        if (stream->out_count != 0)
            stream_write(stream);
    }
    if (stream->resume_when_drained && stream->out_count == 0) {
        stream->resume_when_drained = false;
        stream_resume(stream);
    }
    if (stream->offer_due && stream->state == STREAM_OPEN && !stream->paused) {
        stream->offer_due = false;
        if (stream->in != NULL)
            offer_input(stream, (uint8_t *)stream->in->data, stream->in->length);
        if (stream->tls != NULL && tls_has_pending(stream->tls) && stream->state == STREAM_OPEN && !stream->paused)
            stream_read(stream);
    }
    if (stream->broken)
        stream->state = STREAM_CLOSED;
    if (stream->state == STREAM_FINISHING && stream->out_count == 0) {
        if (stream->ended) {
            stream->state = STREAM_CLOSED;
        } else {
            stream->state = STREAM_LINGERING;
            if (stream->tls != NULL)
                tls_shutdown(stream->tls);
            shutdown(stream->fd, SHUT_WR);
            timer_set(&stream->worker->timers, &stream->timer, stream->worker->now_ms, LINGER_MS);
            if (stream->paused) {
                stream->paused = false;
                update_watch(stream);
            }
        }
    }
}

static void flush_first(struct list *list, unsigned most) {
    for (unsigned i = 0; i < most && !list_empty(list); i++) {
        struct stream *stream = container_of(list->next, struct stream, to_write);
        unlist(stream);
        flush_one(stream);
        if (stream->state == STREAM_CLOSED && !stream->due)
            stream_destroy(stream);
    }
}

static unsigned fan_out_share(const struct worker *worker) {
    unsigned share = worker->fan_out_count / (FAN_OUT_SHARES_PER_WORKER * worker->all->count);

    return share < STREAM_FAN_OUT_LEAST ? STREAM_FAN_OUT_LEAST : share > FAN_OUT_MOST ? FAN_OUT_MOST : share;
}

void streams_hurry(struct worker *worker) {
    for (struct list *link = worker->streams.next; link != &worker->streams; link = link->next) {
        struct stream *stream = container_of(link, struct stream, link);
        if (stream->state == STREAM_FINISHING)
            timer_set(&worker->timers, &stream->timer, worker->now_ms, HURRY_MS);
    }
}

void streams_flush(struct worker *worker) {
    flush_first(&worker->due, UINT_MAX);
    if (worker->fan_out_count != 0) {
        /* Whoever waits for this CPU goes first, if anybody does: another worker, a proxy, the publisher with its next
         * event, which then goes out in the same writes. */
        sched_yield();
        flush_first(&worker->fan_out, fan_out_share(worker));
        flush_first(&worker->due, UINT_MAX); /* what closed or was too slow */
    }
    while (!list_empty(&worker->corpses)) {
        struct stream *stream = container_of(worker->corpses.next, struct stream, link);
        list_remove(&stream->link);
        free(stream);
    }
}
