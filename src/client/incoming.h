/*
 * The bytes that a WebSocket server sends to a client (RFC 6455): the answer to the handshake, then frames, which
 * become messages. No input or output here, so that any bytes can be tried.
 *
 *     incoming_append() -> incoming_handshake() until it is ready -> incoming_next() until it is incomplete -> append
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/error.h"
#include "net/websocket_frame.h"

/* The largest message that is taken. */
#define INCOMING_MESSAGE_MAX (64u << 20)

enum incoming_result {
    INCOMING_READY,
    INCOMING_INCOMPLETE, /* more bytes are needed */
    INCOMING_BAD,        /* the server broke the protocol, or refused; the connection is of no further use */
};

struct incoming {
    struct buffer bytes;
    size_t used;         /* bytes of it that were consumed */
    struct buffer parts; /* the fragments of a message so far */
    bool fragmented;
};

struct incoming_message {
    enum websocket_opcode opcode; /* text, close, ping or pong */
    struct slice payload;         /* valid until the next call */
};

void incoming_dispose(struct incoming *incoming);

/* Takes over bytes from the server. False if they would be more than one message may have. */
bool incoming_append(struct incoming *incoming, const void *data, size_t length);

/* Reads the answer to the handshake, whose Sec-WebSocket-Accept has to be `accept`. INCOMING_BAD with an error, which
 * has the status if the server refused. */
enum incoming_result incoming_handshake(struct incoming *incoming, const char accept[28], struct error *error);

/* Takes the next message. Text is valid UTF-8. */
enum incoming_result incoming_next(struct incoming *incoming, struct incoming_message *message, struct error *error);
