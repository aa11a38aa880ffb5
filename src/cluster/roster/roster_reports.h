/*
 * Webhooks once for all nodes: the roster (roster.h) on the bus, and its events on their way to the webhook thread.
 *
 *   own changes of channels ---> roster ---> items, in batches of 50 ms ---> inboxes of sender and deputy
 *   batches of other nodes ---> roster ---> event ---> worker hash(channel): the app's record ---> webhook outlet
 *
 * Batches to a node are numbered. A node that finds a number missing asks for everything anew, every 5 seconds until
 * that comes; 5 seconds after the last batch, and each minute, its number is said once more. While the bus is down
 * nothing is said; after that everything is.
 */
#pragma once

#include "channel/remote.h"
#include "cluster/cluster_core.h"

struct roster_reports;

/* Adds the part to the core, which frees it. `outlet` NULL: no webhooks are sent, and there is no part. */
struct roster_reports *roster_reports_create(struct cluster_core *core, struct webhook_outlet *outlet);

/* The own part of a channel has changed. On the cluster's thread; NULL is accepted. */
void roster_reports_changed(struct roster_reports *reports, struct slice app, const struct channel_own_change *change);
void roster_reports_counted(struct roster_reports *reports, struct slice app, struct slice channel, uint32_t count);
