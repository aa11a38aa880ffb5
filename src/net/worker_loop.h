/*
 * The workers' threads: start, event loop and end.
 *
 * One turn of the loop:
 *
 *   epoll_wait -> ready descriptors: accept, read, parse, act   (answers and events go to output queues)
 *              -> backlog: connections that had more input in an earlier turn than they could take
 *              -> mailbox: channel events, changes of apps
 *              -> timers, once a second
 *              -> flush: one write for each connection with output; then closed connections are freed
 *
 * Each part but the timers stops when the time of the turn is over, and the next turn goes on where it stopped. A
 * connection takes INPUT_BYTES_PER_TURN and INPUT_MESSAGES_PER_TURN at most; what is left waits in the socket, in TLS
 * or in the stream's buffer, and the stream in the backlog. Connections with little input therefore go before those
 * that always have more.
 *
 * Functions are for the main thread unless they say otherwise.
 */
#pragma once

#include "net/worker.h"

/* Creates `count` workers (1 to WORKERS_MAX) without starting their threads. False with an error; call workers_destroy
 * in either case. */
bool workers_create(struct workers *workers, unsigned count, struct error *error);

/* Starts a thread for each worker. False with an error; some threads may run then: stop and join them. */
bool workers_start(struct workers *workers, struct error *error);

/* Ends the worker's loop as soon as it has no connection and its listeners have none to accept. On the worker's thread.
 */
void worker_stop(struct worker *worker);

/* Joins all started threads (see worker_stop) and calls workers_settle. */
void workers_join(struct workers *workers);

/* The same with a time limit. False if some threads have not ended in time; they continue and must be joined later. */
bool workers_join_within(struct workers *workers, uint64_t timeout_ms);

/* Call it around the start of a program, which has copies of some descriptors for a moment: until then a closed
 * descriptor would stay in a worker's epoll set, and be reported after its stream was freed. Between the two calls
 * workers remove each descriptor from the set before they close it. The first call returns when all workers know. While
 * the workers run; not on their threads. */
void workers_share_descriptors(struct workers *workers);
void workers_share_no_descriptors(struct workers *workers);

/* Handles the messages that were posted after the threads ended, on the calling thread, so that they are freed. */
void workers_settle(struct workers *workers);

/* Frees the workers. Other threads must have stopped posting to them. */
void workers_destroy(struct workers *workers);

/* Gets the events of the next turn, unless some are left from the last one. Returns their number. On the worker's
 * thread, as the functions below. */
unsigned worker_poll(struct worker *worker, int timeout_ms);

/* True if the last turn has left work, so that the next one must not wait. */
bool worker_has_work(const struct worker *worker);

/* Runs one turn after worker_poll. Called by the loop, and by tests that drive a worker themselves. */
void worker_turn(struct worker *worker);
