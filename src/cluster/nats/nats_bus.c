#include "cluster/nats/nats_bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/crypto.h"
#include "base/log.h"
#include "cluster/nats/nats_link.h"
#include "cluster/nats/nats_subjects.h"
#include "cluster/nats/nats_threads.h"

/* An attempt to connect anew, and the pauses after a round of attempts at all servers. */
#define NATS_ATTEMPT_MS 1000
#define NATS_PAUSE_FIRST_MS 100
#define NATS_PAUSE_LAST_MS 1000

/* A server that has worked for so long is given up without a longer pause than the first. */
#define NATS_STABLE_MS 5000

/* How often the server is asked for an answer, and how long it has for it. */
#define NATS_PROBE_MS 5000
#define NATS_ANSWER_MS 5000

/* How much later than it should a timer may fire before the time counts as time in which this thread did not run. */
#define NATS_LATE_MS 1000

/* Subjects that are asked for, or told to be in force, in one turn. */
#define NATS_SUBJECTS_PER_TURN 128

struct nats_bus {
    struct bus bus;
    struct loop *loop;
    struct nats_settings settings;
    struct nats_threads *threads;
    struct nats_subjects *subjects;

    /* Those of the settings, then those that the last server named. */
    struct nats_address *servers;
    size_t servers_count, next_server, attempts_in_round;
    bool attempting, closing, was_up, told_down;
    uint32_t pause_ms;
    uint64_t up_since_ms;
    struct loop_timer retry_timer;

    struct nats_link *link; /* NULL: down */
    unsigned closing_links;
    size_t max_message_bytes;
    bool in_cluster;

    struct list asked;     /* subjects, in the order of their numbers */
    bool resubscribing;    /* the subjects from before this link are asked for anew */
    size_t resubscribe_at; /* the next place of the table */
    uint64_t flush_number; /* of the flush that comes next */
    uint64_t flushed_number;
    bool flush_wanted, flush_begun;
    struct loop_timer probe_timer, answer_timer;
    uint64_t answer_due_ms;
    struct loop_message work; /* goes on with the above */
    bool work_posted;

    struct loop_timer close_timer;
    uint64_t close_number; /* of the flush after which the connection may end */
    void (*closed)(void *context);
    void *closed_context;
};

static struct nats_bus *nats_bus_of(struct bus *bus) {
    return container_of(bus, struct nats_bus, bus);
}

/* --- work in slices --- */

static void post_work(struct nats_bus *bus) {
    if (bus->work_posted)
        return;
    bus->work_posted = true;
    loop_post(bus->loop, &bus->work);
    loop_wake(bus->loop);
}

static void ask_subject(struct nats_bus *bus, struct nats_subject *subject) {
    subject->link = nats_link_id(bus->link);
    subject->number = bus->flush_number;
    list_append(&bus->asked, &subject->asked_place);
    nats_link_subscribe(bus->link, &subject->interest);
    bus->flush_wanted = true;
}

static void ask_subject_anew(struct nats_subject *subject, void *context) {
    struct nats_bus *bus = context;

    if (subject->link != nats_link_id(bus->link))
        ask_subject(bus, subject);
}

static void tell_in_force(struct nats_bus *bus) {
    unsigned told = 0;

    while (!list_empty(&bus->asked)) {
        struct nats_subject *subject = container_of(bus->asked.next, struct nats_subject, asked_place);
        if (subject->number > bus->flushed_number)
            return;
        if (told++ == NATS_SUBJECTS_PER_TURN) {
            post_work(bus);
            return;
        }
        list_remove(&subject->asked_place);
        bus->bus.events.in_force(bus->bus.events.context, nats_subject_text(subject));
    }
}

static void begin_nats_flush(struct nats_bus *bus) {
    bus->flush_wanted = false;
    bus->flush_begun = true;
    nats_link_flush(bus->link, bus->flush_number++, false);
    bus->answer_due_ms = loop_now_ms(bus->loop) + NATS_ANSWER_MS;
    loop_timer_set(bus->loop, &bus->answer_timer, NATS_ANSWER_MS);
}

static void do_nats_work(struct loop *loop, struct loop_message *message) {
    struct nats_bus *bus = container_of(message, struct nats_bus, work);

    (void)loop;
    bus->work_posted = false;
    if (bus->link == NULL)
        return;
    if (bus->resubscribing) {
        bus->resubscribing =
            nats_subjects_visit(bus->subjects, &bus->resubscribe_at, NATS_SUBJECTS_PER_TURN, ask_subject_anew, bus);
        if (bus->resubscribing)
            post_work(bus);
    }
    if (bus->flush_wanted && !bus->flush_begun)
        begin_nats_flush(bus);
    tell_in_force(bus);
    nats_link_wake(bus->threads);
}

/* --- the connection --- */

static void begin_attempt(struct nats_bus *bus) {
    /* Only the first connection of all may take as long as the setting says. */
    uint32_t timeout_ms = bus->was_up || bus->told_down ? NATS_ATTEMPT_MS : bus->settings.connection_timeout_ms;

    bus->attempting = true;
    bus->next_server %= bus->servers_count;
    nats_link_connect(bus->threads, &bus->servers[bus->next_server], timeout_ms);
}

static void on_retry_timer(struct loop_timer *timer) {
    begin_attempt(container_of(timer, struct nats_bus, retry_timer));
}

static void begin_pause(struct nats_bus *bus) {
    bus->attempts_in_round = 0;
    bus->pause_ms = backoff_next_ms(bus->pause_ms, NATS_PAUSE_FIRST_MS, NATS_PAUSE_LAST_MS);
    loop_timer_set(bus->loop, &bus->retry_timer, backoff_spread_ms(bus->pause_ms));
}

static void finish_closing(struct nats_bus *bus) {
    if (bus->closed == NULL || bus->link != NULL || bus->attempting || bus->closing_links > 0)
        return;
    loop_timer_end(bus->loop, &bus->close_timer);
    nats_threads_drop_messages(bus->threads);
    bus->closed(bus->closed_context);
    bus->closed = NULL;
}

static void drop_link(struct nats_bus *bus) {
    nats_link_close(bus->link);
    bus->link = NULL;
    bus->closing_links++;
    bus->flush_begun = bus->flush_wanted = bus->resubscribing = false;
    loop_timer_end(bus->loop, &bus->answer_timer);
    loop_timer_end(bus->loop, &bus->probe_timer);
    while (!list_empty(&bus->asked))
        list_remove(bus->asked.next);
}

static void lose_link(struct nats_bus *bus, const char *why) {
    drop_link(bus);
    if (bus->closing)
        return;
    if (loop_now_ms(bus->loop) - bus->up_since_ms >= NATS_STABLE_MS)
        bus->pause_ms = 0;
    bus->next_server++;
    begin_pause(bus);
    bus->told_down = true;
    bus->bus.events.down(bus->bus.events.context, why);
}

static void on_probe_timer(struct loop_timer *timer) {
    struct nats_bus *bus = container_of(timer, struct nats_bus, probe_timer);

    loop_timer_set(bus->loop, timer, NATS_PROBE_MS);
    if (!bus->flush_begun) {
        begin_nats_flush(bus);
        nats_link_wake(bus->threads);
    }
}

static void on_answer_timer(struct loop_timer *timer) {
    struct nats_bus *bus = container_of(timer, struct nats_bus, answer_timer);
    struct error error;

    if (loop_now_ms(bus->loop) > bus->answer_due_ms + NATS_LATE_MS) {
        /* This process stood still: the answer may be here, unread. */
        bus->answer_due_ms = loop_now_ms(bus->loop) + NATS_LATE_MS;
        loop_timer_set(bus->loop, timer, NATS_LATE_MS);
        return;
    }
    error_set(&error, "NATS at %s: no answer for %d ms", nats_link_server(bus->link), NATS_ANSWER_MS);
    lose_link(bus, error.text);
}

/* --- what comes from the other threads --- */

static void forget_discovered(struct nats_bus *bus) {
    while (bus->servers_count > bus->settings.count)
        nats_address_dispose(&bus->servers[--bus->servers_count]);
}

static bool knows_server(const struct nats_bus *bus, const struct nats_address *address) {
    for (size_t i = 0; i < bus->servers_count; i++)
        if (bus->servers[i].port == address->port && strcmp(bus->servers[i].host, address->host) == 0)
            return true;
    return false;
}

/* Takes the servers that one of a cluster names: when those of the settings are gone, they serve. */
static void take_discovered(struct nats_bus *bus, const struct nats_info *info) {
    const bool tls = bus->servers[bus->next_server].tls;

    forget_discovered(bus);
    for (size_t i = 0; i < info->others_count; i++) {
        struct nats_address address;
        if (!nats_address_parse(&address, slice_of(info->others[i]), NULL))
            continue;
        if (knows_server(bus, &address)) {
            nats_address_dispose(&address);
            continue;
        }
        address.tls = tls;
        bus->servers[bus->servers_count++] = address;
    }
}

static void begin_link(struct nats_bus *bus, struct nats_link *link) {
    const struct nats_info *info = nats_link_info(link);

    bus->link = link;
    bus->max_message_bytes = info->max_payload;
    bus->in_cluster = info->in_cluster;
    bus->was_up = true;
    bus->attempts_in_round = 0;
    bus->up_since_ms = loop_now_ms(bus->loop);
    bus->flushed_number = bus->flush_number - 1;
    bus->resubscribing = true;
    bus->resubscribe_at = 0;
    take_discovered(bus, info);
    nats_link_open(link);
    loop_timer_set(bus->loop, &bus->probe_timer, NATS_PROBE_MS);
    post_work(bus);
    bus->bus.events.up(bus->bus.events.context);
}

static void on_nats_connected(void *context, struct nats_link *link, const struct error *error) {
    struct nats_bus *bus = context;

    bus->attempting = false;
    if (bus->closing) {
        if (link != NULL) {
            bus->closing_links++;
            nats_link_close(link);
        }
        finish_closing(bus);
        return;
    }
    if (link != NULL) {
        begin_link(bus, link);
        return;
    }
    bus->next_server++;
    if (++bus->attempts_in_round < bus->servers_count) {
        begin_attempt(bus);
        return;
    }
    begin_pause(bus);
    if (!bus->told_down) {
        bus->told_down = true;
        bus->bus.events.down(bus->bus.events.context, error->text);
    }
}

static void on_nats_lost(void *context, uint64_t link, const char *why) {
    struct nats_bus *bus = context;

    if (bus->link != NULL && nats_link_id(bus->link) == link)
        lose_link(bus, why);
}

static void on_nats_flushed(void *context, uint64_t link, uint64_t number) {
    struct nats_bus *bus = context;

    if (bus->link == NULL || nats_link_id(bus->link) != link)
        return;
    if (bus->closing) {
        if (number == bus->close_number)
            drop_link(bus);
        return;
    }
    bus->flushed_number = number;
    bus->flush_begun = false;
    loop_timer_end(bus->loop, &bus->answer_timer);
    if (bus->flush_wanted)
        begin_nats_flush(bus);
    tell_in_force(bus);
    nats_link_wake(bus->threads);
}

static void on_nats_bus_message(void *context, struct bus_message *message) {
    struct nats_bus *bus = context;

    bus->bus.events.message(bus->bus.events.context, message);
}

static void on_nats_closed(void *context) {
    struct nats_bus *bus = context;

    bus->closing_links--;
    finish_closing(bus);
}

static void free_subject(struct nats_interest *interest) {
    free(container_of(interest, struct nats_subject, interest));
}

/* --- the driver --- */

static void nats_bus_start(struct bus *base) {
    begin_attempt(nats_bus_of(base));
}

static bool nats_bus_publish(struct bus *base, struct slice subject, struct bus_bytes *bytes) {
    struct nats_bus *bus = nats_bus_of(base);

    if (bus->link == NULL || bus->closing)
        return false;
    if (bytes->length > bus->max_message_bytes && bus->max_message_bytes > 0)
        log_warning("cluster",
                    "a message of %zu bytes is not sent: NATS at %s takes no more than %zu (its max_payload)",
                    bytes->length, nats_link_server(bus->link), bus->max_message_bytes);
    else
        nats_link_publish(bus->link, subject, bytes);
    return true;
}

static void nats_bus_flush(struct bus *base) {
    struct nats_bus *bus = nats_bus_of(base);

    if (bus->link != NULL)
        nats_link_wake(bus->threads);
}

static void nats_bus_subscribe(struct bus *base, struct slice text) {
    struct nats_bus *bus = nats_bus_of(base);
    struct nats_subject *subject = nats_subjects_add(bus->subjects, text);

    if (bus->link == NULL)
        return;
    ask_subject(bus, subject);
    post_work(bus); /* one flush for all subscriptions of the turn */
}

static void nats_bus_unsubscribe(struct bus *base, struct slice text) {
    struct nats_bus *bus = nats_bus_of(base);
    struct nats_subject *subject = nats_subjects_find(bus->subjects, text);

    if (subject == NULL)
        return;
    nats_subjects_remove(bus->subjects, subject);
    nats_link_forget(bus->threads, &subject->interest);
    nats_link_wake(bus->threads);
}

static void nats_bus_state(const struct bus *base, struct bus_state *state) {
    const struct nats_bus *bus = container_of(base, struct nats_bus, bus);

    *state = (struct bus_state){
        .up = bus->link != NULL,
        .waiting_bytes = nats_threads_unsent_bytes(bus->threads),
        .max_message_bytes = bus->max_message_bytes,
        .needs_answers = bus->in_cluster,
    };
}

static void on_close_timer(struct loop_timer *timer) {
    struct nats_bus *bus = container_of(timer, struct nats_bus, close_timer);

    if (bus->link != NULL)
        drop_link(bus);
}

static void nats_bus_close(struct bus *base, uint64_t within_ms, void (*closed)(void *context), void *context) {
    struct nats_bus *bus = nats_bus_of(base);

    bus->closing = true;
    bus->closed = closed;
    bus->closed_context = context;
    loop_timer_end(bus->loop, &bus->retry_timer);
    nats_link_cancel(bus->threads);
    if (bus->link != NULL) {
        bus->close_number = bus->flush_number++;
        nats_link_flush(bus->link, bus->close_number, true);
        nats_link_wake(bus->threads);
        loop_timer_set(bus->loop, &bus->close_timer, within_ms);
    }
    finish_closing(bus);
}

static void forget_subject(struct nats_subject *subject, void *context) {
    nats_link_forget(context, &subject->interest);
}

static void nats_bus_destroy(struct bus *base) {
    struct nats_bus *bus = nats_bus_of(base);

    if (bus->link != NULL)
        nats_link_close(bus->link);
    nats_subjects_destroy(bus->subjects, forget_subject, bus->threads);
    nats_threads_destroy(bus->threads);
    forget_discovered(bus);
    free(bus->servers);
    nats_settings_dispose(&bus->settings);
    free(bus);
}

static struct bus *nats_bus_create(struct loop *loop, const struct config *config, const struct bus_events *events,
                                   struct error *error) {
    struct nats_bus *bus = alloc_zero(sizeof *bus);
    const struct nats_callbacks callbacks = {
        on_nats_connected, on_nats_lost, on_nats_flushed, on_nats_bus_message, on_nats_closed, free_subject, bus};

    if (nats_settings_read(&bus->settings, config, error))
        bus->threads = nats_threads_create(loop, &bus->settings, &callbacks, error);
    if (bus->threads == NULL) {
        nats_settings_dispose(&bus->settings);
        free(bus);
        return NULL;
    }
    bus->bus = (struct bus){&nats_bus_driver, *events};
    bus->loop = loop;
    bus->subjects = nats_subjects_create();
    bus->servers = alloc_array(NULL, bus->settings.count + NATS_OTHERS_MAX, sizeof *bus->servers);
    memcpy(bus->servers, bus->settings.servers, bus->settings.count * sizeof *bus->servers);
    bus->servers_count = bus->settings.count;
    random_bytes(&bus->next_server, sizeof bus->next_server); /* nodes spread over the servers */
    list_init(&bus->asked);
    bus->flush_number = 1;
    bus->work.handle = do_nats_work;
    bus->retry_timer.fire = on_retry_timer;
    bus->probe_timer.fire = on_probe_timer;
    bus->answer_timer.fire = on_answer_timer;
    bus->close_timer.fire = on_close_timer;
    return &bus->bus;
}

const struct bus_driver nats_bus_driver = {
    .name = "nats",
    .create = nats_bus_create,
    .start = nats_bus_start,
    .publish = nats_bus_publish,
    .flush = nats_bus_flush,
    .subscribe = nats_bus_subscribe,
    .unsubscribe = nats_bus_unsubscribe,
    .state = nats_bus_state,
    .close = nats_bus_close,
    .destroy = nats_bus_destroy,
};
