/*
 * The file of a snapshot: read if nobody else can have written or read it, and replaced as a whole. Functions block on
 * the disk.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/error.h"

/* A longer file is neither written nor read. */
#define SNAPSHOT_MAX_BYTES (256 * 1024 * 1024)

enum snapshot_read { SNAPSHOT_READ, SNAPSHOT_MISSING, SNAPSHOT_REFUSED };

/* Reads the file; it must belong to this user, with a mode that gives others nothing. SNAPSHOT_REFUSED has an error. */
enum snapshot_read snapshot_file_read(const char *path, struct buffer *file, struct error *error);

/* Replaces the file, by rename: after a crash there is the old one or the new one. */
bool snapshot_file_write(const char *path, struct slice file, struct error *error);

/* Removes what processes that ended while they wrote have left beside the file. */
void snapshot_file_clean(const char *path);
