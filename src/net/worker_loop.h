/*
 * The workers' threads: start, event loop and end.
 *
 * One turn of the loop:
 *
 *   epoll_wait -> ready descriptors: accept, read, parse, act   (answers and events go to output queues)
 *              -> mailbox: channel events, changes of apps
 *              -> timers, once a second
 *              -> flush: one write for each connection with output; then closed connections are freed
 *
 * Functions are for the main thread unless they say otherwise.
 */
#pragma once

#include "net/worker.h"

struct epoll_event;

/* Creates `count` workers (1 to WORKERS_MAX) without starting their threads. False with an error; call workers_destroy
 * in either case. */
bool workers_create(struct workers *workers, unsigned count, struct error *error);

/* Starts a thread for each worker. False with an error; some threads may run then: stop and join them. */
bool workers_start(struct workers *workers, struct error *error);

/* Ends the worker's loop as soon as it has no connection. On the worker's thread. */
void worker_stop(struct worker *worker);

/* Joins all started threads (see worker_stop) and calls workers_settle. */
void workers_join(struct workers *workers);

/* The same with a time limit. False if some threads have not ended in time; they continue and must be joined later. */
bool workers_join_within(struct workers *workers, uint64_t timeout_ms);

/* Handles the messages that were posted after the threads ended, on the calling thread, so that they are freed. */
void workers_settle(struct workers *workers);

/* Frees the workers. Other threads must have stopped posting to them. */
void workers_destroy(struct workers *workers);

/* Runs one turn with `count` events from epoll_wait. Called by the loop, and by tests that drive a worker themselves.
 * On the worker's thread. */
void worker_turn(struct worker *worker, struct epoll_event *events, int count);
