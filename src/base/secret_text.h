/*
 * Texts that may hold secrets: memory is overwritten before it is freed. Any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/error.h"

/* Frees a text. NULL is accepted. */
void secret_free(char *text);
void secret_buffer_dispose(struct buffer *text);

/* Reads the whole file (at most 1 MB), with a zero byte behind it; false if it cannot be read. */
bool secret_read_file(const char *path, struct buffer *text);

/* Reads a file that holds one token, without blanks and line ends around it. False with an error that names the file.
 */
bool secret_read_token(const char *path, struct buffer *token, struct error *error);

/* The value of an environment variable; NULL if it is not set or empty. */
const char *environment_value(const char *name);
