#include "base/thread.h"

#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

#define JOIN_POLL_NS 5000000

static bool start_with(const pthread_attr_t *attributes, pthread_t *thread, const char *name, void *(*run)(void *),
                       void *context, struct error *error) {
    sigset_t all, before;
    int code;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(thread, attributes, run, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0)
        return error_set(error, "the thread %s could not be started: %s", name, strerror(code));
    return true;
}

bool thread_start(pthread_t *thread, const char *name, void *(*run)(void *context), void *context,
                  struct error *error) {
    if (!start_with(NULL, thread, name, run, context, error))
        return false;
    pthread_setname_np(*thread, name);
    return true;
}

/* Does not set the name: the detached thread may have ended, and its id may be invalid by then. */
bool thread_start_detached(const char *name, void *(*run)(void *context), void *context, struct error *error) {
    pthread_attr_t attributes;
    pthread_t thread;
    bool started;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    started = start_with(&attributes, &thread, name, run, context, error);
    pthread_attr_destroy(&attributes);
    return started;
}

/* Polls, because glibc's timed join uses the wall clock, and ThreadSanitizer does not support its monotonic variant. */
bool thread_join_until(pthread_t thread, uint64_t until_ns) {
    const struct timespec pause = {.tv_nsec = JOIN_POLL_NS};

    while (pthread_tryjoin_np(thread, NULL) != 0) {
        if (clock_monotonic_ns() >= until_ns)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

void condition_init(pthread_cond_t *condition) {
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

bool condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t until_ns) {
    const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                                   .tv_nsec = (long)(until_ns % 1000000000u)};

    return pthread_cond_timedwait(condition, mutex, &until) == 0;
}
