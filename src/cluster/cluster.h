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
#include "cluster/nodes.h"
#include "config/config.h"

struct app_manager;
struct channel_hub;
struct cluster;
struct reclaimer;
struct workers;

/* What the cluster uses of the process; all of it outlives the cluster. */
struct cluster_process {
    const struct config *config;
    struct workers *workers;
    struct app_manager *apps;
    struct channel_hub *channels;
    struct reclaimer *reclaimer;
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

/* --- any thread --- */

/* What is wrong, for /up; NULL: nothing. */
const char *cluster_fault(const struct cluster *cluster);

/* A node of the list. */
struct cluster_node {
    struct node_id id;
    bool self;
    uint8_t version;     /* the highest that it speaks */
    uint64_t started_ms; /* wall clock, as for the next */
    uint64_t heard_ms;
    struct node_load load;
    char name[NODE_TEXT_MAX], address[NODE_TEXT_MAX];
};

/* Fills `list`, this node first, and returns the number of nodes. */
unsigned cluster_list(struct cluster *cluster, struct cluster_node list[NODES_MAX]);
