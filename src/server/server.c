#include "server/server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/idempotency.h"
#include "api/list_thread.h"
#include "api/page_thread.h"
#include "api/publish_repeat.h"
#include "base/alloc.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/core_dump.h"
#include "base/hash.h"
#include "base/log.h"
#include "handover/process_name.h"
#include "net/activation.h"
#include "net/address_table.h"
#include "server/check.h"
#include "server/check_adapter.h"
#include "server/check_security.h"
#include "server/memory_limit.h"
#include "server/notify.h"
#include "server/server_internal.h"
#include "server/server_relay.h"

/* The time over which connections are closed if another process holds the listening socket. */
#define HELD_SPREAD_MS 1000

/* How long lookups may still wait for the store after the last session has closed: the two seconds in which the rest of
 * a request has to arrive, and one more because timers count seconds. */
#define STORE_ANSWERS_MS 3000

/* Descriptors that the process needs beside those of clients and stores: configuration, certificates, /proc, time zone,
 * name resolution. */
#define OWN_DESCRIPTORS 16
#define OWN_CONNECTIONS_MOST 1000
/* For requests to webhooks. Without one, a request fails and is repeated. */
#define WEBHOOK_DESCRIPTORS 32

#define TRIM_MS 5000 /* between two looks at the memory in use */

/* Connections with a higher descriptor are not counted by address; 8 bytes of address space for each. */
#define ADDRESS_DESCRIPTORS_MOST (4 * 1024 * 1024)

/* A joined group of events is at most this part of a reader's output bound, so that joining never exceeds it. */
#define GROUP_PART 8
#define GROUP_MAX_BYTES (64 * 1024)
#define GROUP_MAX_MESSAGES 64

/* --- settings of the parts --- */

static uint32_t at_least_one(uint64_t value, uint64_t most) {
    value = value < most ? value : most;
    return value > 0 ? (uint32_t)value : 1;
}

static struct delta_settings delta_settings(const struct config *config) {
    return (struct delta_settings){
        .algorithm = config->delta_compression.algorithm == CONFIG_DELTA_XDELTA3 ? APP_DELTA_XDELTA3 : APP_DELTA_FOSSIL,
        .interval = config->delta_compression.full_message_interval,
        .min_size = config->delta_compression.min_message_size,
        .max_age_s = config->delta_compression.max_state_age_secs,
        .max_keys = config->delta_compression.max_conflation_states_per_channel,
        .max_bytes = (uint64_t)config->delta_compression.max_memory_mb * 1024 * 1024,
        .key_path = config->delta_compression.conflation_key_path != NULL
                        ? slice_of(config->delta_compression.conflation_key_path)
                        : SLICE(""),
        .omit_algorithm = config->delta_compression.omit_delta_algorithm,
    };
}

static struct channel_hub_settings hub_settings(const struct config *config, struct webhook_outlet *webhooks) {
    uint64_t max_messages = config->websocket.max_messages, max_bytes = config->websocket.max_backpressure;

    return (struct channel_hub_settings){
        .cache_ttl_s = config->channel_limits.cache_ttl_s,
        .cache_max_channels = config->cache.memory.max_capacity,
        .group_max_messages =
            max_messages == 0 ? GROUP_MAX_MESSAGES : at_least_one(max_messages / GROUP_PART, GROUP_MAX_MESSAGES),
        .group_max_bytes = max_bytes == 0 ? GROUP_MAX_BYTES : at_least_one(max_bytes / GROUP_PART, GROUP_MAX_BYTES),
        .webhooks = webhooks,
        .filters = config->tag_filtering.enabled,
        .show_tags = config->tag_filtering.enable_tags,
        .deltas = delta_settings(config),
        .terminate = session_terminate,
        .has_socket_id = session_has_socket_id,
    };
}

/* The compression window of each connection; 0: none, all get the same bytes. */
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
                               RATE_LIMITER_ENTRIES);
}

/* NULL: connections of an address are not limited. */
static struct address_table *create_address_table(const struct config *config) {
    uint32_t most = config->rate_limiter.max_connections_per_address;
    bool proxies = config->rate_limiter.api_rate_limit.trust_hops != 0 ||
                   config->rate_limiter.websocket_rate_limit.trust_hops != 0;
    struct rlimit limit = {0};

    if (most == 0)
        return NULL;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > ADDRESS_DESCRIPTORS_MOST)
        limit.rlim_cur = ADDRESS_DESCRIPTORS_MOST;
    return address_table_create(most, limit.rlim_cur, !proxies);
}

static void accept_websocket(struct http_connection *connection, struct http_request *request, struct slice path,
                             void *context) {
    session_accept(context, connection, request, path);
}

/* --- building --- */

/* How many descriptors the process may need beside connections of clients. A connection to a store may hold three: a
 * socket, another one while a name is resolved, and what wakes its library. */
static unsigned own_descriptors(const struct config *config) {
    const unsigned others = OWN_DESCRIPTORS + (config_webhooks_enabled(config) ? WEBHOOK_DESCRIPTORS : 0);
    const struct config_sql *sql = config->app_manager.driver == CONFIG_DRIVER_MYSQL      ? &config->database.mysql
                                   : config->app_manager.driver == CONFIG_DRIVER_POSTGRES ? &config->database.postgres
                                                                                          : NULL;
    uint32_t least, most;
    struct error error;

    if (config->app_manager.driver == CONFIG_DRIVER_MEMORY || !config_pool_sizes(config, sql, &least, &most, &error))
        return others;
    return others + 3 * (most < OWN_CONNECTIONS_MOST ? most : OWN_CONNECTIONS_MOST);
}

/* Keeps descriptors back for API requests, the metrics and the process itself. */
static void keep_descriptors(struct server *server) {
    struct descriptor_bounds *bounds = &server->workers.descriptors;
    int websockets;

    bounds->process = own_descriptors(&server->config);
    descriptors_read_limit(bounds);
    websockets = atomic_load(&bounds->websockets);
    if (websockets != DESCRIPTORS_NO_BOUND)
        log_info("server",
                 "up to %d open files for WebSockets; the others are kept for API requests, metrics and the "
                 "server itself",
                 websockets);
}

/* Raises the soft limit on open files to the hard one: each connection needs one. */
static void raise_file_limit(void) {
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Of the keys of publishes. One app cannot take all of it from the others. */
static const struct idempotency_limits idempotency_limits = {
    .app_keys = 10000,
    .app_bytes = 4 * 1024 * 1024,
    .keys = 100000,
    .bytes = 32 * 1024 * 1024,
    .lifetime_ms = REPEAT_LIFETIME_S * 1000,
};

static void set_up_parts(struct server *server) {
    const struct config *config = &server->config;
    struct webhook_outlet *webhooks = server_webhooks_outlet(server);
    const struct channel_hub_settings settings = hub_settings(config, webhooks);

    server->request_limit = create_limit(config, &config->rate_limiter.api_rate_limit, "rate_limiter.api_rate_limit");
    server->connect_limit =
        create_limit(config, &config->rate_limiter.websocket_rate_limit, "rate_limiter.websocket_rate_limit");
    server->sessions.connect_limit = server->connect_limit;
    server->workers.addresses = create_address_table(config);
    session_server_init(&server->sessions);
    address_log_init(&server->refused, ADDRESS_LOG_MOST);
    server->sessions.refused = &server->refused;
    server->sessions.config = &server->config;
    server->sessions.apps = server->apps;
    server->sessions.limits = websocket_limits(&server->config);
    server->sessions.channels = channel_hub_create(&server->workers, &settings);
    server->sessions.webhooks = webhooks;
    server->api = (struct api){
        .config = &server->config,
        .apps = server->apps,
        .channels = server->sessions.channels,
        .workers = &server->workers,
        .started_at_s = (uint64_t)time(NULL),
        .refused = &server->refused,
        .draining = &server->sessions.draining,
        .memory_full = &server->sessions.memory_full,
        .idempotency = idempotency_create(&idempotency_limits),
        .request_limit = server->request_limit,
        .connect_limit = server->connect_limit,
        .unknown_apps = server->sessions.unknown_apps,
        .on_websocket = accept_websocket,
        .websocket_context = &server->sessions,
        .webhooks = server->webhooks != NULL ? webhook_thread_delivery(server->webhooks) : NULL,
        .webhook_outlet = webhooks,
    };
    address_log_init(&server->api.admin_strangers, ADMIN_STRANGERS);
    server->main_handler = api_main_handler(&server->api);
    server->metrics_handler = api_metrics_handler(&server->api);
    server->admin_handler = api_admin_handler(&server->api);
    housekeeping_start(&server->housekeeping, server->workers.list[0], &server->sessions, server->api.idempotency,
                       server->tickets);
}

static void apply_app_changes(struct worker *worker, void *context) {
    struct server *server = context;

    sessions_apply_app_changes(&server->sessions, worker);
}

/* An error here is one of the configuration. */
static bool open_apps(struct server *server, struct error *error) {
    if (!workers_create(&server->workers, server->config.workers, error))
        return false;
    keep_descriptors(server);
    server->app_hooks = (struct app_manager_hooks){
        .changed = apply_app_changes,
        .replaced = server_webhooks_app_replaced,
        .written = server_cluster_app_written,
        .context = server,
        .free_channels = channel_table_destroy,
        .channels_empty = channel_table_empty,
    };
    server->apps = app_manager_create(&server->config, &server->workers, &server->app_hooks, error);
    return server->apps != NULL;
}

static void note_drained(void *context) {
    struct server *server = context;

    sem_post(&server->drained);
}

/* The time over which the connections are closed. Clients that wait in a socket of systemd come back when this process
 * has ended: a longer time would only keep them away. */
static uint64_t drain_spread_ms(const struct server *server) {
    uint64_t grace_ms = server->config.shutdown_grace_period_s * UINT64_C(1000);

    return server->passed_fd >= 0 && !server->is_replaced && grace_ms > HELD_SPREAD_MS ? HELD_SPREAD_MS : grace_ms;
}

static void leave_worker(struct worker *worker, void *context) {
    server_leave_listening(context, worker);
}

/* Runs when the worker has done what it was at. */
static void pass_worker(struct worker *worker, void *context) {
    (void)worker;
    (void)context;
}

static void drain_worker(struct worker *worker, void *context) {
    struct server *server = context;

    http_drain(worker);
    sessions_drain(&server->sessions, worker, drain_spread_ms(server), note_drained, server);
}

/* Closes all connections of clients over the shutdown grace period, while the listeners stay open. Returns when the
 * last one is closed. */
static void drain_workers(struct server *server) {
    atomic_store(&server->sessions.successor, server->is_replaced || server->passed_fd >= 0);
    atomic_store(&server->sessions.draining, true);
    /* All workers leave a listener before the first client is closed: one that comes back at once is the successor's.
     */
    workers_run_on_all(&server->workers,
                       &(struct worker_task){.run = leave_worker, .finished = note_drained, .context = server});
    while (sem_wait(&server->drained) != 0)
        ;
    workers_run_on_all(&server->workers, &(struct worker_task){.run = drain_worker, .context = server});
    for (unsigned i = 0; i < server->workers.count;)
        i += sem_wait(&server->drained) == 0;
    atomic_store(&server->api.ending, !server->is_replaced);
    /* A request that a worker has begun before is handed to the cluster, if it publishes, before this node says `bye`:
     * nobody listens to it afterwards. */
    workers_run_on_all(&server->workers,
                       &(struct worker_task){.run = pass_worker, .finished = note_drained, .context = server});
    while (sem_wait(&server->drained) != 0)
        ;
}

static void end_worker(struct worker *worker, void *context) {
    struct server *server = context;

    if (worker->index == 0)
        housekeeping_stop(&server->housekeeping);
    server_finish_listening(server, worker);
    worker_stop(worker);
    http_end(worker);
    websockets_shorten_closes(worker);
}

static void stop_apps(struct server *server) {
    if (app_manager_stop(server->apps))
        return;
    log_error("server", "stopped, without a thread that hangs in the operating system, where it waits for the store");
    log_stop();
    _exit(EXIT_FAILURE);
}

static void join_workers(struct server *server) {
    if (workers_join_within(&server->workers, STORE_ANSWERS_MS))
        return;
    stop_apps(server);
    workers_join(&server->workers);
}

/* Lets nobody new in, answers those who are there, and returns when the workers have ended. */
static void end_workers(struct server *server) {
    page_thread_drain(server->api.metrics);
    page_thread_drain(server->api.stats);
    if (server->owns_unix_socket)
        unlink(server->config.unix_socket.path);
    server->owns_unix_socket = false;
    workers_run_on_all(&server->workers, &(struct worker_task){.run = end_worker, .context = server});
    join_workers(server);
}

static void abandon_worker(struct worker *worker, void *context) {
    struct server *server = context;

    server_leave_listening(server, worker);
    http_drain(worker);
    sessions_drain(&server->sessions, worker, 0, NULL, NULL);
    end_worker(worker, server);
}

/* Ends the workers of a server that could not start. */
static void abandon_workers(struct server *server) {
    atomic_store(&server->sessions.draining, true);
    workers_run_on_all(&server->workers, &(struct worker_task){.run = abandon_worker, .context = server});
    join_workers(server);
}

/* Begins to accept, before the workers run. After an upgrade the old process says when. */
static bool accept_on_all_workers(struct server *server, struct error *error) {
    if (takeover_is_under_way(server))
        return true;
    for (unsigned i = 0; i < server->workers.count; i++)
        if (!server_accept(server, server->workers.list[i], error))
            return false;
    return true;
}

static bool build_server(struct server *server, struct error *error) {
    if (!server_cluster_join(server, error) || !server_listen(server, error) || !accept_on_all_workers(server, error))
        return false;
    if (!workers_start(&server->workers, error)) {
        abandon_workers(server);
        return false;
    }
    if (!server_webhooks_start(server, error) || !app_manager_start(server->apps, error) ||
        (takeover_is_under_way(server) && !takeover_ready(server, error))) {
        abandon_workers(server);
        return false;
    }
    return true;
}

static void destroy_server(struct server *server) {
    cluster_leave(server->cluster); /* if the start has failed */
    cluster_stop(server->cluster);
    list_thread_stop(server->api.lists);
    page_thread_stop(server->api.metrics);
    page_thread_stop(server->api.stats);
    if (server->apps != NULL) {
        stop_apps(server);
        workers_settle(&server->workers);
    }
    takeover_finish(server);
    webhook_thread_stop(server->webhooks, 0); /* if the start has failed */
    webhook_thread_destroy(server->webhooks);
    webhook_events_destroy(server->webhook_events);
    cluster_destroy(server->cluster);
    if (server->sessions.channels != NULL)
        channel_hub_destroy(server->sessions.channels);
    if (server->apps != NULL)
        app_manager_destroy(server->apps);
    server_stop_listening(server);
    workers_destroy(&server->workers);
    idempotency_destroy(server->api.idempotency);
    address_log_dispose(&server->api.admin_strangers);
    address_log_dispose(&server->refused);
    rate_limiter_destroy(server->request_limit);
    rate_limiter_destroy(server->connect_limit);
    address_table_destroy(server->workers.addresses);
    reclaimer_dispose(&server->reclaimer);
    tls_context_destroy(atomic_load(&server->tls));
    tls_tickets_destroy(server->tickets);
    passed_sockets_forget(&server->passed);
    if (server->owns_unix_socket) /* the start has failed */
        unlink(server->config.unix_socket.path);
    config_dispose(&server->config);
    sem_destroy(&server->drained);
    free(server);
}

/* --- running --- */

static void ignore_signal(int signal_number) {
    (void)signal_number;
}

/* Logs at level debug, or as the configuration says again. A line about it is written in any case. */
static void toggle_debug(const struct server *server) {
    enum log_level configured = config_log_settings(&server->config).level;
    enum log_level level = configured != LOG_DEBUG ? configured : LOG_INFO;

    if (log_current_level() != LOG_DEBUG) {
        log_set_level(LOG_DEBUG);
        log_info("server", "SIGUSR1: the log level is debug now; another one sets it to %s", log_level_name(level));
    } else {
        log_set_level(level < LOG_INFO ? LOG_INFO : level);
        log_info("server", "SIGUSR1: the log level is %s now", log_level_name(level));
        log_set_level(level);
    }
}

static void say_ready(struct server *server) {
    process_name_set(PROCESS_SERVES);
    if (!app_manager_has_apps(server->apps))
        log_warning("server", "%s", check_no_app_warning);
    log_info("server", "ready");
}

/* What came of an upgrade to another process, or of one to this process. False: this process has to end. */
static bool follow_upgrade(struct server *server) {
    enum takeover_state news;

    while ((news = takeover_news(server)) != TAKEOVER_NONE) {
        switch (news) {
        case TAKEOVER_ACCEPTS:
            log_info("upgrade", "process %d (curlew %s) accepts connections in place of process %d (curlew %s)",
                     (int)getpid(), CURLEW_VERSION, (int)server->takeover.pid, server->takeover.program);
            passed_sockets_close(&server->passed);
            server->owns_unix_socket = server->config.unix_socket.enabled && server->passed_fd < 0;
            say_ready(server);
            break;
        case TAKEOVER_ENDED:
            if (!server->takeover.given_up)
                log_info("upgrade", "process %d has ended", (int)server->takeover.pid);
            break;
        default:
            return false;
        }
    }
    return !upgrade_is_taken(server);
}

/* Gives memory back after a peak: on this thread, since no connection waits for it. */
static void trim_memory(struct server *server) {
    if (memory_trim_look(&server->trim, budget_total()))
        log_debug("server", "free memory was given back to the system");
}

/* When the main thread has something to do without a signal. */
static uint64_t next_due_ms(const struct server *server) {
    uint64_t removal_ms = app_manager_removal_due_ms(server->apps), upgrade_ms = upgrade_due_ms(server);

    return removal_ms < upgrade_ms ? removal_ms : upgrade_ms;
}

/* Returns the next signal. What is due before it is done meanwhile. */
static int wait_for_signal(struct server *server, const sigset_t *signals) {
    for (;;) {
        uint64_t due_ms = next_due_ms(server), now_ms = clock_monotonic_ms();
        uint64_t left_ms = due_ms > now_ms ? due_ms - now_ms : 0, wait_ms = left_ms < TRIM_MS ? left_ms : TRIM_MS;
        struct timespec wait = {.tv_sec = (time_t)(wait_ms / 1000), .tv_nsec = (long)(wait_ms % 1000 * 1000000)};
        int signal_number = sigtimedwait(signals, NULL, &wait);
        if (signal_number > 0)
            return signal_number;
        if (clock_monotonic_ms() >= upgrade_due_ms(server))
            return UPGRADE_SIGNAL;
        app_manager_remove_held(server->apps, clock_monotonic_ms());
        trim_memory(server);
    }
}

/* Returns when the process has to end. */
static void wait_for_end(struct server *server, const sigset_t *signals, const char *config_file) {
    for (;;) {
        int signal_number = wait_for_signal(server, signals);
        if (signal_number == SIGHUP)
            server_reload(server, config_file);
        else if (signal_number == SIGUSR1)
            toggle_debug(server);
        else if (signal_number == SIGUSR2)
            upgrade_start(server);
        else if (signal_number != UPGRADE_SIGNAL || !follow_upgrade(server))
            return;
    }
}

/* The second signal ends the process at once, also when it was started with these ignored. If a new process serves,
 * nobody waits for this one: a service manager that stops both gives the old one's clients the time that they have, and
 * the signal after it ends the process. The other signals stay blocked. */
static void expect_last_signal(bool taken) {
    struct sigaction action = {.sa_handler = taken ? ignore_signal : SIG_DFL, .sa_flags = (int)SA_RESETHAND};
    sigset_t ends;

    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, &ends, NULL);
}

static void run_until_signal(struct server *server, const sigset_t *signals, const char *config_file) {
    uint64_t shutdown_ms;

    if (!takeover_is_under_way(server)) {
        say_ready(server);
        notify_ready(); /* a process that takes over is told of by the one before it */
    }
    wait_for_end(server, signals, config_file);
    takeover_stop(server);
    server->is_replaced = upgrade_stop(server) || !takeover_is_good(server);
    if (server->is_replaced) {
        process_name_set(PROCESS_ENDS);
        server->owns_unix_socket = false;
        app_manager_leave_snapshot(server->apps);
        server_relay_webhooks(server);
    } else {
        notify_stopping();
    }
    log_info("server", "shutting down: closing connections over up to %u s",
             (unsigned)(drain_spread_ms(server) / 1000));
    expect_last_signal(server->is_replaced);
    shutdown_ms = clock_monotonic_ms();
    drain_workers(server);
    cluster_leave(server->cluster);
    server_webhooks_stop(server, shutdown_ms);
    end_workers(server);
    upgrade_finish(server);
    takeover_finish(server);
    server_stop_unfiltered(server);
    log_info("server", "stopped");
}

/* Reads the configuration and applies what concerns the whole process; false after printing what is wrong. */
static bool configure_process(struct server *server, const char *config_file) {
    struct config_report report = {0};
    struct log_settings log_settings;
    bool good = config_load(&server->config, config_file, &report, &(struct error){0}) &&
                config_supported(&server->config, &report) && check_adapter(&server->config, &report);

    if (good) {
        log_settings = config_log_settings(&server->config);
        log_configure(&log_settings);
        config_report_log(&report);
        check_files_at_start(&server->config);
        if (server->config.debug)
            core_dump_allow();
    } else {
        config_report_print(&report, false, stderr);
    }
    config_report_dispose(&report);
    return good;
}

/* Opens what the configuration names: the certificate, the apps and the adapter. An error is one of the configuration.
 */
static bool open_parts(struct server *server, struct error *error) {
    struct tls_context *tls;

    server->tickets = tls_tickets_create(clock_monotonic_ms());
    if (!server_tls_create(&server->config, server->tickets, &tls, error))
        return false;
    atomic_store(&server->tls, tls);
    if (!open_apps(server, error) || !server_webhooks_create(server, error))
        return false;
    memory_limit_apply(&server->config);
    set_up_parts(server);
    return server_cluster_create(server, error);
}

static int run_server(struct server *server, const sigset_t *signals, const char *config_file) {
    struct error error;

    if (!takeover_begin(server, &error)) {
        log_error("upgrade", "process %d (curlew %s): %s", (int)getpid(), CURLEW_VERSION, error.text);
        return 1;
    }
    if (!activation_take(&server->passed_fd, &error) || !open_parts(server, &error)) {
        log_error("config", "%s", error.text);
        return 2;
    }
    if (!build_server(server, &error)) {
        log_error("server", "%s", error.text);
        return 1;
    }
    run_until_signal(server, signals, config_file);
    return takeover_is_good(server) && !atomic_load(&server->upgrade.is_lost) ? 0 : 1;
}

int server_run(const char *config_file) {
    struct server *server = alloc_zero(sizeof *server);
    struct error error;
    sigset_t signals;
    int code;

    process_name_init(PROCESS_SERVES);
    takeover_init(server);
    sigemptyset(&signals);
    sigaddset(&signals, SIGHUP); /* one during the start waits, and does not end the process */
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGUSR2);
    sigaddset(&signals, UPGRADE_SIGNAL);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGUSR2, ignore_signal); /* it is waited for; the handler tells `curlew upgrade` so */
    if (!configure_process(server, config_file)) {
        config_dispose(&server->config);
        free(server);
        return 2;
    }
    hash_seed();
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    raise_file_limit();
    if (!log_start(&error))
        log_warning("server", "%s; a reader of the log that stops reading stops the server", error.text);
    reclaimer_init(&server->reclaimer, &server->workers);
    sem_init(&server->drained, 0, 0);
    code = run_server(server, &signals, config_file);
    destroy_server(server);
    log_stop();
    return code;
}
