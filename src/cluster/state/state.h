/*
 * The state of channels across nodes: whom of other nodes this one knows in a channel, and whom the others know here.
 *
 *   new interest ------> STATE_REQUEST to all: what do you hold? <------ answers in parts, credit for more
 *   own change --------> CHANGE on the channel's subject, TOLD 5 s after the last one
 *   CHANGE of others --> set_versions.h: apply, keep, or GAP_REQUEST to that node
 *   DIGEST ------------> (channel, version) of all sets of a node, spread over each minute, and at once after an
 * outage; it answers with what differs
 *
 * Versions are kept here, members by the channels (channel/remote.h), where everything is applied on the channel's
 * worker in the order in which it was posted.
 *
 * A node that left is forgotten on all workers before its number is given again. One that was replaced stays until the
 * new one has told its set of a channel, two seconds at most.
 *
 * On the cluster's thread.
 */
#pragma once

#include "base/counter.h"
#include "cluster/cluster_core.h"

struct interests;
struct roster_reports;
struct state;

/* Answers by the time until they came; the last bucket has no bound. */
#define STATE_ANSWER_BUCKETS 9
extern const uint32_t state_answer_bounds_ms[STATE_ANSWER_BUCKETS - 1];

struct state_counters {
    struct counter requests;     /* to all nodes */
    struct counter gap_requests; /* to one */
    struct counter digests;
    struct counter answers; /* that were sent */
    struct counter answer_bytes;
    struct counter answered[STATE_ANSWER_BUCKETS]; /* answers of other nodes that are complete */
    struct counter unanswered;                     /* those that did not come in time */
    struct counter answered_ms;                    /* the time until complete ones came, in all */
    struct counter gaps;                           /* sets of which something was missing */
    struct counter kept_dropped;                   /* changes that were kept and dropped */
};

/* Adds the part that keeps interests and state, and sets the hooks of the channels. `webhooks` (may be
 * NULL) is told of own changes. Main thread, before the first channel. */
struct state *state_create(struct cluster_core *core, struct roster_reports *webhooks);

/* The table of interests, for other parts. */
struct interests *state_interests(struct state *state);

/* Any thread. */
const struct state_counters *state_counters_of(const struct state *state);
