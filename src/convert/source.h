/*
 * The configuration of another server as a tree, whether it came from JSON, PHP or environment variables.
 *
 * Each node knows where it was written, for messages, and whether a conversion has used it: what nobody took is
 * reported as dropped. For one thread.
 *
 *     {"eventLimits.maxBatchSize": 5}   source_set(root, "eventLimits.maxBatchSize", ...)
 *     root -- eventLimits (implied) -- maxBatchSize: NUMBER "5"
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/slice.h"

enum source_type {
    SOURCE_NULL,
    SOURCE_FLAG,
    SOURCE_NUMBER, /* `text` is the number in decimal */
    SOURCE_TEXT,
    SOURCE_LIST,
    SOURCE_MAP,
    SOURCE_UNREAD, /* an expression that the reader does not understand; `text` describes it without its values */
};

struct source {
    enum source_type type;
    bool flag;
    bool implied; /* a map that only a dotted name made; what it lacks has its default */
    bool taken;
    unsigned line;  /* in the file; 0: unknown */
    char *name;     /* in the map around it; NULL in a list and at the root */
    char *variable; /* the environment variable that the value comes from; NULL: none */
    char *text;     /* ends with a zero byte; NULL: none */
    size_t length;
    struct source *parent, *first, *last, *next;
};

/* A new node; copies `text`. The caller owns it until source_add or source_set. */
struct source *source_create(enum source_type type, struct slice text);

struct source *source_create_flag(bool flag);

/* Frees the node and all below it. NULL is accepted. */
void source_destroy(struct source *node);

/* Appends `child` to a list, or to a map as `name`. Takes the child over. A later name hides an earlier one. */
void source_add(struct source *parent, struct slice name, struct source *child);

/*
 * The node at a dotted path; a number selects an element of a list. NULL if there is none; `*whole` (may be NULL) is
 * then true if the file gave the map around it as a whole.
 */
struct source *source_find(struct source *root, const char *path, bool *whole);

/*
 * Puts `child` at a dotted path in place of what is there, and makes the maps on the way. Takes the child over. False,
 * with the child freed, if a number on the way is beyond the end of a list, or if the path is too deep.
 */
bool source_set(struct source *root, const char *path, struct source *child);

/* Marks the node and all below it as taken. */
void source_take(struct source *node);

/* Conversions from and to JSON; a node that was not read becomes null. */
struct source *source_from_json(const json_t *json);
json_t *source_to_json(const struct source *node);

/* Appends the node's path: "apps.apps[0].key". */
void source_append_path(const struct source *node, struct buffer *buffer);
