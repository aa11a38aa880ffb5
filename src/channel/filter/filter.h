/*
 * A filter: which events of a channel a subscription wants, by their tags. It is compiled once from the JSON of the
 * subscription, and evaluated without allocation.
 *
 *   branch  {"op":"and"|"or"|"not","nodes":[...]}
 *   leaf    {"key":K,"cmp":C,"val":V} or {"key":K,"cmp":C,"vals":[...]}
 *
 * docs/tags.md has the comparisons. A filter that is not exactly of this form is refused as a whole: one that let
 * everything pass would give a client what it must not see.
 *
 * The program is one text of nodes, each of them a head (struct node_head in filter.c) and what belongs to it. A branch
 * is followed by its nodes, so a node's size leads to the next one. The same filter always gives the same bytes,
 * whatever the order of members and the blanks in its JSON.
 *
 * Any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "base/slice.h"
#include "channel/filter/tags.h"

#define FILTER_NODES_MAX 128
#define FILTER_DEPTH_MAX 16   /* nodes from the root to a leaf, both included */
#define FILTER_VALUES_MAX 128 /* in `vals` of one leaf; keys and values are as long as those of tags */

/* Compiles a value that the scanner has validated (base/json.h), and appends the program. False with an error for
 * clients, which begins with the node's place ("Child node 0: "). */
bool filter_compile(struct json_value json, struct buffer *program, struct error *error);

/* True if an event with these tags (NULL: none) passes a compiled filter. */
bool filter_evaluate(struct slice program, const struct tags *tags);

/* The most work that evaluating a compiled filter takes, whatever the tags, in the unit of worker_spend
 * (net/worker.h). */
size_t filter_work(struct slice program);
