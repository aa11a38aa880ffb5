#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "api/metrics.h"
#include "api/page_thread.h"
#include "api/stats.h"
#include "base/log.h"
#include "net/activation.h"
#include "server/server_internal.h"

#define PAGE_KEEP_MS 1000

static void accept_main(struct worker *worker, int fd, void *context) {
    struct server *server = context;

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

/* The socket that all workers accept from: the one of systemd or the unix socket. `*fd` is -1 if each has its own. */
static bool open_shared_socket(struct server *server, int *fd, struct error *error) {
    struct config *config = &server->config;

    *fd = server->passed_fd;
    if (*fd >= 0 || !config->unix_socket.enabled)
        return true;
    *fd = listen_unix(config->unix_socket.path, config->unix_socket.permission_mode, error);
    if (*fd < 0)
        return error_prefix(error, "unix_socket.path");
    server->owns_unix_socket = true;
    return true;
}

static void log_main_address(struct server *server, uint16_t port) {
    const char *scheme = atomic_load(&server->tls) != NULL ? "https" : "http";
    char address[160];

    if (server->passed_fd >= 0) {
        activation_describe(server->passed_fd, address, sizeof address);
        log_info("server", "listening on %s%s%s", port != 0 ? scheme : "", port != 0 ? "://" : "", address);
        log_info("server", "this socket comes from systemd; `host`, `port` and `unix_socket` are not used");
    } else if (server->config.unix_socket.enabled) {
        log_info("server", "listening on unix:%s", server->config.unix_socket.path);
    } else {
        log_address("listening on", scheme, server->config.host, port, "");
    }
}

static bool listen_on_workers(struct server *server, struct error *error) {
    struct config *config = &server->config;
    uint16_t port = (uint16_t)config->port;
    int shared_fd;

    if (!open_shared_socket(server, &shared_fd, error))
        return false;
    if (shared_fd < 0 && !tcp_port_is_free(config->host, port, error))
        return error_prefix(error, "host and port (HOST, PORT)");
    for (unsigned i = 0; i < server->workers.count; i++) {
        struct listener *listener = &server->listeners[i];
        int fd = shared_fd < 0 ? listen_tcp(config->host, &port, error) : i == 0 ? shared_fd : dup(shared_fd);
        listener->on_accept = accept_main;
        listener->bound = &server->workers.descriptors.requests;
        listener->context = server;
        if (fd < 0 && shared_fd >= 0)
            return error_set(error, "unix_socket: worker %u of %u cannot listen on it, too: %s", i + 1,
                             server->workers.count, strerror(errno));
        if (fd < 0 || !listener_start(listener, server->workers.list[i], fd, shared_fd >= 0, error))
            return false;
    }
    if (server->passed_fd >= 0)
        port = activation_port(shared_fd);
    log_main_address(server, port);
    server->redirect.https_port = port;
    return true;
}

/* Listens on worker 0 only, for ports with little traffic. */
static bool listen_on_first_worker(struct server *server, struct listener *listener, const char *host, uint16_t *port,
                                   void (*on_accept)(struct worker *worker, int fd, void *context),
                                   struct error *error) {
    int fd = tcp_port_is_free(host, *port, error) ? listen_tcp(host, port, error) : -1;

    listener->on_accept = on_accept;
    listener->bound = &server->workers.descriptors.operators;
    listener->context = server;
    return fd >= 0 && listener_start(listener, server->workers.list[0], fd, false, error);
}

static bool listen_for_redirects(struct server *server, struct error *error) {
    uint16_t port = (uint16_t)server->config.ssl.http_port;

    server->redirect_listener.fd = -1;
    if (atomic_load(&server->tls) == NULL || !server->config.ssl.redirect_http || server->config.unix_socket.enabled)
        return true;
    server->redirect_handler = redirect_handler(&server->redirect);
    if (!listen_on_first_worker(server, &server->redirect_listener, server->config.host, &port, accept_redirected,
                                error))
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
    if (!listen_on_first_worker(server, &server->metrics_listener, config->metrics.host, &port, accept_metrics, error))
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
    if (config->admin.token == NULL || !app_manager_has_store(server->apps))
        return true;
    config_split_address(config->admin.listen, host, &port);
    if (!listen_on_first_worker(server, &server->admin_listener, host, &port, accept_admin, error))
        return error_prefix(error, "CURLEW_ADMIN_LISTEN");
    log_address("admin API on", "http", host, port, "/admin/apps");
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

bool server_listen(struct server *server, struct error *error) {
    return listen_on_workers(server, error) && listen_for_redirects(server, error) &&
           listen_for_metrics(server, error) && listen_for_admin(server, error) && start_stats(server, error);
}

void server_stop_listening(struct server *server, struct worker *worker) {
    listener_stop(&server->listeners[worker->index]);
    if (worker->index != 0)
        return;
    listener_stop(&server->metrics_listener);
    listener_stop(&server->admin_listener);
    listener_stop(&server->redirect_listener);
}
