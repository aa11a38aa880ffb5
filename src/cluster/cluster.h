/*
 * Many nodes: what server/ and api/ use of the cluster. One object, NULL with the adapter `local`.
 *
 *   main thread: cluster_create, cluster_start, cluster_wait --- clients are served --- cluster_leave, cluster_stop
 *   workers:     hooks of the parts ---> loop_post ---> the cluster's thread (loop.h)
 *
 * What the parts share is in cluster_core.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cluster/cached_events.h"
#include "cluster/incoming.h"
#include "cluster/message/message.h"
#include "cluster/nodes/node_messages.h"
#include "cluster/publisher.h"
#include "cluster/state/state.h"
#include "config/config.h"

struct app_manager;
struct question;
struct channel_hub;
struct claims;
struct cluster;
struct reclaimer;
struct webhook_outlet;
struct workers;

/* What the cluster uses of the process; all of it outlives the cluster. */
struct cluster_process {
    const struct config *config;
    struct workers *workers;
    struct app_manager *apps;
    struct channel_hub *channels;
    struct reclaimer *reclaimer;
    struct webhook_outlet *webhooks; /* NULL: no webhooks are sent */
    struct slice address;            /* of this node, for people; copied */
};

/* Makes the cluster, which is not connected yet; `*cluster` is NULL with the adapter `local`. False with an error of
 * the configuration: an adapter that this build lacks, or settings that can never work. Main thread, before the workers
 * run. */
bool cluster_create(const struct cluster_process *process, struct cluster **cluster, struct error *error);

/* --- main thread; NULL is accepted --- */

/* Starts the thread, which connects. False with an error if the system refuses. */
bool cluster_start(struct cluster *cluster, struct error *error);

/* Waits until clients may be listened for: the other nodes have said hello, the bus cannot be reached, or two seconds
 * are over. */
void cluster_wait(struct cluster *cluster);

/* When all clients have gone: lets the parts say what they still have to, then says `bye`. Two seconds at most; does
 * nothing the second time. */
void cluster_leave(struct cluster *cluster);
/* Ends the thread; also if it was not started. */
void cluster_stop(struct cluster *cluster);
/* Handles the messages of the workers that are left, and frees the cluster. When the workers have ended. */
void cluster_destroy(struct cluster *cluster);

/* Asks the other nodes about channels; see requests.h. False: there are none. Any worker; NULL is accepted. */
bool cluster_ask(struct cluster *cluster, struct question *question);

/* --- any thread --- */

/* What is wrong, for /up: "bus" if that is down, "nodes" if a node was refused or speaks no common version; NULL:
 * nothing. */
const char *cluster_fault(const struct cluster *cluster);

/* Fills `list`, this node first, and returns the number of nodes. */
unsigned cluster_list(struct cluster *cluster, struct node_entry list[NODES_MAX]);

/* The connections of an app on all other nodes, as they said last; 0 without a cluster. */
uint64_t cluster_app_connections(struct cluster *cluster, struct slice app);

/* An app was changed in the store, as struct app_manager_hooks says. NULL is accepted. */
void cluster_app_changed(struct cluster *cluster, struct slice id, struct slice old_key, struct slice new_key,
                         bool meant);

/* The keys of publishes that all nodes know (claims.h); NULL: each knows its own. */
struct claims *cluster_claims(const struct cluster *cluster);

struct cluster_kind_metrics {
    uint64_t received, received_bytes, sent, sent_bytes;
};

struct cluster_metrics {
    unsigned alive; /* with this node */
    bool bus_up;
    uint64_t outages, outage_ms; /* outage_ms: with the one under way, and the time until the bus was first up */
    uint64_t longest_turn_us, longest_turn_cpu_us; /* see loop.h; not of the same turn */
    uint64_t malformed, skipped, dropped, unsent;  /* see cluster_core.h */
    struct publisher_stats publisher;
    struct incoming_stats incoming;
    struct cached_events_stats cached_events;
    /* Questions to other nodes, of the state and of the HTTP API. */
    uint64_t requests_sent, requests_received, responses_received;
    uint64_t answered[STATE_ANSWER_BUCKETS]; /* by each node, by the time in milliseconds: see state.h */
    uint64_t answered_ms;                    /* how long these took, in all */
    uint64_t unanswered;                     /* by each node: not in time */
    uint64_t gaps, state_bytes;              /* sets of which something was missing; answers that were sent */
    struct cluster_kind_metrics kinds[MESSAGE_KINDS];
};

void cluster_read_metrics(const struct cluster *cluster, struct cluster_metrics *metrics);
