/*
 * What a client that takes deltas makes of the messages of one channel. It does what the clients of the protocol family
 * do, and no more: it keeps the texts of numbered messages, and looks a base up by its number only if the channel has
 * conflation keys.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/slice.h"

#define READER_TEXTS_PER_KEY 30

struct reader_text {
    char *key; /* empty: the channel has none */
    long long number;
    struct buffer text;
};

/* Zeroed memory is a client that has just subscribed. */
struct delta_reader {
    bool keyed;
    struct reader_text *texts; /* the oldest first */
    size_t count, capacity;
};

enum reader_form { READ_PLAIN, READ_NUMBERED, READ_DELTA };

struct reader_message {
    enum reader_form form;
    struct slice text; /* the event, without number and key; valid until the next one is read */
    long long number, base;
    bool names_algorithm;
    char algorithm[12];
    char key[300];
};

/* Reads a message. Returns NULL, or why the client cannot read it. */
const char *delta_reader_read(struct delta_reader *reader, struct slice message, struct reader_message *read);

/* Forgets all texts, as a client that subscribes again. */
void delta_reader_forget(struct delta_reader *reader);
