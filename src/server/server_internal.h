/*
 * What the files of the server share.
 *
 *   listeners.c  the ports
 *   reload.c     SIGHUP
 *   server.c     the process: building it, running until a signal, shutdown
 *   server_cluster.c  the connection to other nodes
 *   server_webhooks.c  the webhook thread
 *   takeover.c   the new process of an upgrade, until it serves
 *   upgrade.c    the old process of an upgrade, until the new one serves
 */
#pragma once

#include <semaphore.h>

#include "api/api.h"
#include "base/memory_trim.h"
#include "cluster/cluster.h"
#include "handover/handover_sockets.h"
#include "net/listener.h"
#include "net/worker_loop.h"
#include "server/housekeeping.h"
#include "server/redirect.h"
#include "server/server_relay.h"
#include "server/server_tls.h"
#include "server/takeover.h"
#include "server/upgrade.h"
#include "server/webhook_finder.h"
#include "session/session.h"
#include "webhook/webhook_events.h"
#include "webhook/webhook_thread.h"

struct server_relay;

struct server {
    struct config config;
    struct workers workers;
    struct app_manager *apps;
    struct app_manager_hooks app_hooks;
    struct session_server sessions;
    struct api api;
    struct http_handler main_handler;
    struct http_handler metrics_handler;
    /* Of the main port; each belongs to the worker with its index modulo the number of workers. */
    struct listener listeners[WORKERS_MAX];
    unsigned listener_count;
    bool main_is_shared; /* workers accept from the same socket */
    struct listener metrics_listener;
    struct http_handler admin_handler;
    struct listener admin_listener;
    int passed_fd;         /* the listening socket of systemd; -1: none */
    bool owns_unix_socket; /* remove its file at the end; not if another server listens there */
    server_tls tls;
    struct tls_tickets *tickets; /* of all contexts in `tls`, one after another */
    struct reclaimer reclaimer;  /* of the server's own: TLS contexts */
    struct redirect redirect;
    struct http_handler redirect_handler;
    struct listener redirect_listener;
    struct housekeeping housekeeping;
    struct cluster *cluster;         /* NULL: the adapter is `local` */
    struct webhook_thread *webhooks; /* NULL: turned off */
    struct webhook_finder webhook_finder;
    struct webhook_events *webhook_events;
    struct rate_limiter *request_limit; /* NULL: none */
    struct rate_limiter *connect_limit;
    struct address_log refused;
    struct passed_sockets passed;         /* by the process before this one, and not taken yet */
    bool is_replaced;                     /* while it ends: another process accepts from its sockets */
    struct upgrade upgrade;               /* to the process after this one */
    struct takeover takeover;             /* from the process before this one */
    struct memory_trim trim;              /* of the main thread */
    _Atomic(struct server_relay *) relay; /* NULL: no other process has clients */
    struct relay_inbox relay_inbox;       /* from that process */
    sem_t drained;                        /* posted by each worker that has closed its sessions */
};

/* --- listeners.c --- */

/* Opens every port of the configuration, or takes the socket that another process passes. Before the workers start. */
bool server_listen(struct server *server, struct error *error);
/* Opens more sockets if another process passed fewer than there are workers. Before the workers accept. */
void server_listen_on_all_workers(struct server *server);
/* Begins to accept on a worker. On its thread, or before it is started. */
bool server_accept(struct server *server, struct worker *worker, struct error *error);
/* Leave the ports to another process, which has them, too, and take them back: tasks for each worker. */
void server_pause_listening(struct worker *worker, void *server);
void server_resume_listening(struct worker *worker, void *server);
/* Stops listening on the ports that another process has, too: after an upgrade on all, with a socket of systemd on the
 * main port. On the worker's thread. */
void server_leave_listening(struct server *server, struct worker *worker);
/* Lets no new client in on the ports of a worker that no other process has, on its thread; see listener_finish. */
void server_finish_listening(struct server *server, struct worker *worker);
/* Closes the ports in which connections would wait for nobody. When the workers have ended. */
void server_stop_unfiltered(struct server *server);
/* Closes all ports. When the workers have ended. */
void server_stop_listening(struct server *server);

/* --- reload.c --- */

/* Reads the apps of the driver `memory` and the certificate again. On the main thread. */
void server_reload(struct server *server, const char *config_file);

/* --- server_cluster.c --- */

/* Makes what connects this node to others, if the configuration names an adapter. False with an error of the
 * configuration. Before the workers start. */
bool server_cluster_create(struct server *server, struct error *error);
/* Connects, and returns when clients may be listened for. */
bool server_cluster_join(struct server *server, struct error *error);
/* Tells the other nodes that an app was changed in the store: a hook of the app manager. Any thread. */
void server_cluster_app_written(struct slice id, struct slice old_key, struct slice new_key, bool meant, void *context);

/* --- server_webhooks.c --- */

/* Makes the webhook thread, unless the configuration turns webhooks off. False with an error of the configuration. */
bool server_webhooks_create(struct server *server, struct error *error);
bool server_webhooks_start(struct server *server, struct error *error);
/* Where workers post events; NULL: webhooks are turned off. */
struct webhook_outlet *server_webhooks_outlet(struct server *server);
/* A hook of the app manager; `context` is the server. */
void server_webhooks_app_replaced(struct app *before, struct app *after, void *context);
/* When all workers have ended: delivers what is pending, until the shutdown grace period that began at `shutdown_ms` is
 * over. */
void server_webhooks_stop(struct server *server, uint64_t shutdown_ms);
