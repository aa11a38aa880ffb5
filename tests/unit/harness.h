/*
 * A harness for tests of net/ and of code on top of it: workers whose turns and clock the test controls, and sockets
 * that are connected to them.
 *
 * The worker's thread is never started: harness_turn runs one turn of the loop on the test's thread. So a test decides
 * what happens in which turn, and a minute on the worker's clock takes no real time.
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

/* Creates workers without threads; their clock starts at the last whole second of the real clock. */
void harness_create(struct workers *workers, unsigned count);

/* Closes all connections, does what the loops do at their end, and frees the workers. Fails the test if something of a
 * connection is left in the account of memory. */
void harness_destroy(struct workers *workers);

/* Runs one turn without waiting and returns the number of ready descriptors. */
int harness_turn(struct worker *worker);

/* Runs turns until the worker is idle. Fails the test if that takes too many turns, since the loop would then spin. */
void harness_settle(struct worker *worker);
void harness_settle_all(const struct workers *workers);

/* Advances the clock of a worker by `ms`, second by second, and fires the timers that are due. */
void harness_advance(struct worker *worker, uint64_t ms);

/* Returns the number of allocations by this thread, without those inside libraries. */
uint64_t harness_allocations(void);

/* Makes malloc of exactly so many bytes fail on this thread; 0: ends this. */
void harness_fail_malloc(size_t size);

/* Makes the next `count` calls of pthread_create fail, as on a system without free threads; 0: ends this. */
void harness_fail_threads(unsigned count);

/* Creates a stream on the server's end of a pair. */
struct stream *harness_stream(struct worker *worker, int fd, const struct stream_handler *handler, void *context);

/* The same on a new pair, for a stream whose input and end nobody minds. `client` is the client's end. Close both. */
struct stream *harness_open(struct worker *worker, void *context, int *client);
void harness_close(struct stream *stream, int client);

/* Serves HTTP on the server's end of a new pair and returns the client's end. */
int harness_http(struct worker *worker, const struct http_handler *handler);

/* Creates two connected, non-blocking unix sockets: the server's end and the client's end. */
void harness_pair(int *server, int *client);

/* Sets the socket's buffers to the smallest size that the kernel allows. */
void harness_shrink(int fd);

/* Writes all of `text`, and runs turns of the worker while the socket is full. */
void harness_send(struct worker *worker, int fd, struct slice text);

/* Appends the bytes that can be read from the client's end without waiting; false if the other side has closed. */
bool harness_receive(int fd, struct buffer *in);

/* Receives until the other side closes, with turns of the worker in between. Fails the test if it does not close. */
void harness_receive_to_end(struct worker *worker, int fd, struct buffer *in);

/* Receives until the other side, which has a thread, closes; waits for that, and closes the client's end. */
void harness_read_to_end(int fd, struct buffer *in);

/* Returns a deterministic pseudo-random number below `limit`; the test owns the seed. */
uint32_t harness_random(uint64_t *seed, uint32_t limit);
