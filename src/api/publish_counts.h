/*
 * The counts that a publish with `info` is answered with. With other nodes they are those of all of them:
 *
 *   published --> counts_add for each channel --> counts_answer: others are asked (requests.h) --> the answer
 *
 * The event is published already when they are asked, so nothing delays it, and a call whose client goes away meanwhile
 * counts as accepted.
 */
#pragma once

#include "api/api_call.h"
#include "channel/channel.h"

struct counts;

/* For `count` channels. NULL if there is no memory for that. */
struct counts *counts_create(size_t count, bool batch);

void counts_free(struct counts *counts);

/* Adds the next one. `counts` is what this node knows by itself; `info` has the bits of which the answer is made. */
void counts_add(struct counts *counts, unsigned info, struct slice name, struct channel_counts known);

/* Answers the call, at once or later, and frees the counts. */
void counts_answer(struct counts *counts, struct api_call *call);

/* For the beginning of a handler that may have called counts_answer: true if this gave the answer. */
bool counts_answered(struct api_call *call);
