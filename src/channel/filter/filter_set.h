/*
 * The filters of one worker's subscriptions. Subscriptions to a channel with the same filter share one: an event is
 * evaluated once for each filter, however many subscribers have it. All filters of a channel are evaluated in one
 * piece, while other apps wait, so their work has a limit (FILTERS_WORK_MAX).
 *
 * Used on the worker's thread only.
 */
#pragma once

#include <stdint.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "channel/filter/filter.h"

struct filter;

/* Zeroed memory is an empty set. A set whose filters have been released holds no memory. */
struct filter_set {
    struct filter **buckets;
    uint32_t bucket_count; /* a power of two, or 0 */
    uint32_t count;
    uint64_t asked; /* number of the latest filter_ask */
    size_t work;    /* the most that evaluating has taken since then, for worker_spend */
} __attribute__((aligned(CACHE_LINE)));

enum filter_result { FILTER_READY, FILTER_REFUSED, FILTER_NO_MEMORY };

/*
 * Compiles a filter (filter_compile) and takes a reference to the one that the set has of it for the channel of this
 * name, or a new one, whose memory is taken from the account (BUDGET_CHANNELS) for `owner`: the app, which must live as
 * long. FILTER_REFUSED, with an error for the client: it is malformed. FILTER_NO_MEMORY: there is no room for it.
 */
enum filter_result filter_intern(struct filter_set *set, struct budget_app *owner, struct slice channel,
                                 struct json_value json, struct filter **filter, struct error *error);

/* Drops a reference, and frees the filter with the last one. NULL is ignored. */
void filter_release(struct filter_set *set, struct filter *filter);

/* The work that the next subscription with the filter adds to its channel's: that of the filter if no other has it. */
size_t filter_work_of_first(const struct filter *filter);
/* The work that is no more when the last subscription with the filter loses it; 0 while there are others. */
size_t filter_work_of_last(const struct filter *filter);
/* Counts a subscription that gets (1) or loses (-1) the filter. All three take NULL, which is no filter. */
void filter_count_use(struct filter *filter, int change);

/* The event that filters are asked about: its own tags, and those of the event that its delta is based on. */
enum filter_question { FILTER_EVENT, FILTER_BASE, FILTER_QUESTIONS };

/* Begins to ask the filters of the set about another event. */
void filter_ask(struct filter_set *set);

/* True if the tags (NULL: none) pass the filter. Between two calls of filter_ask, a question is always about the same
 * tags: a filter evaluates them once, and remembers the answer. */
bool filter_passes(struct filter_set *set, struct filter *filter, enum filter_question question,
                   const struct tags *tags);
