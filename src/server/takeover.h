/*
 * An upgrade, seen from the new process: it takes the listening sockets of the old one, starts as usual but does not
 * accept, says that it is ready, and accepts when it is told to. upgrade.h is the other side.
 *
 * Functions are for the main thread.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "handover/handover_link.h"

struct server;

enum takeover_state {
    TAKEOVER_NONE,    /* the process was started in another way */
    TAKEOVER_WAITING, /* the old process accepts */
    TAKEOVER_TAKING,  /* this process was told to accept, and begins to */
    TAKEOVER_ACCEPTS, /* this process accepts, and the old one ends */
    TAKEOVER_FAILED,  /* the old process has not told this one to accept */
    TAKEOVER_ENDED,   /* this process accepts, and the old one has ended */
};

struct takeover {
    _Atomic(enum takeover_state) state;
    enum takeover_state told; /* the last of takeover_news; main thread */
    bool has_thread;
    bool given_up; /* the old process hangs; set before the state is TAKEOVER_ENDED */
    pthread_t thread;
    pid_t pid; /* of the old process */
    struct handover_socket connection;
    struct handover_link link;
    char program[80];          /* the version of the old program */
    atomic_uint not_accepting; /* workers that could not begin to accept */
};

/* First of all. */
void takeover_init(struct server *server);

/* If an old process has started this one, connects to it and receives its sockets into server->passed. False with an
 * error if that fails: there is nothing to serve then. Before the server is built. */
bool takeover_begin(struct server *server, struct error *error);

/* True if an old process has started this one: it must not accept before it is told to. */
bool takeover_is_under_way(const struct server *server);

/* False if an old process has started this one, and this one does not accept, or it could not. */
bool takeover_is_good(const struct server *server);

/* When all is built, fetches the kept events of the old process, and then tells it that this one is ready.
 * UPGRADE_SIGNAL tells how it goes on. False with an error. */
bool takeover_ready(struct server *server, struct error *error);

/* After UPGRADE_SIGNAL: what has happened; each is returned once, TAKEOVER_NONE: nothing new. */
enum takeover_state takeover_news(struct server *server);

/* The old process, until it has ended, else 0. */
pid_t takeover_predecessor(const struct server *server);

/* This process is told to end: if it was not told to accept yet, it never will, and the old process goes on. */
void takeover_stop(struct server *server);

/* Ends the connection, when the workers have ended. */
void takeover_finish(struct server *server);
