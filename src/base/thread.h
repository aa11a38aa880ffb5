/*
 * Threads, and condition variables with deadlines on the monotonic clock.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Starts a thread that runs `run(context)`. All signals are blocked in it: the main thread handles signals. Debuggers
 * and top(1) show `name` (at most 15 bytes). False with an error if the system refuses another thread.
 */
bool thread_start(pthread_t *thread, const char *name, void *(*run)(void *context), void *context, struct error *error);

/* The same for a detached thread, which is not joined. `name` occurs only in the error. */
bool thread_start_detached(const char *name, void *(*run)(void *context), void *context, struct error *error);

/* Joins the thread; false if it has not ended by `until_ns` on the monotonic clock: the caller must then join it later.
 */
bool thread_join_until(pthread_t thread, uint64_t until_ns);

/* Initialises a condition variable for condition_wait_until. */
void condition_init(pthread_cond_t *condition);

/* Waits for the condition to be signalled; false after `until_ns` on the monotonic clock. The caller holds the mutex,
 * as for pthread_cond_wait. */
bool condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t until_ns);
