#include "net/stream_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "net/tls.h"

#define FIRST_RING_CHUNKS 16
#define CHUNKS_PER_WRITE 64
/* Several chunks of no more bytes are copied into one place: that is less work than the kernel has with a list. */
#define COPIED_MAX_BYTES 2048

/* What one stream writes at once, before others do: the kernel copies it. */
#define WRITE_BYTES_PER_CALL (256 * 1024)
#define WRITE_BYTES_PER_FLUSH (1024 * 1024)

void stream_update_watch(struct stream *stream) {
    bool writable = stream->want_write || stream->tls_read_writes;
    uint32_t events = (stream->paused || stream->parked ? 0 : EPOLLIN) | (writable ? EPOLLOUT : 0);

    worker_rewatch(stream->worker, stream->fd, events, &stream->target);
}

void stream_unqueue(struct stream *stream) {
    if (!stream->in_flush_queue && !list_empty(&stream->queued))
        stream->worker->fan_out_count--;
    stream->in_flush_queue = false;
    list_remove(&stream->queued);
}

void stream_schedule_flush(struct stream *stream) {
    if (stream->in_flush_queue)
        return;
    stream_unqueue(stream);
    stream->in_flush_queue = true;
    list_append(&stream->worker->flush_queue, &stream->queued);
}

static struct chunk **out_at(struct stream *stream, unsigned position) {
    return &stream->out[(stream->out_first + position) % stream->out_capacity];
}

static size_t ring_footprint(const struct stream *stream) {
    return alloc_footprint(stream->out_capacity * sizeof *stream->out);
}

/* A queue of the first size is not counted for the app: a burst of events makes many for a moment, and counting them
 * would cost more than they do. */
size_t stream_ring_bytes(const struct stream *stream) {
    return stream->out_capacity > FIRST_RING_CHUNKS ? ring_footprint(stream) : 0;
}

static struct budget_app *ring_app(const struct stream *stream) {
    return stream->out_capacity > FIRST_RING_CHUNKS ? stream_app(stream) : NULL;
}

static void free_ring(struct stream *stream) {
    if (stream->out == stream->out_inline)
        return;
    budget_give(BUDGET_OUTPUT, ring_app(stream), ring_footprint(stream));
    free(stream->out);
}

/* Doubles the ring. False if its counters cannot hold a larger capacity. Apart, so that short queues need no registers
 * for it; so is output_is_short. */
static __attribute__((noinline)) bool out_grow(struct stream *stream) {
    unsigned capacity = stream->out_capacity < FIRST_RING_CHUNKS ? FIRST_RING_CHUNKS : stream->out_capacity * 2u;
    struct chunk **out;

    if (capacity > UINT16_MAX)
        return false;
    out = alloc(capacity * sizeof *out);
    for (unsigned i = 0; i < stream->out_count; i++)
        out[i] = *out_at(stream, i);
    free_ring(stream);
    stream->out = out;
    stream->out_first = 0;
    stream->out_capacity = (uint16_t)capacity;
    budget_add(BUDGET_OUTPUT, ring_app(stream), ring_footprint(stream));
    return true;
}

static void out_release_ring(struct stream *stream) {
    free_ring(stream);
    stream->out = stream->out_inline;
    stream->out_capacity = STREAM_INLINE_CHUNKS;
    stream->out_first = 0;
}

static __attribute__((noinline)) bool output_is_short(const struct stream *stream) {
    return !budget_has_room(BUDGET_OUTPUT, stream_app(stream), 0);
}

/* True if so many unsent bytes are too many because memory is short, for all or for the app. */
static inline bool over_share(const struct stream *stream, uint64_t bytes) {
    return bytes > STREAM_SHORT_BYTES && output_is_short(stream);
}

static bool over_limits(const struct stream *stream, const struct chunk *chunk) {
    const struct stream_limits *limits = stream->limits;

    if (limits == NULL || stream->out_count == 0) /* an empty queue always accepts one message */
        return false;
    return (limits->max_messages != 0 && stream->out_messages + chunk->messages > limits->max_messages) ||
           (limits->max_bytes != 0 && stream->out_bytes + chunk->length > limits->max_bytes) ||
           over_share(stream, stream->out_bytes + chunk->length);
}

/* Refuses a chunk because socket and queue are full: drops it if that is allowed, else marks the stream as slow. */
static void refuse_chunk(struct stream *stream, const struct chunk *chunk) {
    if (stream->limits != NULL && stream->limits->drop_droppable && chunk->droppable) {
        counter_add(&stream->worker->counters.dropped_messages, chunk->messages);
        return;
    }
    stream->slow = true;
    counter_add(&stream->worker->counters.slow_readers, 1);
    if (over_share(stream, stream->out_bytes + chunk->length))
        budget_refused(BUDGET_OUTPUT);
}

/* Writes a large message at once while memory is short. If the socket does not take it, its reader is slow. */
static void write_while_short(struct stream *stream) {
    stream_schedule_flush(stream);
    stream_write(stream);
    if (stream->broken || stream->out_bytes <= STREAM_SHORT_BYTES)
        return;
    stream->slow = true;
    counter_add(&stream->worker->counters.slow_readers, 1);
    budget_refused(BUDGET_OUTPUT);
}

/* Appends a chunk to the output queue. Returns the bytes that were queued; -1 if the chunk was dropped. */
static ssize_t out_append(struct stream *stream, struct chunk *chunk) {
    ssize_t length;

    if (stream->state != STREAM_OPEN || stream->slow || stream->broken)
        return -1;
    if (over_limits(stream, chunk) || (stream->out_count == stream->out_capacity && !out_grow(stream))) {
        stream_schedule_flush(stream);
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
    length = chunk->length; /* the chunk may be gone after it was written */
    if (stream->limits != NULL && over_share(stream, stream->out_bytes))
        write_while_short(stream);
    return length;
}

ssize_t stream_send(struct stream *stream, struct chunk *chunk) {
    ssize_t queued = out_append(stream, chunk);

    if (queued >= 0)
        stream_schedule_flush(stream);
    return queued;
}

ssize_t stream_send_copy(struct stream *stream, const void *data, size_t length) {
    struct chunk *chunk = chunk_copy(data, length);
    ssize_t queued = stream_send(stream, chunk);

    chunk_unref(chunk);
    return queued;
}

ssize_t stream_fan_out(struct stream *stream, struct chunk *chunk) {
    struct worker *worker = stream->worker;
    ssize_t queued = out_append(stream, chunk);

    if (queued >= 0 && list_empty(&stream->queued)) {
        list_append(&worker->fan_out_queue, &stream->queued);
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

/* Returns how many chunks at the front of the queue are partly written, or in a TLS record that is. */
static unsigned chunks_begun(struct stream *stream) {
    size_t begun = stream->out_offset + (stream->tls_repeat ? stream->tls_offered : 0u), length = 0;
    unsigned count = 0;

    while (length < begun)
        length += (*out_at(stream, count++))->length;
    return count;
}

void stream_drop_output(struct stream *stream) {
    out_drop(stream, chunks_begun(stream));
    stream->slow = false;
}

/* Removes `written` bytes from the front of the queue. */
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

/* Returns the first bytes of the queue, at most a TLS record. They are copied into `record` if several chunks hold
 * them: a record of their own for each would cost a system call and a tag. */
static struct slice next_record(struct stream *stream, char record[TLS_RECORD_MAX]) {
    struct chunk *chunk = *out_at(stream, 0);
    struct slice bytes = {chunk->bytes + stream->out_offset, chunk->length - stream->out_offset};
    size_t length = 0;

    if (bytes.length >= TLS_RECORD_MAX)
        return (struct slice){bytes.data, TLS_RECORD_MAX};
    if (stream->out_count == 1)
        return bytes;
    for (unsigned i = 1; bytes.length != 0; i++) {
        size_t fits = TLS_RECORD_MAX - length;
        size_t step = bytes.length < fits ? bytes.length : fits;
        memcpy(record + length, bytes.data, step);
        length += step;
        chunk = i < stream->out_count ? *out_at(stream, i) : NULL;
        bytes = chunk != NULL && step < fits ? (struct slice){chunk->bytes, chunk->length} : SLICE("");
    }
    return (struct slice){record, length};
}

/* Writes one record, or the rest of the one that did not fit into the socket. After that the queue begins with the same
 * bytes, so what is offered again is what OpenSSL has encrypted, and perhaps more. */
static ssize_t write_tls_record(struct stream *stream, size_t *wanted) {
    char record[TLS_RECORD_MAX];
    struct slice bytes = next_record(stream, record);
    bool want_write;
    ssize_t written = tls_write(stream->tls, bytes.data, bytes.length, &want_write);

    stream->tls_repeat = written < 0;
    stream->tls_offered = (uint16_t)bytes.length;
    if (written >= 0)
        *wanted = (size_t)written; /* a short count means the end of a record, not a full socket */
    return written;
}

static ssize_t send_copied(int fd, const struct iovec *parts, unsigned count) {
    char bytes[COPIED_MAX_BYTES], *at = bytes;

    for (unsigned i = 0; i < count; i++)
        at = mempcpy(at, parts[i].iov_base, parts[i].iov_len);
    return send(fd, bytes, (size_t)(at - bytes), MSG_NOSIGNAL);
}

static ssize_t write_some(struct stream *stream, size_t *wanted) {
    struct iovec parts[CHUNKS_PER_WRITE];
    unsigned count = stream->out_count < CHUNKS_PER_WRITE ? stream->out_count : CHUNKS_PER_WRITE;
    struct chunk *first = *out_at(stream, 0);

    if (stream->tls != NULL && !stream->tls_by_kernel)
        return write_tls_record(stream, wanted);
    if (count == 1) {
        *wanted = first->length - stream->out_offset;
        if (*wanted > WRITE_BYTES_PER_CALL)
            *wanted = WRITE_BYTES_PER_CALL;
        return send(stream->fd, first->bytes + stream->out_offset, *wanted, MSG_NOSIGNAL);
    }
    *wanted = 0;
    for (unsigned i = 0; i < count; i++) {
        struct chunk *chunk = *out_at(stream, i);
        size_t skip = i == 0 ? stream->out_offset : 0;
        parts[i] = (struct iovec){(char *)chunk->bytes + skip, chunk->length - skip};
        *wanted += parts[i].iov_len;
    }
    if (*wanted <= COPIED_MAX_BYTES)
        return send_copied(stream->fd, parts, count);
    return sendmsg(stream->fd, &(struct msghdr){.msg_iov = parts, .msg_iovlen = count}, MSG_NOSIGNAL);
}

void stream_write(struct stream *stream) {
    size_t left = stream->state != STREAM_CLOSED ? WRITE_BYTES_PER_FLUSH : SIZE_MAX;
    bool want_write = false;

    while (stream->out_count != 0 && !stream->broken && left != 0) {
        size_t wanted;
        ssize_t written = write_some(stream, &wanted);
        if (written >= 0) {
            out_consume(stream, (size_t)written);
            want_write = (size_t)written < wanted;
            left -= (size_t)written < left ? (size_t)written : left;
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
    if (left == 0 && stream->out_count != 0 && !want_write)
        stream_schedule_flush(stream);
    if (want_write != stream->want_write && !stream->broken) {
        stream->want_write = want_write;
        stream_update_watch(stream);
    }
}

void stream_release_output(struct stream *stream) {
    out_drop(stream, 0);
    out_release_ring(stream);
}
