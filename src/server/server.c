#include "server/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/api.h"
#include "api/metrics.h"
#include "app_manager/app_manager.h"
#include "base/alloc.h"
#include "base/hash.h"
#include "base/log.h"
#include "channel/channel.h"
#include "config/config.h"
#include "net/listener.h"
#include "net/tls.h"
#include "net/workers.h"
#include "server/housekeeping.h"
#include "server/redirect.h"
#include "server/server_tls.h"
#include "session/session.h"

#define METRICS_KEEP_MS 1000

/* How long lookups may still wait for the store after the grace period. */
#define STORE_ANSWERS_MS 2000

/* A write to a slow reader may carry this part of what it may have unsent, so that joining events never breaks a bound.
 */
#define GROUP_PART 8
#define GROUP_MAX_BYTES (64 * 1024)
#define GROUP_MAX_MESSAGES 64

struct server {
    struct config config;
    struct workers workers;
    struct app_manager *apps;
    struct app_manager_hooks app_hooks;
    struct session_server sessions;
    struct api api;
    struct http_handler main_handler;
    struct http_handler metrics_handler;
    struct listener listeners[WORKERS_MAX];
    struct listener metrics_listener;
    struct http_handler admin_handler;
    struct listener admin_listener;
    bool owns_unix_socket; /* the file is ours to remove: not when another server answers there */
    server_tls tls;
    struct redirect redirect;
    struct http_handler redirect_handler;
    struct listener redirect_listener;
    struct housekeeping housekeeping;
    struct rate_limiter *request_limit; /* NULL: none */
    struct rate_limiter *connect_limit;
};

/* --- settings of the parts --- */

static uint32_t at_least_one(uint64_t value, uint64_t most) {
    value = value < most ? value : most;
    return value > 0 ? (uint32_t)value : 1;
}

static struct channel_hub_settings hub_settings(const struct config *config) {
    uint64_t max_messages = config->websocket.max_messages, max_bytes = config->websocket.max_backpressure;

    return (struct channel_hub_settings){
        .cache_ttl_s = config->channel_limits.cache_ttl_s,
        .cache_max_channels = config->cache.memory.max_capacity,
        .group_max_messages =
            max_messages == 0 ? GROUP_MAX_MESSAGES : at_least_one(max_messages / GROUP_PART, GROUP_MAX_MESSAGES),
        .group_max_bytes = max_bytes == 0 ? GROUP_MAX_BYTES : at_least_one(max_bytes / GROUP_PART, GROUP_MAX_BYTES),
        .terminate = session_terminate,
        .has_socket_id = session_has_socket_id,
    };
}

/* Each connection's window for what it is sent; 0: none, all are sent the same. */
static uint8_t window_bits(enum config_compression compression) {
    if (compression == CONFIG_COMPRESSION_DISABLED || compression == CONFIG_COMPRESSION_SHARED)
        return 0;
    if (compression == CONFIG_COMPRESSION_DEDICATED)
        return DEFLATE_WINDOW_BITS_MAX;
    if (compression == CONFIG_COMPRESSION_WINDOW_256B)
        return DEFLATE_WINDOW_BITS_MIN;
    return (uint8_t)(9 + (compression - CONFIG_COMPRESSION_WINDOW_512B)); /* 512 bytes are 2^9, and so on */
}

static struct websocket_limits websocket_limits(const struct config *config) {
    uint64_t max_bytes = config->websocket.max_backpressure;

    if (config->websocket.max_bytes != 0 && (max_bytes == 0 || config->websocket.max_bytes < max_bytes))
        max_bytes = config->websocket.max_bytes;
    return (struct websocket_limits){
        .output = {.max_messages = config->websocket.max_messages,
                   .max_bytes = max_bytes,
                   .drop_droppable = !config->websocket.disconnect_on_buffer_full},
        .max_message_bytes = config_max_message_bytes(config),
        .max_frame_bytes = config->websocket.max_frame_size,
        .compress = config->websocket.compression != CONFIG_COMPRESSION_DISABLED,
        .window_bits = window_bits(config->websocket.compression),
    };
}

/* NULL: no limit. */
static struct rate_limiter *create_limit(const struct config *config, const struct config_rate_limit *limit,
                                         const char *path) {
    if (!config->rate_limiter.enabled || limit->max_requests == 0)
        return NULL;
    return rate_limiter_create(&(struct rate_limiter_settings){.path = path,
                                                               .max_requests = limit->max_requests,
                                                               .window_s = limit->window_seconds,
                                                               .trust_hops = limit->trust_hops},
                               RATE_LIMITER_PLACES);
}

/* --- connections --- */

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

static void accept_websocket(struct http_connection *connection, struct http_request *request, struct slice path,
                             void *context) {
    session_accept(context, connection, request, path);
}

/* An address to copy: an IPv6 one stands in brackets in a URL (RFC 3986 section 3.2.2). */
static void log_address(const char *what, const char *scheme, const char *host, uint16_t port, const char *path) {
    bool ipv6 = strchr(host, ':') != NULL;

    log_info("server", "%s %s://%s%s%s:%u%s", what, scheme, ipv6 ? "[" : "", host, ipv6 ? "]" : "", port, path);
}

static bool listen_on_workers(struct server *server, struct error *error) {
    struct config *config = &server->config;
    uint16_t port = (uint16_t)config->port;
    int unix_fd = -1;

    if (config->unix_socket.enabled) {
        unix_fd = listen_unix(config->unix_socket.path, config->unix_socket.permission_mode, error);
        if (unix_fd < 0)
            return error_prefix(error, "unix_socket.path");
        server->owns_unix_socket = true;
    }
    if (unix_fd < 0 && !tcp_port_is_free(config->host, port, error))
        return error_prefix(error, "host and port");
    for (unsigned i = 0; i < server->workers.count; i++) {
        struct listener *listener = &server->listeners[i];
        int fd = unix_fd < 0 ? listen_tcp(config->host, &port, error) : i == 0 ? unix_fd : dup(unix_fd);
        listener->on_accept = accept_main;
        listener->context = server;
        if (fd < 0 && unix_fd >= 0)
            return error_set(error, "unix_socket: worker %u of %u cannot listen on it, too: %s", i + 1,
                             server->workers.count, strerror(errno));
        if (fd < 0 || !listener_start(listener, server->workers.list[i], fd, unix_fd >= 0, error))
            return false;
    }
    if (unix_fd >= 0)
        log_info("server", "listening on unix:%s", config->unix_socket.path);
    else
        log_address("listening on", atomic_load(&server->tls) != NULL ? "https" : "http", config->host, port, "");
    server->redirect.https_port = port;
    return true;
}

/* A listener on worker 0, for what has little to do. */
static bool listen_beside(struct server *server, struct listener *listener, const char *host, uint16_t *port,
                          void (*on_accept)(struct worker *worker, int fd, void *context), struct error *error) {
    int fd = tcp_port_is_free(host, *port, error) ? listen_tcp(host, port, error) : -1;

    listener->on_accept = on_accept;
    listener->context = server;
    return fd >= 0 && listener_start(listener, server->workers.list[0], fd, false, error);
}

static bool listen_for_redirects(struct server *server, struct error *error) {
    uint16_t port = (uint16_t)server->config.ssl.http_port;

    server->redirect_listener.fd = -1;
    if (atomic_load(&server->tls) == NULL || !server->config.ssl.redirect_http || server->config.unix_socket.enabled)
        return true;
    server->redirect_handler = redirect_handler(&server->redirect);
    if (!listen_beside(server, &server->redirect_listener, server->config.host, &port, accept_redirected, error))
        return error_prefix(error, "host and ssl.http_port");
    log_address("redirecting from", "http", server->config.host, port, "");
    return true;
}

static bool listen_for_metrics(struct server *server, struct error *error) {
    struct config *config = &server->config;
    uint16_t port = (uint16_t)config->metrics.port;

    server->metrics_listener.fd = -1;
    if (!config->metrics.enabled)
        return true;
    if (!listen_beside(server, &server->metrics_listener, config->metrics.host, &port, accept_metrics, error))
        return error_prefix(error, "metrics.host and .port");
    server->api.metrics_port = port;
    server->api.metrics = metrics_thread_start(&server->api, METRICS_KEEP_MS, error);
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
    if (config->admin.token == NULL)
        return true;
    if (!app_manager_has_store(server->apps)) {
        log_warning("server",
                    "CURLEW_ADMIN_TOKEN is set, but the memory driver has nothing to administer: its apps are "
                    "those of the configuration");
        return true;
    }
    config_split_address(config->admin.listen, host, &port);
    if (!listen_beside(server, &server->admin_listener, host, &port, accept_admin, error))
        return error_prefix(error, "CURLEW_ADMIN_LISTEN");
    log_address("admin API on", "http", host, port, "/admin/apps");
    return true;
}

/* --- building --- */

/* Raises the soft limit on open files to the hard one: each connection is a file. */
static void raise_file_limit(void) {
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        log_info("server", "up to %llu open files, so about as many connections", (unsigned long long)limit.rlim_cur);
}

static void set_up_parts(struct server *server) {
    const struct channel_hub_settings settings = hub_settings(&server->config);
    const struct config *config = &server->config;

    server->request_limit = create_limit(config, &config->rate_limiter.api_rate_limit, "rate_limiter.api_rate_limit");
    server->connect_limit =
        create_limit(config, &config->rate_limiter.websocket_rate_limit, "rate_limiter.websocket_rate_limit");
    server->sessions.connect_limit = server->connect_limit;
    session_server_init(&server->sessions);
    server->sessions.config = &server->config;
    server->sessions.apps = server->apps;
    server->sessions.limits = websocket_limits(&server->config);
    server->sessions.channels = channel_hub_create(&server->workers, &settings);
    server->api = (struct api){
        .config = &server->config,
        .apps = server->apps,
        .channels = server->sessions.channels,
        .workers = &server->workers,
        .started_at_s = (uint64_t)time(NULL),
        .draining = &server->sessions.draining,
        .memory_full = &server->sessions.memory_full,
        .request_limit = server->request_limit,
        .connect_limit = server->connect_limit,
        .unknown_apps = server->sessions.unknown_apps,
        .on_websocket = accept_websocket,
        .websocket_context = &server->sessions,
    };
    server->main_handler = api_main_handler(&server->api);
    server->metrics_handler = api_metrics_handler(&server->api);
    server->admin_handler = api_admin_handler(&server->api);
    housekeeping_start(&server->housekeeping, server->workers.list[0], &server->sessions);
}

static void apply_app_changes(struct worker *worker, void *context) {
    sessions_apply_app_changes(context, worker);
}

/* What fails here can never work with this configuration. */
static bool open_apps(struct server *server, struct error *error) {
    if (!workers_create(&server->workers, server->config.workers, error))
        return false;
    server->app_hooks = (struct app_manager_hooks){
        .changed = apply_app_changes,
        .context = &server->sessions,
        .free_channels = channel_table_destroy,
        .channels_empty = channel_table_empty,
    };
    server->apps = app_manager_create(&server->config, &server->workers, &server->app_hooks, error);
    return server->apps != NULL;
}

static void stop_worker(struct worker *worker, void *context) {
    struct server *server = context;

    listener_stop(&server->listeners[worker->index]);
    if (worker->index == 0) {
        listener_stop(&server->metrics_listener);
        listener_stop(&server->admin_listener);
        listener_stop(&server->redirect_listener);
        housekeeping_stop(&server->housekeeping);
    }
    sessions_drain(&server->sessions, worker, server->config.shutdown_grace_period_s);
}

static void stop_apps(struct server *server) {
    if (app_manager_stop(server->apps))
        return;
    log_error("server", "stopped, without a thread that hangs in the operating system, where it waits for the store");
    _exit(EXIT_FAILURE);
}

/* No new connections; those that are there are told over the grace period. Returns when the last one is gone. */
static void stop_workers(struct server *server) {
    atomic_store(&server->sessions.draining, true);
    workers_run_on_all(&server->workers, &(struct worker_task){.run = stop_worker, .context = server});
    if (!workers_join_within(&server->workers,
                             server->config.shutdown_grace_period_s * UINT64_C(1000) + STORE_ANSWERS_MS)) {
        stop_apps(server);
        workers_join(&server->workers);
    }
}

static bool build(struct server *server, struct error *error) {
    set_up_parts(server);
    if (!listen_on_workers(server, error) || !listen_for_redirects(server, error) ||
        !listen_for_metrics(server, error) || !listen_for_admin(server, error))
        return false;
    if (!workers_start(&server->workers, error)) {
        stop_workers(server);
        return false;
    }
    app_manager_start(server->apps);
    return true;
}

static void take_apart(struct server *server) {
    metrics_thread_stop(server->api.metrics);
    if (server->apps != NULL) {
        stop_apps(server);
        workers_settle(&server->workers);
    }
    if (server->sessions.channels != NULL)
        channel_hub_destroy(server->sessions.channels);
    if (server->apps != NULL)
        app_manager_destroy(server->apps);
    workers_destroy(&server->workers);
    rate_limiter_destroy(server->request_limit);
    rate_limiter_destroy(server->connect_limit);
    tls_context_destroy(atomic_load(&server->tls));
    if (server->owns_unix_socket)
        unlink(server->config.unix_socket.path);
    config_dispose(&server->config);
    free(server);
}

/* --- running --- */

static void reload_apps(struct server *server, const struct config *config) {
    struct app_changes changes;
    struct error error;

    if (app_manager_has_store(server->apps))
        log_info("server", "the apps are in a store, so they are not read from the configuration");
    else if (app_manager_reload(server->apps, config, &changes, &error))
        log_info("server", "apps reloaded: %u added, %u changed, %u removed", changes.added, changes.changed,
                 changes.removed);
    else
        log_error("server", "nothing was changed: %s", error.text);
}

static void reload(struct server *server, const char *config_file) {
    struct config_report report = {0};
    struct config config;
    struct error error;

    log_info("server", "SIGHUP: reading the apps and the certificate again");
    if (!config_load(&config, config_file, &report, &error)) {
        config_report_log(&report);
        log_error("server", "nothing was changed: the configuration has the errors above");
    } else if (config.app_manager.driver != server->config.app_manager.driver) {
        /* Its list of apps says nothing of those that are served here. */
        log_error("server", "nothing was changed: app_manager.driver is another one now, which wants a restart");
        config_dispose(&config);
    } else {
        server_tls_reload(&server->tls, &config, &server->workers);
        reload_apps(server, &config);
        config_dispose(&config);
    }
    config_report_dispose(&report);
}

static void run(struct server *server, const sigset_t *signals, const char *config_file) {
    sigset_t ends;
    int signal_number = 0;

    if (!app_manager_has_apps(server->apps))
        log_warning("server",
                    "there is no app yet, so nobody can connect: add one to `app_manager.array.apps` and send "
                    "SIGHUP, or start with SOCKUDO_DEFAULT_APP_ID, _KEY and _SECRET set");
    log_info("server", "ready");
    while (signal_number != SIGTERM && signal_number != SIGINT) {
        sigwait(signals, &signal_number);
        if (signal_number == SIGHUP)
            reload(server, config_file);
    }
    log_info("server", "shutting down: closing connections over up to %u s", server->config.shutdown_grace_period_s);
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    /* A second of these ends the process at once, whoever started it without them. SIGHUP means nothing now. */
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &ends, NULL);
    stop_workers(server);
    log_info("server", "stopped");
}

int server_run(const char *config_file) {
    struct server *server = alloc_zero(sizeof *server);
    struct config_report report = {0};
    struct log_settings log_settings;
    struct tls_context *tls;
    struct error error;
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGHUP); /* one that comes early is answered late, and does not end the process */
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (!config_load(&server->config, config_file, &report, &error) || !config_supported(&server->config, &report)) {
        config_report_print(&report, false, stderr);
        config_report_dispose(&report);
        config_dispose(&server->config);
        free(server);
        return 2;
    }
    log_settings = config_log_settings(&server->config);
    log_configure(&log_settings);
    config_report_log(&report);
    config_report_dispose(&report);
    hash_seed();
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    raise_file_limit();
    if (!server_tls_create(&server->config, &tls, &error)) {
        log_error("config", "%s", error.text);
        take_apart(server);
        return 2;
    }
    atomic_store(&server->tls, tls);
    if (!open_apps(server, &error)) {
        log_error("config", "%s", error.text);
        take_apart(server);
        return 2;
    }
    if (!build(server, &error)) {
        log_error("server", "%s", error.text);
        take_apart(server);
        return 1;
    }
    run(server, &signals, config_file);
    take_apart(server);
    return 0;
}
