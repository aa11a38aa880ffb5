/*
 * Socket ids: the names of connections, unique and not guessable, "first.second".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define SOCKET_ID_TEXT 48

struct socket_id {
    uint64_t first, second;
};

/* A new id: two random numbers of 53 bits, the most that every client language can hold. */
struct socket_id socket_id_draw(void);

/* Writes "123.456" and returns its length. */
size_t socket_id_format(const struct socket_id *id, char text[SOCKET_ID_TEXT]);

/* Parses "123.456"; false if it has another form. */
bool socket_id_parse(struct slice text, struct socket_id *id);
