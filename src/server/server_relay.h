/*
 * The relay: while the two processes of an upgrade both have clients, each tells the other what is published.
 *
 *   worker: channel_publish ---> struct channel_relay ---> handover_link ---> the other process
 *   the link's thread <--- handover_link <--- the other process
 *        \---> mailbox of a worker: app_manager_find_by_id ---> channel_publish, marked as relayed
 *
 *   new: RELAY_KEPT_NEXT ---> old, worker 0: a page of kept events ---> new: channel_keep; then the next page
 *
 * With an adapter both processes are nodes (cluster/), which share events over the bus: only the kept events go this
 * way.
 *
 * The old process begins before it reads the kept events, so each event is either kept or relayed, or both. A worker
 * never waits for the other process. What that does not read waits in the link, up to a bound for each app, and is
 * lost beyond. The events of a channel are all published on the same worker, and those of an app that is looked up
 * wait for each other, so they keep their order.
 */
#pragma once

#include "app_manager/app_queue.h"
#include "base/error.h"
#include "handover/handover_link.h"
#include "net/worker.h"

struct server;

/* What was received from the other process and is not handled yet; {0} is nothing. */
struct relay_inbox {
    atomic_size_t held;        /* bytes; the link reads nothing while they are over LINK_HELD_BYTES */
    atomic_uint kept_left;     /* events of the page of kept events */
    atomic_uint webhooks_left; /* events of webhooks */
    atomic_bool kept_ended;    /* it is the last page */
    struct app_queue waiting;  /* events whose app is looked up */
};

/* Begins to tell the other process of events. The link must live until a grace period after server_relay_end. On any
 * thread, when nothing is relayed. */
void server_relay_begin(struct server *server, struct handover_link *link);

/* Ends that. On any thread; does nothing if it has not begun. */
void server_relay_end(struct server *server);

/* Of the new process: fetches the kept events of the old one, in pages, and then sends HANDOVER_READY. */
void server_relay_fetch_kept(struct server *server);

/* Of the old process: from now on the new one tells webhooks who has come and left. Before clients are sent away. */
void server_relay_webhooks(struct server *server);

/* Of the new process, when the old one has ended: it says no more of who has come and left. */
void server_relay_end_overlap(struct server *server);

/* Takes a message of HANDOVER_RELAY_FIRST to HANDOVER_RELAY_LAST. False with an error if it is not understood. On the
 * link's thread. */
bool server_relay_message(struct server *server, const struct handover_message *message, struct error *error);
