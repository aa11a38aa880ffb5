/*
 * Keeps the password from leaving in clear text while libpq signs in without TLS to another machine.
 *
 * libpq sends it to every server that asks for it, and nothing before its version 16 forbids that. So while it signs
 * in, its socket is one end of a socket pair, and the guard looks at what the server says before libpq gets it:
 *
 *   libpq --- socket pair --- guard --- server
 *
 * As soon as the connection is encrypted, or libpq has signed in, libpq gets its socket back.
 */
#pragma once

#include <libpq-fe.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/deadline.h"
#include "base/error.h"

#define POSTGRES_GUARD_TAIL 8 /* bytes of a request that can be split between two reads */

struct postgres_guard {
    PGconn *link;
    const struct deadline *deadline;
    int server; /* the connection; -1: not guarding */
    int relay;  /* our end of the pair */
    ino_t pair; /* the inode of the other end */
    bool asked_to_encrypt, encrypts;
    char seen[POSTGRES_GUARD_TAIL]; /* the last bytes from the server */
};

void postgres_guard_init(struct postgres_guard *guard, PGconn *link, const struct deadline *deadline);

/* To be called in place of waiting for PQsocket, with what PQconnectPoll wants. False with an error, also if the server
 * asks for the password in clear text. */
bool postgres_guard_wait(struct postgres_guard *guard, PostgresPollingStatusType wants, struct error *error);

/* libpq has signed in, or has failed: ends guarding. False with an error if libpq cannot get its socket back. */
bool postgres_guard_end(struct postgres_guard *guard, struct error *error);
