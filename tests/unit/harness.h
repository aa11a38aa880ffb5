/*
 * What the tests of net/ and of what stands on it share: a worker whose turns the test makes itself, with a clock that
 * only the test moves, and sockets to talk to it.
 *
 * The worker's thread is never started: harness_turn does what one turn of the loop does, on the test's thread, so a
 * test decides what happens in which turn and a minute passes in no time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/slice.h"
#include "net/http.h"
#include "net/stream.h"
#include "net/worker.h"

/* Workers that do not run; their clock begins at the last whole second of the real one. */
void harness_create(struct workers *workers, unsigned count);

/* Closes every connection that is left, lets the loops' ends happen and frees the workers. */
void harness_destroy(struct workers *workers);

/* One turn without waiting; the number of descriptors that were ready. */
int harness_turn(struct worker *worker);

/* Turns until nothing happens any more. Fails the test if that takes too long: the loop would spin. */
void harness_settle(struct worker *worker);

/* Lets the clock of a worker go on by `ms`, second by second, with everything that is due in it. */
void harness_advance(struct worker *worker, uint64_t ms);

/* How often this thread has asked for memory, but for what libraries do. */
uint64_t harness_allocations(void);

/* Makes the next `count` starts of a thread fail, as on a system that has no thread left; 0: none any more. */
void harness_fail_threads(unsigned count);

/* A stream on the server's end of a pair. */
struct stream *harness_stream(struct worker *worker, int fd, const struct stream_handler *handler, void *context);

/* Speaks HTTP on the server's end of a new pair; returns the client's end. */
int harness_http(struct worker *worker, const struct http_handler *handler);

/* Two connected unix sockets that do not block: the server's end and the client's. */
void harness_pair(int *server, int *client);

/* Makes the socket's buffers as small as the kernel allows. */
void harness_shrink(int fd);

/* Writes all of `text`, turning the worker when the socket is full. */
void harness_send(struct worker *worker, int fd, struct slice text);

/* Appends what can be read from the client's end without waiting; false when the other side has closed. */
bool harness_receive(int fd, struct buffer *in);

/* Like harness_receive until the other side closes, with turns between. Fails the test if it does not. */
void harness_receive_to_end(struct worker *worker, int fd, struct buffer *in);

/* A deterministic pseudo-random number below `limit`; the seed is the test's. */
uint32_t harness_random(uint64_t *seed, uint32_t limit);
