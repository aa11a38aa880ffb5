#include "visit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "fail.h"
#include "frame.h"
#include "upgrade.h"

#define INPUT_ROOM 4096

static void visit_move(struct visit *visit, enum visit_state state) {
    visit->visits->in_state[visit->state]--;
    visit->visits->in_state[state]++;
    visit->state = state;
}

static void fail_with_visit(const struct visit *visit, const char *what) __attribute__((noreturn));

static void fail_with_visit(const struct visit *visit, const char *what) {
    fail("a connection to %s for the key '%s': %s; received: \"%.*s\"", visit->visits->target->url, visit->key, what,
         SLICE_ARGS(buffer_slice(&visit->input)));
}

/* The first message; the code is that of pusher:error. */
static void take_message(struct visit *visit, struct slice text) {
    struct visits *visits = visit->visits;
    const char *code_at = memmem(text.data, text.length, "\"code\":", 7);
    bool established = memmem(text.data, text.length, "\"pusher:connection_established\"", 31) != NULL;
    unsigned code = !established && code_at != NULL ? (unsigned)strtoul(code_at + 7, NULL, 10) : 0;

    if (established ? visits->expected_code != 0 : visits->expected_code == 0 || code != visits->expected_code) {
        if (visits->wrong++ == 0)
            snprintf(visits->first_wrong, sizeof visits->first_wrong, "%s: %.*s", visit->key, SLICE_ARGS(text));
    }
    if (visits->latencies != NULL)
        histogram_add(visits->latencies, clock_monotonic_ns() - visit->asked_ns);
    visit_move(visit, established ? VISIT_ESTABLISHED : VISIT_REFUSED);
}

static void take_input(struct visit *visit) {
    struct slice text = buffer_slice(&visit->input);
    size_t upgrade = upgrade_answer_length(text);
    struct frame frame;

    if (upgrade == SIZE_MAX)
        fail_with_visit(visit, "the server did not upgrade to WebSocket as RFC 6455 has it");
    if (upgrade == 0)
        return;
    text = slice_skip(text, upgrade);
    switch (frame_parse(text.data, text.length, &frame)) {
    case 0:
        return;
    case SIZE_MAX:
        fail_with_visit(visit, "the server sent a masked frame");
    default:
        if (frame.first != FRAME_TEXT)
            fail_with_visit(visit, "the server sent something else than a text message");
        take_message(visit, frame.payload);
    }
}

static void visit_ready(struct source *source, uint32_t events) {
    struct visit *visit = (struct visit *)source;
    ssize_t count;

    if (visit->state == VISIT_CONNECTING && (events & EPOLLOUT) != 0 && (events & EPOLLERR) == 0)
        visit_move(visit, VISIT_READY);
    if ((events & ~(uint32_t)EPOLLOUT) == 0)
        return;
    do {
        char input[INPUT_ROOM];
        count = recv(visit->source.fd, input, sizeof input, 0);
        if (count < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (!visit_under_way(visit))
            continue; /* what else comes does not matter, nor that it ends */
        if (count <= 0)
            fail_with_visit(visit, count == 0 ? "the server closed the connection" : strerror(errno));
        buffer_append_bytes(&visit->input, input, (size_t)count);
        if (visit->state == VISIT_ASKING)
            take_input(visit);
    } while (count > 0);
}

void visit_connect(struct visit *visit, struct visits *visits, unsigned number) {
    visit_end(visit);
    *visit = (struct visit){.source = {.ready = visit_ready, .fd = target_connect(visits->target)}, .visits = visits};
    if (number == 0)
        snprintf(visit->key, sizeof visit->key, "%s", visits->target->app_key);
    else
        snprintf(visit->key, sizeof visit->key, "%s%u", visits->target->app_key, number);
    visits->in_state[VISIT_NONE]++;
    visit_move(visit, VISIT_CONNECTING);
    poller_add(visits->poller, &visit->source, POLLER_GATHERED);
}

void visit_ask(struct visit *visit) {
    struct buffer request = {0};

    visit->asked_ns = clock_monotonic_ns();
    visit_move(visit, VISIT_ASKING);
    upgrade_append_request(&request, visit->visits->target, visit->key);
    /* The first bytes on a connection fit into its buffer. */
    if (send(visit->source.fd, request.data, request.length, MSG_NOSIGNAL) != (ssize_t)request.length)
        fail_with_visit(visit, strerror(errno));
    buffer_dispose(&request);
}

void visit_end(struct visit *visit) {
    if (visit->state == VISIT_NONE)
        return;
    close(visit->source.fd);
    buffer_dispose(&visit->input);
    visit_move(visit, VISIT_NONE);
    visit->visits->in_state[VISIT_NONE]--;
}
