#include "net/stream_internal.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "net/address_table.h"
#include "net/tls.h"

#define FINISH_MS 30000          /* time for the peer to read the remaining output */
#define SHORTENED_FINISH_MS 2000 /* the same while the worker ends */
#define LINGER_MS 5000           /* time for the peer to close after our FIN */

#define WRITE_WORK 1024               /* of a system call that writes, apart from its bytes */
#define HANDSHAKE_WORK WORK_PER_CLOCK /* of a step of a TLS handshake, which may take a millisecond */

/* The share of the fan-out queue that one turn writes. Bounds keep a turn short and its overhead small. The more turns
 * a fan-out takes, the more events that arrive meanwhile go out in the same writes. Workers share the CPUs with each
 * other and with the publishers: with more workers, a publisher sends in fewer of one worker's turns, so the share is
 * smaller.
 */
#define FAN_OUT_SHARES_PER_WORKER 8
#define FAN_OUT_MOST 64

static void stream_ready(struct poll_target *target, uint32_t events);
static void stream_timer_fired(struct timer *timer);
static void visit_stream(struct stream *stream, int bytes, int messages);
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
        if (worker->all->addresses != NULL)
            address_table_leave(worker->all->addresses, fd);
        close(fd);
        free(stream);
        return NULL;
    }
    list_append(&worker->streams, &stream->link);
    budget_add(BUDGET_CONNECTIONS, NULL, alloc_footprint(sizeof *stream));
    worker->stream_count++;
    counter_add(&worker->counters.accepted, 1);
    return stream;
}

void stream_set_handler(struct stream *stream, const struct stream_handler *handler, void *context) {
    stream->handler = handler;
    stream->context = context;
}

void stream_pause(struct stream *stream) {
    if (stream->paused || stream->state == STREAM_CLOSED)
        return;
    stream->paused = true;
    stream->parked = false;
    stream_update_watch(stream);
}

void stream_resume(struct stream *stream) {
    if (!stream->paused || stream->state == STREAM_CLOSED)
        return;
    stream->paused = false;
    stream->offer_due = true;
    stream_update_watch(stream);
    /* Kept input is offered in a visit, not inside the caller. */
    if (stream->in != NULL || (stream->tls != NULL && tls_has_pending(stream->tls)))
        backlog_append(&stream->worker->backlog, &stream->backlog);
}

void stream_pause_until_drained(struct stream *stream) {
    stream->resume_when_drained = true;
    stream_pause(stream);
    stream_schedule_flush(stream);
}

static void stream_timer_fired(struct timer *timer) {
    struct stream *stream = container_of(timer, struct stream, timer);

    if (stream->state == STREAM_LINGERING || stream->state == STREAM_FINISHING)
        stream_close(stream);
    else if (stream->state == STREAM_OPEN)
        stream->handler->on_timer(stream);
}

void stream_set_timeout(struct stream *stream, uint64_t delay_ms) {
    if (stream->state != STREAM_OPEN) /* the timer is then used for finishing and lingering */
        return;
    if (delay_ms == 0)
        timer_cancel(&stream->timer);
    else
        timer_set(&stream->worker->timers, &stream->timer, stream->worker->now_ms, delay_ms);
}

static void begin_lingering(struct stream *stream) {
    if (stream->tls != NULL)
        tls_shutdown(stream->tls);
    shutdown(stream->fd, SHUT_WR);
    timer_set(&stream->worker->timers, &stream->timer, stream->worker->now_ms,
              stream->worker->stopping ? SHORTENED_FINISH_MS : LINGER_MS);
    if (stream->paused) {
        stream->paused = false;
        stream_update_watch(stream);
    }
}

/* Enters a state; all changes of the state use this function. */
static void stream_enter(struct stream *stream, enum stream_state state) {
    stream->state = (uint8_t)state;
    switch (state) {
    case STREAM_OPEN:
        break;
    case STREAM_FINISHING:
        timer_set(&stream->worker->timers, &stream->timer, stream->worker->now_ms,
                  stream->worker->stopping ? SHORTENED_FINISH_MS : FINISH_MS);
        stream_schedule_flush(stream);
        break;
    case STREAM_LINGERING:
        begin_lingering(stream);
        break;
    case STREAM_CLOSED:
        timer_cancel(&stream->timer);
        stream_schedule_flush(stream);
        break;
    }
}

void stream_finish(struct stream *stream) {
    if (stream->state == STREAM_OPEN)
        stream_enter(stream, STREAM_FINISHING);
}

void stream_finish_last(struct stream *stream) {
    stream->last = stream->tls == NULL; /* OpenSSL may have read more, and close_notify has to be sent */
    stream_finish(stream);
}

void stream_close(struct stream *stream) {
    if (stream->state != STREAM_CLOSED)
        stream_enter(stream, STREAM_CLOSED);
}

void stream_reset(struct stream *stream) {
    stream->reset = true;
    stream_close(stream);
}

/* --- input --- */

static size_t kept_input_bytes(const struct stream *stream) {
    return stream->in != NULL ? sizeof *stream->in + stream->in->capacity : 0;
}

size_t stream_held_beside(const struct stream *stream) {
    return kept_input_bytes(stream) + stream_ring_bytes(stream) +
           (stream->tls != NULL ? tls_held_bytes(stream->tls) : 0);
}

static __attribute__((noinline)) void in_give(struct stream *stream) {
    budget_give(BUDGET_INPUT, stream_app(stream), kept_input_bytes(stream));
    buffer_dispose(stream->in);
    free(stream->in);
    stream->in = NULL;
}

/* Frees the kept input, if there is any. */
static inline void in_free(struct stream *stream) {
    if (stream->in != NULL)
        in_give(stream);
}

/* Makes room for `extra` more bytes of kept input. What is offered again in the next turn is always kept. If there is
 * no room, the input is dropped and the handler ends the connection. */
static bool in_reserve(struct stream *stream, size_t extra) {
    size_t before = stream->in->capacity, wanted = stream->in->length + extra;

    if (before >= wanted)
        return true;
    if ((wanted <= STREAM_KEPT_BYTES || stream->offer_due ||
         budget_has_room(BUDGET_INPUT, stream_app(stream), wanted)) &&
        buffer_try_reserve(stream->in, extra)) {
        budget_add(BUDGET_INPUT, stream_app(stream), stream->in->capacity - before);
        return true;
    }
    budget_refused(BUDGET_INPUT);
    in_free(stream);
    if (stream->handler->on_no_room != NULL)
        stream->handler->on_no_room(stream);
    else
        stream_close(stream);
    return false;
}

/* True if many streams have input in this turn. */
static bool is_crowded(const struct worker *worker) {
    return worker->ready_count > INPUT_CROWD || worker->backlog.length != 0;
}

static void stream_ready(struct poll_target *target, uint32_t events) {
    struct stream *stream = container_of(target, struct stream, target);

    if (stream->state == STREAM_CLOSED)
        return;
    if ((events & EPOLLHUP) && stream->ended) { /* both directions are closed, and epoll reports it in every turn */
        stream_close(stream);
        return;
    }
    if (events & EPOLLOUT || stream->tls_repeat)
        stream_schedule_flush(stream);
    if (stream->paused)
        events &= ~(uint32_t)EPOLLIN; /* paused in this turn */
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0 && !stream->tls_read_writes)
        return;
    if (!backlog_holds(&stream->backlog)) {
        if (is_crowded(stream->worker))
            visit_stream(stream, INPUT_BYTES_OF_CROWD, INPUT_MESSAGES_OF_CROWD);
        else
            visit_stream(stream, INPUT_BYTES_PER_TURN, INPUT_MESSAGES_PER_TURN);
    } else if (!stream->parked && (events & EPOLLIN)) {
        stream->parked = true; /* else epoll reports it in every turn, before others */
        stream_update_watch(stream);
    }
}

static void input_ended(struct stream *stream) {
    if (stream->ended)
        return;
    stream->ended = true;
    if (stream->state == STREAM_OPEN)
        stream->handler->on_end(stream);
    else if (stream->state == STREAM_LINGERING)
        stream_close(stream);             /* not FINISHING: the peer may still read */
    if (stream->state != STREAM_CLOSED) { /* a socket at its end stays readable: stop watching it for input */
        stream->paused = true;
        stream_update_watch(stream);
    }
}

/* Reads once; same result as recv. */
static ssize_t read_some(struct stream *stream, void *data, size_t length) {
    bool want_write;
    ssize_t count;

    if (stream->tls == NULL)
        return recv(stream->fd, data, length, 0);
    if (tls_in_handshake(stream->tls))
        worker_spend(stream->worker, HANDSHAKE_WORK);
    count = tls_read(stream->tls, data, length, &want_write);
    if (count > 0 && !stream->tls_repeat) /* the handshake is over */
        stream->tls_by_kernel = tls_is_sent_by_kernel(stream->tls);
    if (want_write != stream->tls_read_writes) {
        stream->tls_read_writes = want_write;
        stream_update_watch(stream);
    }
    return count;
}

/* Reads once, what the visit may still take, and offers the input to the handler. True if there may be more. */
static bool read_and_offer(struct stream *stream) {
    struct worker *worker = stream->worker;
    struct buffer *in = stream->in;
    size_t wanted = (size_t)worker->visit_bytes;
    ssize_t length;

    if (in != NULL && stream->state == STREAM_OPEN) {
        if (!in_reserve(stream, in->length < STREAM_KEPT_BYTES ? STREAM_KEPT_BYTES - in->length : in->length))
            return false;
        if (wanted > in->capacity - in->length)
            wanted = in->capacity - in->length;
        length = read_some(stream, in->data + in->length, wanted);
    } else {
        length = read_some(stream, worker->receive_buffer, wanted);
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
    worker->visit_bytes -= (int32_t)length;
    if (stream->state == STREAM_OPEN && in != NULL) {
        in->length += (size_t)length;
        offer_input(stream, (uint8_t *)in->data, in->length);
    } else if (stream->state == STREAM_OPEN) {
        offer_input(stream, worker->receive_buffer, (size_t)length);
    } /* else lingering: input is ignored */
    worker_spend(worker, (size_t)length);
    return (size_t)length == wanted || (stream->tls != NULL && tls_has_pending(stream->tls));
}

/* Offers input to the handler until it consumes no more, and keeps the rest. */
static void offer_input(struct stream *stream, uint8_t *data, size_t length) {
    size_t consumed = 0;
    struct buffer *in;

    while (consumed < length && stream->state == STREAM_OPEN && !stream->paused && worker_may_take(stream->worker)) {
        const struct stream_handler *handler = stream->handler;
        size_t step = handler->on_data(stream, data + consumed, length - consumed);
        consumed += step;
        if (step == 0 && stream->handler == handler)
            break;
    }
    in = stream->in;
    if (consumed == length || stream->state != STREAM_OPEN) {
        in_free(stream);
        return;
    }
    if (!worker_may_take(stream->worker))
        stream->offer_due = true; /* there may be whole messages in the rest */
    if (in != NULL) {
        if (consumed != 0) {
            memmove(in->data, in->data + consumed, in->length - consumed);
            in->length -= consumed;
        }
        return;
    }
    stream->in = alloc_zero(sizeof *in);
    budget_add(BUDGET_INPUT, stream_app(stream), sizeof *in);
    if (in_reserve(stream, length - consumed))
        buffer_append_bytes(stream->in, data + consumed, length - consumed);
}

/* Offers and reads what the stream may take now. True if there may be more input. */
static bool take_input(struct stream *stream) {
    bool more = true;

    if (stream->offer_due && !stream->paused) {
        stream->offer_due = false;
        if (stream->in != NULL)
            offer_input(stream, (uint8_t *)stream->in->data, stream->in->length);
        if (stream->paused)
            return false;
    }
    /* A paused stream is read once when its peer has gone, to see its end. */
    while (more && stream->worker->visit_bytes > 0 && worker_may_take(stream->worker) && stream->state != STREAM_CLOSED)
        more = read_and_offer(stream) && !stream->paused;
    return (more || stream->offer_due) && stream->state != STREAM_CLOSED && !stream->paused;
}

/* Lets a stream take up to so many bytes and messages of its input, and puts it into the backlog if there may be more.
 */
static void visit_stream(struct stream *stream, int bytes, int messages) {
    struct worker *worker = stream->worker;
    struct worker_counters *counters = &worker->counters;
    bool more;

    worker->visit_bytes = bytes;
    worker->visit_messages = messages;
    worker->visit_inflated = INPUT_BYTES_PER_TURN;
    more = take_input(stream);
    counter_max(&counters->input_bytes_max, (uint64_t)(bytes - worker->visit_bytes));
    counter_max(&counters->input_messages_max, (uint64_t)(messages - worker->visit_messages));
    if (more) {
        counter_add(&counters->input_deferred, 1);
        backlog_append(&worker->backlog, &stream->backlog);
    } else if (stream->parked) {
        stream->parked = false;
        if (stream->state != STREAM_CLOSED)
            stream_update_watch(stream);
    }
}

void streams_visit_backlog(struct worker *worker, uint32_t count) {
    for (; count != 0 && !worker->turn_over; count--) {
        struct backlog_entry *entry = backlog_take(&worker->backlog);
        struct stream *stream;

        if (entry == NULL)
            continue;
        stream = container_of(entry, struct stream, backlog);
        if (stream->state != STREAM_CLOSED && !stream->paused)
            visit_stream(stream, INPUT_BYTES_PER_TURN, INPUT_MESSAGES_PER_TURN);
    }
}

/* --- the end of the turn --- */

static void stream_destroy(struct stream *stream) {
    struct worker *worker = stream->worker;
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    if (stream->out_count != 0 && !stream->broken && !stream->reset)
        stream_write(stream);
    stream_release_output(stream);
    in_free(stream);
    timer_cancel(&stream->timer);
    stream->handler->on_closed(stream);
    tls_connection_destroy(stream->tls);
    if (stream->reset)
        setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    if (worker->all->addresses != NULL)
        address_table_leave(worker->all->addresses, stream->fd);
    if (atomic_load_explicit(&worker->all->shares_descriptors, memory_order_relaxed))
        worker_unwatch(worker, stream->fd);
    close(stream->fd);
    backlog_remove(&worker->backlog, &stream->backlog);
    worker_forget(worker, &stream->target);
    worker->stream_count--;
    counter_add(&worker->counters.closed, 1);
    list_remove(&stream->link);
    list_append(&worker->closed, &stream->link);
}

static void flush_stream(struct stream *stream) {
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
    if (stream->broken)
        stream_close(stream);
    if (stream->state == STREAM_FINISHING && stream->out_count == 0)
        stream_enter(stream, stream->ended || stream->last ? STREAM_CLOSED : STREAM_LINGERING);
}

static void flush_queue(struct worker *worker, struct list *queue, unsigned most) {
    for (unsigned i = 0; i < most && !list_empty(queue) && !worker->turn_over; i++) {
        struct stream *stream = container_of(queue->next, struct stream, queued);

        worker_spend(worker, WRITE_WORK);
        stream_unqueue(stream);
        flush_stream(stream);
        if (stream->state == STREAM_CLOSED) {
            stream_unqueue(stream);
            stream_destroy(stream);
        }
    }
}

static unsigned fan_out_share(const struct worker *worker) {
    unsigned share = worker->fan_out_count / (FAN_OUT_SHARES_PER_WORKER * worker->all->count);

    return share < STREAM_FAN_OUT_LEAST ? STREAM_FAN_OUT_LEAST : share > FAN_OUT_MOST ? FAN_OUT_MOST : share;
}

void streams_each(struct worker *worker, void (*each)(struct stream *stream, void *context), void *context) {
    for (struct list *link = worker->streams.next; link != &worker->streams; link = link->next)
        each(container_of(link, struct stream, link), context);
}

static void shorten_timeout(struct stream *stream, void *context) {
    (void)context;
    if (stream->state == STREAM_FINISHING || stream->state == STREAM_LINGERING)
        timer_set(&stream->worker->timers, &stream->timer, stream->worker->now_ms, SHORTENED_FINISH_MS);
}

void streams_shorten_timeouts(struct worker *worker) {
    streams_each(worker, shorten_timeout, NULL);
}

void streams_flush(struct worker *worker) {
    flush_queue(worker, &worker->flush_queue, UINT_MAX);
    if (worker->fan_out_count != 0) {
        /* Let another worker, a proxy or the publisher use this CPU: the publisher's next event can then go out in the
         * same writes. */
        sched_yield();
        worker_begin_part(worker); /* answers may always take all of their time */
        flush_queue(worker, &worker->fan_out_queue, fan_out_share(worker));
        flush_queue(worker, &worker->flush_queue, UINT_MAX); /* streams that have closed or become slow meanwhile */
    }
    while (!list_empty(&worker->closed)) {
        struct stream *stream = container_of(worker->closed.next, struct stream, link);
        list_remove(&stream->link);
        budget_give(BUDGET_CONNECTIONS, NULL, alloc_footprint(sizeof *stream));
        free(stream);
    }
}
