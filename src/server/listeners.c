#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "api/list_thread.h"
#include "api/metrics.h"
#include "api/page_thread.h"
#include "api/stats.h"
#include "base/log.h"
#include "net/activation.h"
#include "net/address_limit.h"
#include "server/server_internal.h"

#define PAGE_KEEP_MS 1000

static void accept_main(struct worker *worker, int fd, void *context) {
    struct server *server = context;

    address_limit_accept(worker, fd);
    http_accept(worker, fd, atomic_load(&server->tls), &server->main_handler);
}

static void accept_metrics(struct worker *worker, int fd, void *context) {
    struct server *server = context;

    http_accept(worker, fd, NULL, &server->metrics_handler);
}

static void accept_admin(struct worker *worker, int fd, void *context) {
    struct server *server = context;

    http_accept(worker, fd, NULL, &server->admin_handler);
}

static void accept_redirected(struct worker *worker, int fd, void *context) {
    struct server *server = context;

    http_accept(worker, fd, NULL, &server->redirect_handler);
}

/* Logs an address as a URL: an IPv6 address is in brackets (RFC 3986 section 3.2.2). */
static void log_address(const char *what, const char *scheme, const char *host, uint16_t port, const char *path) {
    bool ipv6 = strchr(host, ':') != NULL;

    log_info("server", "%s %s://%s%s%s:%u%s", what, scheme, ipv6 ? "[" : "", host, ipv6 ? "]" : "", port, path);
}

static void add_main_listener(struct server *server, int fd) {
    struct listener *listener = &server->listeners[server->listener_count++];

    listener->fd = fd;
    listener->on_accept = accept_main;
    listener->bound = &server->workers.descriptors.requests;
    listener->context = server;
}

/* Lets each worker accept from `fd`. */
static bool share_main_socket(struct server *server, int fd, struct error *error) {
    server->main_is_shared = true;
    for (unsigned i = 0; i < server->workers.count; i++) {
        int own_fd = i == 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (own_fd < 0)
            return error_set(error, "unix_socket: worker %u of %u cannot listen on it, too: %s", i + 1,
                             server->workers.count, strerror(errno));
        add_main_listener(server, own_fd);
    }
    return true;
}

static bool open_unix_socket(struct server *server, struct error *error) {
    const struct config *config = &server->config;
    int fd = passed_sockets_take_unix(&server->passed, HANDOVER_MAIN, config->unix_socket.path);

    if (fd < 0) {
        fd = listen_unix(config->unix_socket.path, config->unix_socket.permission_mode, error);
        if (fd < 0)
            return error_prefix(error, "unix_socket.path");
        server->owns_unix_socket = true;
    }
    return share_main_socket(server, fd, error);
}

/* Opens a TCP socket for each worker. Of those that another process passes each must be accepted from, whatever the
 * number of workers is: clients wait in them. */
static bool open_tcp_sockets(struct server *server, uint16_t *port, struct error *error) {
    const struct config *config = &server->config;
    int fd;

    while (server->listener_count < WORKERS_MAX &&
           (fd = passed_sockets_take_tcp(&server->passed, HANDOVER_MAIN, config->host, *port)) >= 0) {
        add_main_listener(server, fd);
        *port = activation_port(fd);
    }
    if (server->listener_count != 0)
        return true;
    fd = listen_tcp_alone(config->host, port, error);
    if (fd < 0)
        return error_prefix(error, "host and port (HOST, PORT)");
    add_main_listener(server, fd);
    while (server->listener_count < server->workers.count) {
        fd = listen_tcp(config->host, port, error);
        if (fd < 0)
            return false;
        add_main_listener(server, fd);
    }
    return true;
}

void server_listen_on_all_workers(struct server *server) {
    unsigned passed = server->listener_count;
    struct error error;

    while (server->listener_count < server->workers.count) {
        int first = server->listeners[server->listener_count % passed].fd, fd = listen_beside(first, &error);
        if (fd < 0) {
            log_warning("upgrade", "%s; workers share sockets, which spreads connections less evenly", error.text);
            server->main_is_shared = true;
            fd = fcntl(first, F_DUPFD_CLOEXEC, 0);
        }
        if (fd < 0)
            return;
        add_main_listener(server, fd);
    }
}

static void log_main_address(struct server *server, uint16_t port) {
    const char *scheme = atomic_load(&server->tls) != NULL ? "https" : "http";
    char address[160];

    if (server->passed_fd >= 0) {
        activation_describe(server->passed_fd, address, sizeof address);
        log_info("server", "listening on %s%s%s", port != 0 ? scheme : "", port != 0 ? "://" : "", address);
        log_info("server", "this socket comes from systemd; host, port and unix_socket are not used");
    } else if (server->config.unix_socket.enabled) {
        log_info("server", "listening on unix:%s", server->config.unix_socket.path);
    } else {
        log_address("listening on", scheme, server->config.host, port, "");
    }
}

static bool listen_on_workers(struct server *server, struct error *error) {
    uint16_t port = (uint16_t)server->config.port;
    bool good;

    if (server->passed_fd < 0)
        server->passed_fd = passed_sockets_take_supervised(&server->passed, HANDOVER_MAIN);
    if (server->passed_fd >= 0)
        good = share_main_socket(server, server->passed_fd, error);
    else if (server->config.unix_socket.enabled)
        good = open_unix_socket(server, error);
    else
        good = open_tcp_sockets(server, &port, error);
    if (!good)
        return false;
    if (server->passed_fd >= 0)
        port = activation_port(server->passed_fd);
    log_main_address(server, port);
    server->redirect.https_port = port;
    return true;
}

/* Opens a port with little traffic, for worker 0 only. */
static bool listen_on_first_worker(struct server *server, struct listener *listener, const char *name, const char *host,
                                   uint16_t *port, void (*on_accept)(struct worker *worker, int fd, void *context),
                                   struct error *error) {
    listener->fd = passed_sockets_take_tcp(&server->passed, name, host, *port);
    if (listener->fd >= 0)
        *port = activation_port(listener->fd);
    else
        listener->fd = listen_tcp_alone(host, port, error);
    listener->on_accept = on_accept;
    listener->bound = &server->workers.descriptors.operators;
    listener->context = server;
    return listener->fd >= 0;
}

static bool listen_for_redirects(struct server *server, struct error *error) {
    uint16_t port = (uint16_t)server->config.ssl.http_port;

    server->redirect_listener.fd = -1;
    if (atomic_load(&server->tls) == NULL || !server->config.ssl.redirect_http || server->config.unix_socket.enabled)
        return true;
    server->redirect_handler = redirect_handler(&server->redirect);
    if (!listen_on_first_worker(server, &server->redirect_listener, HANDOVER_REDIRECT, server->config.host, &port,
                                accept_redirected, error))
        return error_prefix(error, "host and ssl.http_port (HOST, SSL_HTTP_PORT)");
    server->redirect_listener.bound = &server->workers.descriptors.requests;
    log_address("redirecting from", "http", server->config.host, port, "");
    return true;
}

static bool listen_for_metrics(struct server *server, struct error *error) {
    struct config *config = &server->config;
    uint16_t port = (uint16_t)config->metrics.port;

    server->metrics_listener.fd = -1;
    if (!config->metrics.enabled)
        return true;
    if (!listen_on_first_worker(server, &server->metrics_listener, HANDOVER_METRICS, config->metrics.host, &port,
                                accept_metrics, error))
        return error_prefix(error, "metrics.host and .port (METRICS_PORT)");
    server->api.metrics_port = port;
    server->api.metrics =
        page_thread_start(&server->api, &(struct page_settings){"metrics", metrics_append_page, PAGE_KEEP_MS}, error);
    if (server->api.metrics == NULL)
        return false;
    log_address("metrics on", "http", config->metrics.host, port, "/metrics");
    return true;
}

static bool listen_for_admin(struct server *server, struct error *error) {
    struct config *config = &server->config;
    char host[256];
    uint16_t port;

    server->admin_listener.fd = -1;
    if (!config_has_admin_api(config))
        return true;
    config_split_address(config->admin.listen, host, &port);
    if (!listen_on_first_worker(server, &server->admin_listener, HANDOVER_ADMIN, host, &port, accept_admin, error))
        return error_prefix(error, "CURLEW_ADMIN_LISTEN");
    log_address("admin API on", "http", host, port,
                app_manager_has_store(server->apps) ? "/admin/apps" : "/admin/nodes");
    return true;
}

/* Starts the thread of the statistics of all apps, if anybody may ask for them. */
static bool start_stats(struct server *server, struct error *error) {
    if (server->admin_listener.fd < 0 && !server->config.http_api.stats_public)
        return true;
    server->api.stats =
        page_thread_start(&server->api, &(struct page_settings){"stats", stats_append_page, PAGE_KEEP_MS}, error);
    return server->api.stats != NULL;
}

static bool start_lists(struct server *server, struct error *error) {
    server->api.lists = list_thread_start(server->apps, error);
    return server->api.lists != NULL;
}

bool server_listen(struct server *server, struct error *error) {
    return start_lists(server, error) && listen_on_workers(server, error) && listen_for_redirects(server, error) &&
           listen_for_metrics(server, error) && listen_for_admin(server, error) && start_stats(server, error);
}

static bool start_if_open(struct listener *listener, struct worker *worker, bool shared, struct error *error) {
    return listener->fd < 0 || listener_start(listener, worker, listener->fd, shared, error);
}

bool server_accept(struct server *server, struct worker *worker, struct error *error) {
    for (unsigned i = worker->index; i < server->listener_count; i += server->workers.count)
        if (!start_if_open(&server->listeners[i], worker, server->main_is_shared, error))
            return false;
    return worker->index != 0 || (start_if_open(&server->metrics_listener, worker, false, error) &&
                                  start_if_open(&server->admin_listener, worker, false, error) &&
                                  start_if_open(&server->redirect_listener, worker, false, error));
}

/* Calls `act` for each listener of a worker but those of the main port. */
static void each_other_listener(struct server *server, const struct worker *worker,
                                void (*act)(struct listener *listener)) {
    if (worker->index != 0)
        return;
    act(&server->metrics_listener);
    act(&server->admin_listener);
    act(&server->redirect_listener);
}

static void each_main_listener(struct server *server, const struct worker *worker,
                               void (*act)(struct listener *listener)) {
    for (unsigned i = worker->index; i < server->listener_count; i += server->workers.count)
        act(&server->listeners[i]);
}

static void each_listener(struct server *server, const struct worker *worker, void (*act)(struct listener *listener)) {
    each_main_listener(server, worker, act);
    each_other_listener(server, worker, act);
}

void server_pause_listening(struct worker *worker, void *context) {
    each_listener(context, worker, listener_pause);
}

void server_resume_listening(struct worker *worker, void *context) {
    each_listener(context, worker, listener_resume);
}

void server_leave_listening(struct server *server, struct worker *worker) {
    if (server->is_replaced || server->passed_fd >= 0)
        each_main_listener(server, worker, listener_stop);
    if (server->is_replaced)
        each_other_listener(server, worker, listener_stop);
}

void server_finish_listening(struct server *server, struct worker *worker) {
    if (server->is_replaced)
        return;
    if (server->passed_fd < 0)
        each_main_listener(server, worker, listener_finish);
    each_other_listener(server, worker, listener_finish);
}

static void stop_listeners(struct server *server, void (*stop)(struct listener *listener)) {
    for (unsigned i = 0; i < server->workers.count; i++)
        each_listener(server, server->workers.list[i], stop);
}

static void stop_unfiltered(struct listener *listener) {
    if (!listener->filtered)
        listener_stop(listener);
}

void server_stop_unfiltered(struct server *server) {
    stop_listeners(server, stop_unfiltered);
}

void server_stop_listening(struct server *server) {
    stop_listeners(server, listener_stop);
}
