#include "server/takeover.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "handover/process_name.h"
#include "server/server_internal.h"
#include "server/server_relay.h"

/* In which the old process must answer at the start. */
#define GREETING_MS 10000
/* The old process must have ended so long after its grace period, with its last webhooks. */
#define OLD_ENDS_MS 10000

static bool move_takeover(struct takeover *takeover, enum takeover_state from, enum takeover_state to) {
    return atomic_compare_exchange_strong(&takeover->state, &from, to);
}

void takeover_init(struct server *server) {
    server->takeover.connection.fd = -1;
}

bool takeover_begin(struct server *server, struct error *error) {
    struct takeover *takeover = &server->takeover;
    struct deadline deadline = deadline_after(GREETING_MS, -1);
    char *path = getenv(HANDOVER_VARIABLE);
    int fd;

    if (path == NULL)
        return true;
    process_name_set(PROCESS_WAITS);
    takeover->pid = getppid();
    fd = handover_connect(path, takeover->pid, error);
    unsetenv(HANDOVER_VARIABLE);
    if (fd < 0)
        return false;
    handover_socket_init(&takeover->connection, fd);
    if (!handover_socket_greet(&takeover->connection, CURLEW_VERSION, takeover->program, sizeof takeover->program,
                               &deadline, error) ||
        !passed_sockets_receive(&server->passed, &takeover->connection, &deadline, error)) {
        handover_socket_dispose(&takeover->connection);
        return false;
    }
    atomic_store(&takeover->state, TAKEOVER_WAITING);
    log_info("upgrade", "process %d (curlew %s) takes the place of process %d (curlew %s), which passes %u sockets",
             (int)getpid(), CURLEW_VERSION, (int)takeover->pid, takeover->program, server->passed.count);
    return true;
}

bool takeover_is_under_way(const struct server *server) {
    enum takeover_state state = atomic_load(&server->takeover.state);

    return state == TAKEOVER_WAITING || state == TAKEOVER_TAKING;
}

bool takeover_is_good(const struct server *server) {
    enum takeover_state state = atomic_load(&server->takeover.state);

    return state != TAKEOVER_WAITING && state != TAKEOVER_TAKING && state != TAKEOVER_FAILED;
}

/* --- the link's thread --- */

static void accept_on_worker(struct worker *worker, void *context) {
    struct server *server = context;
    struct error error;

    if (server_accept(server, worker, &error))
        return;
    log_error("upgrade", "worker %u cannot accept connections: %s", worker->index, error.text);
    atomic_fetch_add(&server->takeover.not_accepting, 1);
}

/* On the last worker that has begun to accept. If one could not, the old process goes on: it is told nothing, and this
 * process ends. */
static void on_accepting(void *context) {
    struct server *server = context;
    struct takeover *takeover = &server->takeover;

    if (atomic_load(&takeover->not_accepting) != 0) {
        handover_link_finish(&takeover->link);
        return;
    }
    if (!move_takeover(takeover, TAKEOVER_TAKING, TAKEOVER_ACCEPTS))
        return; /* the connection has ended meanwhile */
    handover_link_send(&takeover->link, HANDOVER_TAKEN, NULL, 0);
    kill(getpid(), UPGRADE_SIGNAL);
}

/* The old process lets this one accept. It ends itself after the grace period; if it hangs, the link must not hold
 * webhooks and memory for ever. */
static bool begin_taking_over(struct server *server, struct handover_link *link, struct slice payload,
                              struct error *error) {
    unsigned long long grace_s;

    if (!slice_to_number(payload, UINT32_MAX, &grace_s))
        return error_set(error, "the old process does not say how long it drains");
    if (!move_takeover(&server->takeover, TAKEOVER_WAITING, TAKEOVER_TAKING))
        return error_set(error, "this process is told to end");
    link->deadline.ends_ns = clock_monotonic_ns() + (grace_s * 1000 + OLD_ENDS_MS) * UINT64_C(1000000);
    server_listen_on_all_workers(server);
    workers_run_on_all(&server->workers,
                       &(struct worker_task){.run = accept_on_worker, .finished = on_accepting, .context = server});
    return true;
}

static bool on_takeover_message(struct handover_link *link, const struct handover_message *message, void *context,
                                struct error *error) {
    struct server *server = context;

    if (message->type >= HANDOVER_RELAY_FIRST)
        return server_relay_message(server, message, error);
    if (message->type != HANDOVER_TAKE_OVER)
        return error_set(error, "the old process sends a message of type %u, which is not expected", message->type);
    return begin_taking_over(server, link, message->payload, error);
}

/* The old process has not ended, but is not heard any more. It must not send to nobody. */
static void give_up_old_process(struct takeover *takeover) {
    takeover->given_up = true;
    shutdown(takeover->link.socket.fd, SHUT_RDWR);
    log_warning("upgrade", "process %d has not ended in time, and is not waited for any more", (int)takeover->pid);
}

static void *run_takeover(void *context) {
    struct server *server = context;
    struct takeover *takeover = &server->takeover;
    struct error error = {0};
    bool good = handover_link_run(&takeover->link, &error);

    server_relay_end(server);
    server_relay_end_overlap(server);
    if (!good && atomic_load(&takeover->state) == TAKEOVER_ACCEPTS &&
        deadline_remaining_ms(&takeover->link.deadline) == 0)
        give_up_old_process(takeover);
    if (move_takeover(takeover, TAKEOVER_WAITING, TAKEOVER_FAILED) ||
        move_takeover(takeover, TAKEOVER_TAKING, TAKEOVER_FAILED))
        log_error("upgrade", "process %d does not let this one take its place: %s", (int)takeover->pid,
                  good ? "it has ended the upgrade" : error.text);
    else if (move_takeover(takeover, TAKEOVER_ACCEPTS, TAKEOVER_ENDED) && !good && !takeover->given_up)
        log_error("upgrade", "the connection to process %d has ended: %s", (int)takeover->pid, error.text);
    kill(getpid(), UPGRADE_SIGNAL);
    return NULL;
}

/* --- the main thread --- */

bool takeover_ready(struct server *server, struct error *error) {
    const struct handover_handler handler = {
        .on_message = on_takeover_message, .context = server, .held = &server->relay_inbox.held};
    struct takeover *takeover = &server->takeover;

    if (!handover_link_init(&takeover->link, &takeover->connection, &handler, error))
        return false;
    server_relay_begin(server, &takeover->link);
    server_relay_fetch_kept(server);
    takeover->has_thread = thread_start(&takeover->thread, "upgrade", run_takeover, server, error);
    if (!takeover->has_thread) {
        server_relay_end(server);
        handover_link_dispose(&takeover->link);
        return false;
    }
    return true;
}

enum takeover_state takeover_news(struct server *server) {
    struct takeover *takeover = &server->takeover;
    enum takeover_state state = atomic_load(&takeover->state);

    if (state == TAKEOVER_WAITING || state == TAKEOVER_TAKING || state == takeover->told)
        return TAKEOVER_NONE;
    if (state == TAKEOVER_ENDED && takeover->told == TAKEOVER_NONE)
        state = TAKEOVER_ACCEPTS; /* the next call tells the end */
    takeover->told = state;
    return state;
}

pid_t takeover_predecessor(const struct server *server) {
    enum takeover_state state = atomic_load(&server->takeover.state);

    return state == TAKEOVER_NONE || state == TAKEOVER_ENDED ? 0 : server->takeover.pid;
}

void takeover_stop(struct server *server) {
    move_takeover(&server->takeover, TAKEOVER_WAITING, TAKEOVER_FAILED);
    while (atomic_load(&server->takeover.state) == TAKEOVER_TAKING) /* until each worker has had a turn */
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

void takeover_finish(struct server *server) {
    struct takeover *takeover = &server->takeover;

    if (takeover->has_thread) {
        handover_link_finish(&takeover->link);
        pthread_join(takeover->thread, NULL);
        handover_link_dispose(&takeover->link);
    }
    takeover->has_thread = false;
    handover_socket_dispose(&takeover->connection);
}
