/*
 * What the files of a stream share.
 *
 *   stream_output.c  the output queue: adding chunks, bounds, writing
 *   stream.c         a stream from its creation to its end, input, and the queues that are written at the end of a turn
 */
#pragma once

#include "net/stream.h"

/* The app for which the stream is counted; NULL: none. */
static inline struct budget_app *stream_app(const struct stream *stream) {
    return stream->handler->app != NULL ? stream->handler->app(stream) : NULL;
}

/* The part of the output queue that counts for the app. */
size_t stream_ring_bytes(const struct stream *stream);

/* Tells epoll what the stream waits for now. */
void stream_update_watch(struct stream *stream);

/* Removes the stream from the flush queue or the fan-out queue, if it is in one. */
void stream_unqueue(struct stream *stream);

/* Writes until the queue is empty, the socket is full, or it is the turn of others. */
void stream_write(struct stream *stream);

/* Drops all output, and frees its queue. */
void stream_release_output(struct stream *stream);
