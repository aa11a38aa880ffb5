/*
 * WebSocket messages of tests: those that a server's end has sent, as texts, and those of a client.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "net/stream.h"

/* Takes the first message off received bytes: `text` points to its payload. False if there are none; fails the test if
 * they do not begin with a whole text frame. */
bool text_frame_next(struct slice *received, struct slice *text);

/* The messages of these bytes, in an array that the caller frees. */
struct text_frames {
    struct slice *list;
    size_t count;
} text_frames_of(struct slice received);

/* Receives what the client's end has into `in`, and takes the first message off it: `text` becomes its payload. False
 * if nothing was received. */
bool text_frame_receive(int client, struct buffer *in, struct buffer *text);

/* Appends a frame of a client, with a mask of zeros. The payload has at most 65535 bytes. */
void text_frame_append(struct buffer *out, uint8_t opcode, const char *payload);

/* Sends a message of the test itself between what the server sends on the stream. On the stream's worker. */
void text_frame_send(struct stream *stream, const char *text);
