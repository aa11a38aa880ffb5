/*
 * An event on its way to another process that has clients of the same channels, as bytes.
 *
 *   flags (1) | published (8) | [excluded socket id (16)] | app | channel | name | data | user id | tags
 *
 * Numbers are big-endian; each text has its length before it (4 bytes). An order to close a user's connections has the
 * same form, without channel, name and data. Pure functions; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/slice.h"

struct relay_event {
    struct slice app_id;
    struct slice channel;
    struct slice name;    /* JSON string, with its quotes */
    struct slice data;    /* JSON text: exactly what was published */
    struct slice user_id; /* JSON string of the sender, or empty; of an order: the user */
    struct slice tags;    /* JSON object, or empty: it has none. All tags, also those that subscribers are not shown. */
    bool keep;            /* a cache channel keeps it */
    bool whole;           /* the publisher wants no delta of it */
    bool reconnect;       /* of an order: the clients are to come back at once */
    bool has_except;      /* a connection does not get it: */
    uint64_t except[2];   /* the two numbers of its socket id */
    uint64_t published_ms; /* wall clock */
};

/* Appends the bytes of an event. */
void relay_event_append(struct buffer *out, const struct relay_event *event);

/* Reads an event; the texts point into `bytes`. False with an error unless `bytes` is exactly one event. Only the form
 * is checked, not what the texts say. */
bool relay_event_parse(struct slice bytes, struct relay_event *event, struct error *error);
