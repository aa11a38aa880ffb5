/*
 * The messages between the two processes of an upgrade, the old one and the new one that it has started.
 *
 * A message on the connection is a frame:
 *
 *   length of the payload (4 bytes, big-endian) | type (1 byte) | payload
 *
 * The peer is a process of the same user whose id is known, so the bounds here are against faults, not against attacks.
 * Pure functions; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/slice.h"

/* Raise it with each change of a message, also of those of the relay: only equal versions talk to each other. */
#define HANDOVER_VERSION 2

#define HANDOVER_HEAD_BYTES 5
#define HANDOVER_PAYLOAD_MAX (16u << 20)
#define HANDOVER_NAME_MAX 32

/*
 *   old                                          new
 *   HELLO                          --->
 *                                  <---          HELLO
 *   LISTENER (one for each, with its descriptor) --->
 *   LISTENERS_END                  --->
 *   messages of the relay          <-->          messages of the relay
 *                                  <---          READY       all is built; nothing is accepted yet
 *   TAKE_OVER                      --->                      from now on both accept;
 *                                                           payload: seconds, in which it drains
 *                                  <---          TAKEN       it accepts
 *   drains                                       serves
 *   end of the connection: the process has ended
 */
enum handover_type {
    HANDOVER_HELLO = 1,
    HANDOVER_LISTENER = 2,
    HANDOVER_LISTENERS_END = 3,
    HANDOVER_READY = 4,
    HANDOVER_TAKE_OVER = 5,
    HANDOVER_TAKEN = 6,
    HANDOVER_CONTROL_LAST = HANDOVER_TAKEN,
    /* The relay of events, kept events and webhooks gives these numbers their meaning. */
    HANDOVER_RELAY_FIRST = 64,
    HANDOVER_RELAY_LAST = 127,
};

/* The payload is a slice of what was parsed. */
struct handover_message {
    uint8_t type; /* a number of enum handover_type */
    struct slice payload;
};

enum handover_parsed { HANDOVER_MESSAGE, HANDOVER_INCOMPLETE, HANDOVER_INVALID };

/* Takes the first message off `rest`. HANDOVER_INCOMPLETE: more bytes are needed; HANDOVER_INVALID with an error. */
enum handover_parsed handover_parse(struct slice *rest, struct handover_message *message, struct error *error);

/* Writes the HANDOVER_HEAD_BYTES before a payload. */
void handover_write_head(char *head, uint8_t type, uint32_t length);
/* Appends a frame. The payload has at most HANDOVER_PAYLOAD_MAX bytes. */
void handover_append(struct buffer *out, uint8_t type, struct slice payload);

/* The payload of HANDOVER_HELLO: the version of these messages, and the version of the program for the log. */
struct handover_hello {
    uint32_t version;
    struct slice program; /* printable ASCII */
};

void handover_hello_append(struct buffer *out, const struct handover_hello *hello);
bool handover_hello_parse(struct slice payload, struct handover_hello *hello, struct error *error);

/* The payload of HANDOVER_LISTENER: what the listening socket is for. Its descriptor comes with the frame. */
struct handover_listener {
    bool supervised;   /* a supervisor has opened it, so its address is not in the configuration */
    struct slice name; /* 1 to HANDOVER_NAME_MAX letters a-z */
};

void handover_listener_append(struct buffer *out, const struct handover_listener *listener);
bool handover_listener_parse(struct slice payload, struct handover_listener *listener, struct error *error);
