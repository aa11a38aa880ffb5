#include "server/upgrade.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "handover/handover_program.h"
#include "handover/process_name.h"
#include "server/notify.h"
#include "server/server_internal.h"
#include "server/server_relay.h"

/* In which the new process must be ready. */
#define READY_MS 30000
/* In which it must accept, once it was told to. */
#define ACCEPT_MS 10000
/* For which it must accept before this process closes its sockets and connections. */
#define PROVE_MS 2000
/* In which it must end when this process is told to. */
#define END_MS 2000
/* How long `curlew upgrade`, which looks at the name of this process, can see that an upgrade had begun. */
#define SEEN_MS 100

static bool move_state(struct upgrade *upgrade, enum upgrade_state from, enum upgrade_state to) {
    return atomic_compare_exchange_strong(&upgrade->state, &from, to);
}

/* --- the thread --- */

static bool pass_socket(struct handover_socket *connection, const char *name, bool supervised, int fd,
                        const struct deadline *deadline, struct error *error) {
    struct passed_socket passed = {.supervised = supervised, .fd = fd};

    if (fd < 0)
        return true;
    snprintf(passed.name, sizeof passed.name, "%s", name);
    return passed_socket_send(connection, &passed, deadline, error);
}

/* Passes on all that this process listens on. Its main thread does not stop listening before this thread has ended. */
static bool pass_sockets(const struct server *server, struct handover_socket *connection,
                         const struct deadline *deadline, struct error *error) {
    bool supervised = server->passed_fd >= 0;

    for (unsigned i = 0; i < (server->main_is_shared ? 1 : server->listener_count); i++)
        if (!pass_socket(connection, HANDOVER_MAIN, supervised, server->listeners[i].fd, deadline, error))
            return false;
    return pass_socket(connection, HANDOVER_METRICS, false, server->metrics_listener.fd, deadline, error) &&
           pass_socket(connection, HANDOVER_ADMIN, false, server->admin_listener.fd, deadline, error) &&
           pass_socket(connection, HANDOVER_REDIRECT, false, server->redirect_listener.fd, deadline, error) &&
           handover_socket_write(connection, HANDOVER_LISTENERS_END, SLICE(""), -1, deadline, error);
}

/* True if the new process accepts, or has accepted. */
static bool has_successor(struct upgrade *upgrade) {
    enum upgrade_state state = atomic_load(&upgrade->state);

    return state == UPGRADE_PROVING || state == UPGRADE_TAKEN;
}

/* This process has to shut down: the new one is the service. */
static void take_successor(struct upgrade *upgrade) {
    if (move_state(upgrade, UPGRADE_PROVING, UPGRADE_TAKEN))
        notify_main_pid(upgrade->pid);
}

static bool on_ready(struct server *server, struct error *error) {
    struct upgrade *upgrade = &server->upgrade;
    struct slice grace;
    char text[16];

    if (!move_state(upgrade, UPGRADE_STARTING, UPGRADE_TAKING))
        return error_set(error, "this process is told to end");
    upgrade->link->deadline.ends_ns = clock_monotonic_ns() + ACCEPT_MS * UINT64_C(1000000);
    snprintf(text, sizeof text, "%u", (unsigned)server->config.shutdown_grace_period_s);
    grace = slice_of(text);
    return handover_link_send(upgrade->link, HANDOVER_TAKE_OVER, &grace, 1) ||
           error_set(error, "no memory for a message to the new process");
}

static bool on_taken(struct upgrade *upgrade, struct error *error) {
    if (!move_state(upgrade, UPGRADE_TAKING, UPGRADE_PROVING))
        return error_set(error, "the new process accepts connections without being told to");
    upgrade->link->deadline.ends_ns = UINT64_MAX;
    log_info("upgrade", "process %d (curlew %s) accepts connections now", (int)upgrade->pid, upgrade->program);
    kill(getpid(), UPGRADE_SIGNAL);
    return true;
}

static bool on_upgrade_message(struct handover_link *link, const struct handover_message *message, void *context,
                               struct error *error) {
    struct server *server = context;

    (void)link;
    if (message->type >= HANDOVER_RELAY_FIRST)
        return server_relay_message(server, message, error);
    switch (message->type) {
    case HANDOVER_READY:
        return on_ready(server, error);
    case HANDOVER_TAKEN:
        return on_taken(&server->upgrade, error);
    default:
        return error_set(error, "the new process sends a message of type %u, which an old process does not expect",
                         message->type);
    }
}

static bool greet_new_process(struct server *server, struct handover_socket *connection, struct error *error) {
    struct upgrade *upgrade = &server->upgrade;
    int fd = handover_place_accept(&upgrade->place, upgrade->pid, &upgrade->deadline, error);

    handover_place_close(&upgrade->place);
    if (fd < 0 && handover_program_has_ended(upgrade->pidfd))
        error_set(error, "the new process ended at once");
    if (fd < 0)
        return false;
    handover_socket_init(connection, fd);
    return handover_socket_greet(connection, CURLEW_VERSION, upgrade->program, sizeof upgrade->program,
                                 &upgrade->deadline, error) &&
           pass_sockets(server, connection, &upgrade->deadline, error);
}

/* Returns when the connection has ended, false with an error if that is too early. */
static bool serve_new_process(struct server *server, struct error *error) {
    const struct handover_handler handler = {
        .on_message = on_upgrade_message, .context = server, .held = &server->relay_inbox.held};
    struct upgrade *upgrade = &server->upgrade;
    struct handover_socket connection = {.fd = -1};
    struct handover_link *link;

    if (!greet_new_process(server, &connection, error)) {
        handover_socket_dispose(&connection);
        return false;
    }
    link = alloc_zero(sizeof *link);
    if (!handover_link_init(link, &connection, &handler, error)) {
        handover_socket_dispose(&connection);
        free(link);
        return false;
    }
    upgrade->link = link;
    link->deadline = upgrade->deadline;
    server_relay_begin(server, link);
    if (!handover_link_run(link, error))
        return false;
    return has_successor(upgrade) || error_set(error, "the new process has closed the connection");
}

static void fail_upgrade(struct server *server, const struct error *error) {
    struct upgrade *upgrade = &server->upgrade;
    char how[80];

    handover_program_end(upgrade->pidfd, how, sizeof how);
    if (atomic_load(&upgrade->state) != UPGRADE_FAILED)
        nanosleep(&(struct timespec){.tv_nsec = SEEN_MS * 1000000L}, NULL);
    if (atomic_load(&upgrade->state) == UPGRADE_FAILED) /* by upgrade_stop */
        log_info("upgrade", "the upgrade is given up: process %d %s", (int)upgrade->pid, how);
    else
        log_error("upgrade", "the upgrade has failed, and process %d (curlew %s) goes on: %s; process %d %s",
                  (int)getpid(), CURLEW_VERSION, error->text, (int)upgrade->pid, how);
    process_name_set(PROCESS_SERVES);
    atomic_store(&upgrade->state, UPGRADE_FAILED);
}

/* The connection has ended after the new process began to accept. If that has crashed, nobody listens any more. */
static void note_loss(struct upgrade *upgrade) {
    char how[80];

    if (atomic_load(&upgrade->link->finishing) || !handover_program_has_failed(upgrade->pidfd, how, sizeof how))
        return;
    atomic_store(&upgrade->is_lost, true);
    log_error("upgrade",
              "process %d, which took the place of this one, %s: nobody accepts connections; start the server again",
              (int)upgrade->pid, how);
}

/* The connection has ended soon after the new process began to accept. If that has crashed, this one goes on. */
static void judge_successor(struct upgrade *upgrade, struct error *error) {
    char how[80];

    if (atomic_load(&upgrade->state) != UPGRADE_PROVING)
        return;
    if (!handover_program_has_failed(upgrade->pidfd, how, sizeof how))
        take_successor(upgrade);
    else if (move_state(upgrade, UPGRADE_PROVING, UPGRADE_TAKING)) /* the main thread waits for what follows */
        error_set(error, "the new process has crashed soon after it began to accept connections");
}

static void *run_upgrade(void *context) {
    struct server *server = context;
    struct error error = {0};
    bool good = serve_new_process(server, &error);

    server_relay_end(server);
    judge_successor(&server->upgrade, &error);
    if (atomic_load(&server->upgrade.state) != UPGRADE_TAKEN)
        fail_upgrade(server, &error);
    else if (!good)
        log_error("upgrade", "the connection to process %d has ended: %s", (int)server->upgrade.pid, error.text);
    if (atomic_load(&server->upgrade.state) == UPGRADE_TAKEN)
        note_loss(&server->upgrade);
    kill(getpid(), UPGRADE_SIGNAL);
    return NULL;
}

/* --- the main thread --- */

/* Where the folder of the socket is made: a place that is cleared at the end of the service, or at a boot. */
static const char *runtime_folder(char *folder, size_t size) {
    const char *runtime = getenv("RUNTIME_DIRECTORY"), *temporary = getenv("TMPDIR");

    if (runtime != NULL && runtime[0] == '/') {
        snprintf(folder, size, "%.*s", (int)strcspn(runtime, ":"), runtime);
        return folder;
    }
    return temporary != NULL && temporary[0] == '/' ? temporary : "/tmp";
}

static bool start_new_process(struct server *server, struct error *error) {
    struct upgrade *upgrade = &server->upgrade;
    char folder[256], variable[256], how[80];

    if (!handover_place_open(&upgrade->place, runtime_folder(folder, sizeof folder), error))
        return false;
    snprintf(variable, sizeof variable, HANDOVER_VARIABLE "=%s", upgrade->place.path);
    workers_share_descriptors(&server->workers);
    upgrade->pid = handover_program_start(variable, &upgrade->pidfd, error);
    workers_share_no_descriptors(&server->workers);
    if (upgrade->pid < 0) {
        handover_place_close(&upgrade->place);
        return false;
    }
    upgrade->deadline = deadline_after(READY_MS, upgrade->pidfd);
    atomic_store(&upgrade->state, UPGRADE_STARTING);
    process_name_set(PROCESS_UPGRADES);
    upgrade->has_thread = thread_start(&upgrade->thread, "upgrade", run_upgrade, server, error);
    if (upgrade->has_thread)
        return true;
    handover_place_close(&upgrade->place);
    handover_program_end(upgrade->pidfd, how, sizeof how);
    close(upgrade->pidfd);
    atomic_store(&upgrade->state, UPGRADE_NONE);
    process_name_set(PROCESS_SERVES);
    return false;
}

static void free_link(void *object, void *context) {
    struct handover_link *link = object;

    (void)context;
    handover_link_dispose(link);
    free(link);
}

/* Joins the thread. Workers may still be sending. */
static void join_upgrade(struct server *server) {
    struct upgrade *upgrade = &server->upgrade;

    if (!upgrade->has_thread)
        return;
    if (!upgrade->is_joined)
        pthread_join(upgrade->thread, NULL);
    upgrade->has_thread = upgrade->is_joined = false;
    reclaim_defer(&server->reclaimer, upgrade->link, free_link, NULL);
    upgrade->link = NULL;
    close(upgrade->pidfd);
}

/* Ends the thread of an upgrade that has failed. */
static void forget_failure(struct server *server) {
    if (atomic_load(&server->upgrade.state) != UPGRADE_FAILED)
        return;
    join_upgrade(server);
    atomic_store(&server->upgrade.state, UPGRADE_NONE);
    if (server->upgrade.is_paused)
        workers_run_on_all(&server->workers, &(struct worker_task){.run = server_resume_listening, .context = server});
    server->upgrade.is_paused = false;
}

/* True, with a warning, if no upgrade can begin now. */
static bool refuse_upgrade(const struct server *server) {
    pid_t predecessor = takeover_predecessor(server);

    if (atomic_load(&server->upgrade.state) != UPGRADE_NONE)
        log_warning("upgrade", "SIGUSR2: an upgrade is under way already, to process %d", (int)server->upgrade.pid);
    else if (predecessor != 0)
        log_warning("upgrade",
                    "SIGUSR2: nothing was done: process %d, before this one, still %s; try again when it has ended",
                    (int)predecessor, takeover_is_under_way(server) ? "serves" : "closes its connections");
    else if (getpid() == 1)
        log_warning("upgrade",
                    "SIGUSR2: nothing was done: this is process 1 of its container, which would end with "
                    "it; start a new container, or restart this one");
    else
        return false;
    return true;
}

void upgrade_start(struct server *server) {
    struct upgrade *upgrade = &server->upgrade;
    struct error error;

    forget_failure(server);
    if (refuse_upgrade(server))
        return;
    if (!start_new_process(server, &error))
        log_error("upgrade", "SIGUSR2: the upgrade has failed, and process %d (curlew %s) goes on: %s", (int)getpid(),
                  CURLEW_VERSION, error.text);
    else
        log_info("upgrade", "SIGUSR2: process %d (curlew %s) has started process %d to take its place", (int)getpid(),
                 CURLEW_VERSION, (int)upgrade->pid);
}

uint64_t upgrade_due_ms(const struct server *server) {
    const struct upgrade *upgrade = &server->upgrade;

    return upgrade->is_paused && atomic_load(&upgrade->state) == UPGRADE_PROVING ? upgrade->proven_ms : UINT64_MAX;
}

bool upgrade_is_taken(struct server *server) {
    struct upgrade *upgrade = &server->upgrade;

    forget_failure(server);
    if (atomic_load(&upgrade->state) == UPGRADE_PROVING && !upgrade->is_paused) {
        workers_run_on_all(&server->workers, &(struct worker_task){.run = server_pause_listening, .context = server});
        upgrade->is_paused = true;
        upgrade->proven_ms = clock_monotonic_ms() + PROVE_MS;
    }
    if (clock_monotonic_ms() >= upgrade_due_ms(server))
        take_successor(upgrade);
    return atomic_load(&upgrade->state) == UPGRADE_TAKEN;
}

bool upgrade_stop(struct server *server) {
    struct upgrade *upgrade = &server->upgrade;

    if (move_state(upgrade, UPGRADE_STARTING, UPGRADE_FAILED)) {
        pidfd_send_signal(upgrade->pidfd, SIGTERM, NULL, 0);
        if (!thread_join_until(upgrade->thread, clock_monotonic_ns() + END_MS * UINT64_C(1000000)))
            pidfd_send_signal(upgrade->pidfd, SIGKILL, NULL, 0);
        else
            upgrade->is_joined = true;
    }
    while (atomic_load(&upgrade->state) == UPGRADE_TAKING) /* it accepts within ACCEPT_MS, or has failed */
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    take_successor(upgrade);
    return upgrade_is_taken(server);
}

void upgrade_finish(struct server *server) {
    struct upgrade *upgrade = &server->upgrade;

    if (upgrade->has_thread && upgrade->link != NULL)
        handover_link_finish(upgrade->link);
    join_upgrade(server);
}
