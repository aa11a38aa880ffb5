/*
 * An upgrade, seen from the old process: it starts the program again, passes its listening sockets on, and goes on
 * serving until the new process accepts. takeover.h is the other side; handover/handover_message.h has the messages.
 *
 * A thread does all of it. Until the new process has accepted connections for two seconds, an error ends the new
 * process and nothing else: this one goes on as if nothing had happened, and another upgrade may be tried. Afterwards
 * this process shuts down, and the thread is the link between the two until the end.
 *
 * Functions are for the main thread.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "handover/handover_link.h"

struct server;

enum upgrade_state {
    UPGRADE_NONE,
    UPGRADE_STARTING, /* the new process is not ready yet */
    UPGRADE_TAKING,   /* it was told to accept */
    UPGRADE_PROVING,  /* it accepts; this process keeps its sockets and connections, in case it crashes */
    UPGRADE_TAKEN,    /* it accepts, and this process has to shut down */
    UPGRADE_FAILED,
};

struct upgrade {
    _Atomic(enum upgrade_state) state;
    bool has_thread;
    bool is_joined;      /* the thread has ended, and was joined */
    bool is_paused;      /* this process accepts nothing, while the state is UPGRADE_PROVING */
    uint64_t proven_ms;  /* the end of that state */
    atomic_bool is_lost; /* the new process accepted, and has crashed */
    pthread_t thread;
    struct handover_place place;
    pid_t pid; /* of the new process */
    int pidfd; /* readable when it has ended */
    struct deadline deadline;
    struct handover_link *link; /* of the thread, until it has ended; NULL: not connected */
    char program[80];           /* the version of the new program */
};

/* Sent to the own process when an upgrade or a takeover has made a step that the main thread has to know of. */
#define UPGRADE_SIGNAL SIGRTMIN

/* Starts an upgrade; a line in the log says why not. */
void upgrade_start(struct server *server);

/* When upgrade_is_taken has to be called without a signal; UINT64_MAX: not at all. */
uint64_t upgrade_due_ms(const struct server *server);

/* After UPGRADE_SIGNAL: true if the new process has accepted for long enough, so that this one has to shut down. While
 * that is not so yet, this process accepts nothing; if the new one has crashed, it accepts again. */
bool upgrade_is_taken(struct server *server);

/* This process is told to end: ends a new process that is not told to accept yet. True if it accepts. */
bool upgrade_stop(struct server *server);

/* When this process has no connection left: sends what is queued for the new one, and ends the thread. */
void upgrade_finish(struct server *server);
