/*
 * The form of a snapshot of the apps that are known:
 *
 *   curlew-apps-1 plain\n   SHA-256 in hexadecimal digits \n   text
 *   curlew-apps-1 sealed\n  text, encrypted with a key of app_manager.secrets (AES-256-GCM)
 *
 *   text:  {"place":"postgres db:5432/curlew/applications"}\n
 *          {"read":1764460800,"app":{...}}\n     one line for each app; `read` is when the store gave the record
 *
 * Functions on bytes only. Any thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "app/secret_keyring.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/slice.h"

/* Appends the first line of a text. */
void snapshot_append_place(struct buffer *text, struct slice place);
/* Appends the line of an app; takes the reference to `app`. */
void snapshot_append_app(struct buffer *text, uint64_t read_s, json_t *app);
/* Appends the file for a text, encrypted if there is a keyring. */
void snapshot_wrap(struct slice text, const struct secret_keyring *keyring, struct buffer *file);

/* Checks a file and gives its text, in `memory` (dispose of it with secret_buffer_dispose) or in the file. False with
 * an error, also if there are keys and the file is not encrypted. */
bool snapshot_unwrap(struct slice file, const struct secret_keyring *keyring, struct buffer *memory, struct slice *text,
                     struct error *error);
/* Reads the first line. */
bool snapshot_read_place(struct slice *rest, struct buffer *place);
/* Reads the line of an app; a new reference. False at the end, or at what is none. */
bool snapshot_read_app(struct slice *rest, uint64_t *read_s, json_t **app);
