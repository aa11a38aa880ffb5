/*
 * Socket ids: unique, unpredictable ids of connections in the form "first.second". Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

/* Size of a buffer for the text of an id, with its zero byte. */
#define SOCKET_ID_TEXT 48

struct socket_id {
    uint64_t first, second;
};

/* Draws a new id: two random numbers of 53 bits, the largest integers that every client language can represent. */
struct socket_id socket_id_draw(void);

/* Writes "123.456" and returns its length. */
size_t socket_id_format(const struct socket_id *id, char text[SOCKET_ID_TEXT]);

/* Parses "123.456"; false if the text has another form. */
bool socket_id_parse(struct slice text, struct socket_id *id);
