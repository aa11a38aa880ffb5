/*
 * What clients and publishers of fuzz_world.c write and read: WebSocket frames, messages of the protocol, signed
 * requests of the HTTP API and their answers. Functions append to a buffer of the caller.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/slice.h"

/* --- WebSocket --- */

/* A masked frame; `opcode` with FIN as in its first byte. The payload has less than 65536 bytes. */
void wire_frame(struct buffer *out, uint8_t opcode, struct slice payload);

/* Takes the next frame of the server from `in` at `*at`; false if there is none that is complete. */
bool wire_next_frame(const struct buffer *in, size_t *at, uint8_t *opcode, struct slice *payload);

/* The members of a message, decoded; each is empty if it is missing. They are valid until the next call. */
struct wire_message {
    struct slice event, channel, data;
};
struct wire_message wire_read_message(struct slice text);

/* The string at `name` of a JSON object; valid until the next call. */
struct slice wire_member(struct slice object, const char *name);

/* What the data of an event has after its number, so that deltas are worth while. */
#define WIRE_FILLER                                                                                                    \
    " and a part that all events have in common, as messages of one kind do: it makes a delta worth while"

/* --- messages of a client --- */

/* Signs with the key of app `app` (0 or 1), or wrongly. `user` < 0: without channel_data. `delta` and `filter` are JSON
 * texts; NULL: without it. */
void wire_subscribe(struct buffer *out, unsigned app, const char *socket_id, const char *channel, int user, bool wrong,
                    const char *delta, const char *filter);
void wire_unsubscribe(struct buffer *out, const char *channel);
void wire_client_event(struct buffer *out, const char *channel, unsigned number);
/* Deltas for the whole connection; a client that has lost its texts of a channel. */
void wire_enable_deltas(struct buffer *out);
void wire_delta_sync_error(struct buffer *out, const char *channel);
void wire_sign_in(struct buffer *out, unsigned app, const char *socket_id, unsigned user, bool wrong);

/* --- the HTTP API --- */

/* A signed request to /apps/{id}/`path`. `query` is a parameter that sorts behind `auth_` and before nothing, or "". */
void wire_request(struct buffer *out, unsigned app, const char *method, const char *path, const char *query,
                  struct slice body);

/* Takes the next answer from `in` at `*at`: its status, and its body; 0 if there is none. */
unsigned wire_next_answer(const struct buffer *in, size_t *at, struct slice *body);
