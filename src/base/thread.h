/*
 * Threads, and condition variables that wait by the monotonic clock.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Starts a thread that runs `run(context)`, with every signal blocked: signals are the main thread's. `name` (at most
 * 15 bytes) is what debuggers and top(1) show. False with an error if the system has no thread left.
 */
bool thread_start(pthread_t *thread, const char *name, void *(*run)(void *context), void *context, struct error *error);

/* The same for a thread that is not joined. */
bool thread_start_detached(const char *name, void *(*run)(void *context), void *context, struct error *error);

/* Joins the thread; false if it has not ended by `until_ns` on the monotonic clock, and then it is still to be joined.
 */
bool thread_join_until(pthread_t thread, uint64_t until_ns);

/* Initialises a condition variable for condition_wait_until. */
void condition_init(pthread_cond_t *condition);

/* Waits for a signal; false when `until_ns` on the monotonic clock has come. The mutex is held, as for
 * pthread_cond_wait. */
bool condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t until_ns);
