/*
 * How much of a database's answer is taken. Client libraries keep whatever a server sends until it is all there, so it
 * is the socket that is asked how much has come.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define ANSWER_MAX_BYTES (64ul << 20) /* 1000 apps, each larger than anybody's */

/* What a TCP socket has received so far. Nothing for sockets of other kinds, which are of this machine. */
uint64_t answer_received(int fd);

/* False when more came since answer_received said `before`. */
bool answer_fits(int fd, uint64_t before);

/* How to say so. */
extern const char answer_too_large[];
