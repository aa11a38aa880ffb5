#include "connect_probe.h"

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

static void probe_move(struct connect_probe *probe, enum probe_state state) {
    probe->probes->in_state[probe->state]--;
    probe->probes->in_state[state]++;
    probe->state = state;
}

static void fail_with_probe(const struct connect_probe *probe, const char *what) __attribute__((noreturn));

static void fail_with_probe(const struct connect_probe *probe, const char *what) {
    fail("a connection to %s for the key '%s': %s; received: \"%.*s\"", probe->probes->target->url, probe->key, what,
         SLICE_ARGS(buffer_slice(&probe->input)));
}

/* Handles the first message; a refusal carries the code of its pusher:error. */
static void take_message(struct connect_probe *probe, struct slice text) {
    struct connect_probes *probes = probe->probes;
    const char *code_at = memmem(text.data, text.length, "\"code\":", 7);
    bool established = memmem(text.data, text.length, "\"pusher:connection_established\"", 31) != NULL;
    unsigned code = !established && code_at != NULL ? (unsigned)strtoul(code_at + 7, NULL, 10) : 0;

    if (established ? probes->expected_code != 0 : probes->expected_code == 0 || code != probes->expected_code) {
        if (probes->wrong++ == 0)
            snprintf(probes->first_wrong, sizeof probes->first_wrong, "%s: %.*s", probe->key, SLICE_ARGS(text));
    }
    if (probes->latencies != NULL)
        histogram_add(probes->latencies, clock_monotonic_ns() - probe->asked_ns);
    probe_move(probe, established ? PROBE_ESTABLISHED : PROBE_REFUSED);
}

static void take_input(struct connect_probe *probe) {
    struct slice text = buffer_slice(&probe->input);
    size_t upgrade = upgrade_answer_length(text, false);
    struct frame frame;

    if (upgrade == SIZE_MAX)
        fail_with_probe(probe, "the server did not upgrade to WebSocket as RFC 6455 has it");
    if (upgrade == 0)
        return;
    text = slice_skip(text, upgrade);
    switch (frame_parse(text.data, text.length, &frame)) {
    case 0:
        return;
    case SIZE_MAX:
        fail_with_probe(probe, "the server sent a masked frame");
    default:
        if (frame.first != FRAME_TEXT)
            fail_with_probe(probe, "the server sent something else than a text message");
        take_message(probe, frame.payload);
    }
}

static void probe_ready(struct source *source, uint32_t events) {
    struct connect_probe *probe = (struct connect_probe *)source;
    ssize_t count;

    if (probe->state == PROBE_CONNECTING && (events & EPOLLOUT) != 0 && (events & EPOLLERR) == 0)
        probe_move(probe, PROBE_READY);
    if ((events & ~(uint32_t)EPOLLOUT) == 0)
        return;
    do {
        char input[INPUT_ROOM];
        count = recv(probe->source.fd, input, sizeof input, 0);
        if (count < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (!probe_under_way(probe))
            continue; /* later data and the end of the stream are ignored */
        if (count <= 0)
            fail_with_probe(probe, count == 0 ? "the server closed the connection" : strerror(errno));
        buffer_append_bytes(&probe->input, input, (size_t)count);
        if (probe->state == PROBE_ASKING)
            take_input(probe);
    } while (count > 0);
}

void probe_connect(struct connect_probe *probe, struct connect_probes *probes, unsigned number) {
    probe_end(probe);
    *probe = (struct connect_probe){.source = {.ready = probe_ready, .fd = target_connect(probes->target)},
                                    .probes = probes};
    if (number == 0)
        snprintf(probe->key, sizeof probe->key, "%s", probes->target->app_key);
    else
        snprintf(probe->key, sizeof probe->key, "%s%u", probes->target->app_key, number);
    probes->in_state[PROBE_NONE]++;
    probe_move(probe, PROBE_CONNECTING);
    poller_add(probes->poller, &probe->source, POLLER_GATHERED);
}

void probe_ask(struct connect_probe *probe) {
    struct buffer request = {0};

    probe->asked_ns = clock_monotonic_ns();
    probe_move(probe, PROBE_ASKING);
    upgrade_append_request(&request, probe->probes->target, probe->key);
    /* The request fits into the empty send buffer of a new connection. */
    if (send(probe->source.fd, request.data, request.length, MSG_NOSIGNAL) != (ssize_t)request.length)
        fail_with_probe(probe, strerror(errno));
    buffer_dispose(&request);
}

void probe_end(struct connect_probe *probe) {
    if (probe->state == PROBE_NONE)
        return;
    close(probe->source.fd);
    buffer_dispose(&probe->input);
    probe_move(probe, PROBE_NONE);
    probe->probes->in_state[PROBE_NONE]--;
}
