/*
 * The workers as threads: creating them, their loop, and their end.
 *
 * One turn of the loop:
 *
 *   epoll_wait -> ready descriptors: accept, read, parse, act   (answers and events join output queues)
 *              -> the mailbox: events of channels, changes of apps
 *              -> timers, once a second
 *              -> flush: one write for each connection with output; then closed connections are freed
 */
#pragma once

#include "net/worker.h"

struct epoll_event;

/* Creates `count` workers (1 to WORKERS_MAX); their threads do not run yet. After false the workers that were created
 * are to be destroyed. */
bool workers_create(struct workers *workers, unsigned count, struct error *error);

/* Starts a thread for each. After false some may run: stop and join them. */
bool workers_start(struct workers *workers, struct error *error);

/* Ends the loop when no connection is left. On the worker's thread. */
void worker_stop(struct worker *worker);

/* Waits until all threads that were started have ended (see worker_stop), and handles their last messages. */
void workers_join(struct workers *workers);

/* The same; false if some have not ended within the time. They go on, and are to be joined later. */
bool workers_join_within(struct workers *workers, uint64_t timeout_ms);

/* Handles, on the calling thread, messages that were posted after the workers had ended: these free themselves.
 * workers_join does it, too. */
void workers_settle(struct workers *workers);

/* Frees the workers. No thread may post to them any more. */
void workers_destroy(struct workers *workers);

/* What a turn does with `count` events of epoll_wait. For the loop, and for tests that turn a worker themselves. */
void worker_turn(struct worker *worker, struct epoll_event *events, int count);
