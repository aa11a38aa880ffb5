/* The roster: several nodes that talk over links which lose messages, against a model of what webhooks are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/hash.h"
#include "cluster/roster/roster.h"

#define NODES 4
#define CHANNELS 12
#define USERS 8
#define TEXT_MAX 24
/* Of so many messages one is lost: of none in a test. */
#define LOSE_NOTHING 1000000

static const struct slice app = SLICE_INIT("app");

/* An item on its way; texts are copied. */
struct parcel {
    struct parcel *next;
    struct roster_item item;
    char channel[TEXT_MAX], user[TEXT_MAX];
};

/* A numbered batch on its way, as roster_reports.c makes them; without items: the last number once more. */
struct batch {
    struct batch *next;
    uint64_t number;
    bool begins;
    struct parcel *first, **last;
};

/* The side of both nodes of a way on which batches are lost. */
struct line {
    struct batch *open; /* not sent yet */
    bool urgent;
    uint64_t due_ms, sent, repeated;
    struct batch *flying, **flying_last;
    uint64_t received, asked_ms;
    bool gap, asked;
};

/* From one node to another, in order. After a loss nothing arrives until everything was said anew. */
struct way {
    struct parcel *first, **last;
    bool lost;
    struct line line; /* of a world with losses */
};

struct world;

struct peer {
    struct world *world;
    unsigned place;
    struct roster *roster;
    struct node_id id;
    bool alive;
    bool there[CHANNELS][USERS];
    unsigned connections[CHANNELS]; /* users of it */
    uint64_t stalled_ms;            /* its thread does not run until then */
    unsigned repeats;
    uint64_t repeat_ms;
};

struct world {
    struct peer peers[NODES];
    struct way ways[NODES][NODES];
    uint64_t now_ms;
    /* What webhooks were told last. */
    bool told[CHANNELS][USERS], told_occupied[CHANNELS];
    uint32_t told_count[CHANNELS];
    unsigned events, doubles;
    bool strict;          /* a double is an error at once, and a member of a channel that is not occupied */
    unsigned lose_one_in; /* 0: it is no world with losses */
    bool stalls;
};

/* A node numbers the others in its own order: 0 is itself. */
static unsigned number_of(unsigned self, unsigned other) {
    return other == self ? 0 : other < self ? other + 1 : other;
}

static unsigned place_of(unsigned self, unsigned number) {
    return number == 0 ? self : number <= self ? number - 1 : number;
}

static void keep_text(struct slice *text, char copy[TEXT_MAX]) {
    memcpy(copy, text->data != NULL ? text->data : "", text->length);
    text->data = copy;
}

static struct parcel *pack_item(const struct roster_item *item) {
    struct parcel *parcel = alloc_zero(sizeof *parcel);

    parcel->item = *item;
    parcel->item.app = app;
    keep_text(&parcel->item.channel, parcel->channel);
    keep_text(&parcel->item.user, parcel->user);
    return parcel;
}

static void free_batch(struct batch *batch) {
    while (batch != NULL && batch->first != NULL) {
        struct parcel *next = batch->first->next;
        free(batch->first);
        batch->first = next;
    }
    free(batch);
}

static struct batch *create_batch(void) {
    struct batch *batch = alloc_zero(sizeof *batch);

    batch->last = &batch->first;
    return batch;
}

/* True if the next message of a world with losses is one of those. */
static bool is_next_lost(const struct world *world) {
    return (unsigned)rand() % world->lose_one_in == 0;
}

static void send_batch(const struct world *world, struct line *line, struct batch *batch) {
    batch->number = line->sent += batch->first != NULL;
    if (is_next_lost(world)) {
        free_batch(batch);
        return;
    }
    *line->flying_last = batch;
    line->flying_last = &batch->next;
}

static void send_open_batch(const struct world *world, struct line *line) {
    struct batch *batch = line->open;

    line->open = NULL;
    line->urgent = false;
    if (batch != NULL)
        send_batch(world, line, batch);
}

static void add_to_batch(const struct world *world, struct line *line, struct parcel *parcel) {
    enum roster_item_type type = parcel->item.type;

    if (type == ROSTER_ALL)
        send_open_batch(world, line);
    if (line->open == NULL) {
        line->open = create_batch();
        line->due_ms = world->now_ms + 50;
    }
    line->open->begins = line->open->begins || type == ROSTER_ALL;
    line->urgent = line->urgent || type == ROSTER_TOLD || type == ROSTER_UNTOLD;
    *line->open->last = parcel;
    line->open->last = &parcel->next;
}

static void send_parcel(void *context, unsigned node, const struct roster_item *item) {
    struct peer *peer = context;
    struct way *way = &peer->world->ways[peer->place][place_of(peer->place, node)];
    struct parcel *parcel = pack_item(item);

    if (peer->world->lose_one_in != 0) {
        add_to_batch(peer->world, &way->line, parcel);
        return;
    }
    *way->last = parcel;
    way->last = &parcel->next;
}

static unsigned number_in(struct slice text, size_t skip) {
    return (unsigned)strtoul(text.data + skip, NULL, 10);
}

static void note_told(struct world *world, bool *told, bool there) {
    world->doubles += *told == there;
    if (world->strict)
        assert_int_not_equal(*told, there);
    *told = there;
}

/* Members come after their channel is occupied, and leave before it is vacated. */
static void check_order(const struct world *world, unsigned channel, const struct roster_event *event) {
    if (event->kind == ROSTER_JOINED)
        assert_true(world->told_occupied[channel]);
    for (unsigned user = 0; user < USERS && event->kind == ROSTER_VACATED; user++)
        assert_false(world->told[channel][user]);
}

static void hear_event(void *context, const struct roster_event *event) {
    struct peer *peer = context;
    struct world *world = peer->world;
    char name[TEXT_MAX] = "", user[TEXT_MAX] = "";
    unsigned channel;

    memcpy(name, event->channel.data, event->channel.length);
    memcpy(user, event->user.length != 0 ? event->user.data : "", event->user.length);
    channel = number_in((struct slice){name, TEXT_MAX}, 1);
    world->events++;
    if (world->lose_one_in != 0)
        check_order(world, channel, event);
    switch (event->kind) {
    case ROSTER_OCCUPIED:
    case ROSTER_VACATED:
        note_told(world, &world->told_occupied[channel], event->kind == ROSTER_OCCUPIED);
        break;
    case ROSTER_JOINED:
    case ROSTER_LEFT:
        note_told(world, &world->told[channel][number_in((struct slice){user, TEXT_MAX}, 1)],
                  event->kind == ROSTER_JOINED);
        break;
    case ROSTER_COUNTED:
        world->told_count[channel] = event->count;
        break;
    }
}

static void clear_way(struct way *way) {
    while (way->first != NULL) {
        struct parcel *next = way->first->next;
        free(way->first);
        way->first = next;
    }
    way->last = &way->first;
    way->lost = false;
    while (way->line.flying != NULL) {
        struct batch *next = way->line.flying->next;
        free_batch(way->line.flying);
        way->line.flying = next;
    }
    free_batch(way->line.open);
    way->line = (struct line){.flying_last = &way->line.flying};
}

/* Every live node learns which there are. */
static void tell_nodes(struct world *world, uint64_t forget_places) {
    for (unsigned self = 0; self < NODES; self++) {
        struct node_id ids[ROSTER_NODES] = {0};
        uint64_t alive = 0, forget = 0;

        for (unsigned place = 0; place < NODES; place++) {
            ids[number_of(self, place)] = world->peers[place].id;
            alive |= (uint64_t)world->peers[place].alive << number_of(self, place);
            forget |= (forget_places >> place & 1) << number_of(self, place);
        }
        if (world->peers[self].alive)
            roster_set_nodes(world->peers[self].roster, alive, ids, forget & ~UINT64_C(1), world->now_ms);
    }
}

static uint64_t last_run; /* of a process: part of its id */

static void start_peer(struct world *world, unsigned place) {
    uint64_t run = ++last_run;
    struct peer *peer = &world->peers[place];
    const struct roster_hooks hooks = {send_parcel, hear_event, peer};

    *peer =
        (struct peer){.world = world, .place = place, .alive = true, .id = {UINT64_C(0x9e3779b97f4a7c15) * run, run}};
    peer->roster = roster_create(&hooks);
}

static void stop_peer(struct world *world, unsigned place) {
    for (unsigned other = 0; other < NODES; other++) {
        clear_way(&world->ways[place][other]);
        clear_way(&world->ways[other][place]);
    }
    roster_destroy(world->peers[place].roster);
    world->peers[place] = (struct peer){.world = world, .place = place};
}

static struct world *world_create(unsigned peers) {
    struct world *world = alloc_zero(sizeof *world);

    world->now_ms = 1000000;
    for (unsigned from = 0; from < NODES; from++)
        for (unsigned to = 0; to < NODES; to++)
            clear_way(&world->ways[from][to]);
    for (unsigned place = 0; place < peers; place++)
        start_peer(world, place);
    tell_nodes(world, 0);
    return world;
}

static void world_destroy(struct world *world) {
    for (unsigned place = 0; place < NODES; place++)
        if (world->peers[place].alive)
            stop_peer(world, place);
    free(world);
}

static void arrive(struct world *world, unsigned from, unsigned to) {
    struct way *way = &world->ways[from][to];
    struct parcel *parcel = way->first;

    way->first = parcel->next;
    if (way->first == NULL)
        way->last = &way->first;
    if (way->lost && parcel->item.type == ROSTER_ALL)
        way->lost = false;
    if (!way->lost && world->peers[to].alive)
        roster_take(world->peers[to].roster, number_of(to, from), &parcel->item, world->now_ms);
    free(parcel);
}

/* Lets time pass: everything that is under way arrives, in any order between two ways. */
static void pass_time(struct world *world, uint64_t ms) {
    for (uint64_t end = world->now_ms + ms; world->now_ms < end; world->now_ms += 10) {
        for (unsigned place = 0; place < NODES; place++)
            if (world->peers[place].alive)
                while (roster_run(world->peers[place].roster, world->now_ms) <= world->now_ms)
                    continue;
        for (unsigned from = 0; from < NODES; from++)
            for (unsigned to = 0; to < NODES; to++)
                while (world->ways[from][to].first != NULL && rand() % 8 != 0)
                    arrive(world, from, to);
    }
}

/* --- a world with losses: batches as in roster_reports.c --- */

static void ask_for_all(struct world *world, struct line *line) {
    if (line->gap && world->now_ms < line->asked_ms + 1000)
        return;
    line->gap = true;
    line->asked_ms = world->now_ms;
    line->asked = line->asked || !is_next_lost(world);
}

static bool follows(struct line *line, const struct batch *batch) {
    bool next = batch->number == line->received + (batch->first != NULL);

    if (batch->begins)
        line->gap = false;
    else if (!next || line->gap)
        return false;
    line->received = batch->number;
    return true;
}

static void take_first_batch(struct world *world, unsigned from, unsigned to) {
    struct line *line = &world->ways[from][to].line;
    struct batch *batch = line->flying;

    line->flying = batch->next;
    if (line->flying == NULL)
        line->flying_last = &line->flying;
    if (!follows(line, batch))
        ask_for_all(world, line);
    else
        for (struct parcel *parcel = batch->first; parcel != NULL; parcel = parcel->next)
            roster_take(world->peers[to].roster, number_of(to, from), &parcel->item, world->now_ms);
    free_batch(batch);
}

static void send_due_batches(struct world *world, struct peer *peer) {
    for (unsigned to = 0; to < NODES; to++) {
        struct line *line = &world->ways[peer->place][to].line;

        if (line->open != NULL && (line->urgent || line->due_ms <= world->now_ms))
            send_open_batch(world, line);
    }
}

static void repeat_numbers(struct world *world, struct peer *peer) {
    bool each = ++peer->repeats % 12 == 0;

    for (unsigned to = 0; to < NODES; to++) {
        struct line *line = &world->ways[peer->place][to].line;

        if (world->ways[to][peer->place].line.gap)
            ask_for_all(world, &world->ways[to][peer->place].line);
        if (line->open != NULL || line->sent == 0 || (!each && line->repeated == line->sent))
            continue;
        line->repeated = line->sent;
        send_batch(world, line, create_batch());
    }
}

/* A turn of a node: all messages that wait, then its timers. */
static void run_turn(struct world *world, struct peer *peer) {
    for (unsigned from = 0; from < NODES; from++) {
        struct line *in = &world->ways[from][peer->place].line, *out = &world->ways[peer->place][from].line;

        while (in->flying != NULL)
            take_first_batch(world, from, peer->place);
        if (out->asked)
            roster_tell_all(peer->roster, UINT64_C(1) << number_of(peer->place, from), world->now_ms);
        out->asked = false;
    }
    while (roster_run(peer->roster, world->now_ms) <= world->now_ms)
        continue;
    if (world->now_ms >= peer->repeat_ms) {
        repeat_numbers(world, peer);
        peer->repeat_ms = world->now_ms + 5000;
    }
    send_due_batches(world, peer);
}

/* Lets time pass. Nodes that stall take several batches in one turn. */
static void pass_time_with_losses(struct world *world, uint64_t ms) {
    for (uint64_t end = world->now_ms + ms; world->now_ms < end; world->now_ms += 10)
        for (unsigned place = 0; place < NODES; place++) {
            struct peer *peer = &world->peers[place];

            if (!peer->alive || world->now_ms < peer->stalled_ms)
                continue;
            run_turn(world, peer);
            if (world->stalls && rand() % 20 == 0)
                peer->stalled_ms = world->now_ms + 10 * ((uint64_t)rand() % 30);
        }
}

static void change(struct world *world, unsigned place, unsigned channel, unsigned user, bool there) {
    struct peer *peer = &world->peers[place];
    char name[TEXT_MAX], id[TEXT_MAX];

    if (!peer->alive || peer->there[channel][user] == there)
        return;
    snprintf(name, sizeof name, "c%u", channel);
    snprintf(id, sizeof id, "u%u", user);
    peer->there[channel][user] = there;
    if (there && peer->connections[channel]++ == 0)
        roster_own_change(peer->roster, app, slice_of(name), SLICE(""), true, world->now_ms);
    roster_own_change(peer->roster, app, slice_of(name), slice_of(id), there, world->now_ms);
    if (!there && --peer->connections[channel] == 0)
        roster_own_change(peer->roster, app, slice_of(name), SLICE(""), false, world->now_ms);
    roster_own_count(peer->roster, app, slice_of(name), peer->connections[channel], world->now_ms);
}

static struct roster_size size_of_roster(const struct roster *roster) {
    struct roster_size size;

    roster_read_size(roster, &size);
    return size;
}

static void check_told(const struct world *world) {
    for (unsigned channel = 0; channel < CHANNELS; channel++) {
        uint32_t count = 0;

        for (unsigned user = 0; user < USERS; user++) {
            bool there = false;

            for (unsigned place = 0; place < NODES; place++)
                there = there || world->peers[place].there[channel][user];
            assert_int_equal(world->told[channel][user], there);
        }
        for (unsigned place = 0; place < NODES; place++)
            count += world->peers[place].connections[channel];
        assert_int_equal(world->told_occupied[channel], count != 0);
        assert_int_equal(world->told_count[channel], count);
    }
}

static void change_at_random(struct world *world, unsigned changes, unsigned step_ms) {
    for (unsigned i = 0; i < changes; i++) {
        change(world, (unsigned)rand() % NODES, (unsigned)rand() % CHANNELS, (unsigned)rand() % USERS, rand() % 2 == 0);
        if (step_ms != 0 && rand() % 4 == 0)
            pass_time(world, (uint64_t)rand() % step_ms * 10);
    }
}

static void test_a_node_alone_tells_who_comes_and_leaves(void **state) {
    struct world *world = world_create(1);

    (void)state;
    world->strict = true;
    change(world, 0, 1, 1, true);
    assert_true(world->told[1][1] && world->told_occupied[1]);
    assert_int_equal(world->events, 3); /* with the count */
    change(world, 0, 1, 1, false);
    pass_time(world, 2900);
    assert_true(world->told[1][1]);
    change(world, 0, 1, 1, true); /* back within the grace: nothing is told */
    pass_time(world, 5000);
    assert_int_equal(world->events, 5);
    change(world, 0, 1, 1, false);
    pass_time(world, 3100);
    check_told(world);
    world_destroy(world);
}

static void test_events_come_once_from_several_nodes(void **state) {
    (void)state;
    for (unsigned seed = 0; seed < 20; seed++) {
        struct world *world = world_create(NODES);

        srand(seed);
        pass_time(world, 2000);
        world->strict = true;
        change_at_random(world, 400, 30);
        pass_time(world, 5000);
        check_told(world);
        assert_true(world->events > 50);
        world_destroy(world);
    }
}

static void test_nodes_that_come_and_leave_cause_no_event_of_their_own(void **state) {
    (void)state;
    for (unsigned seed = 0; seed < 40; seed++) {
        struct world *world = world_create(2);

        srand(seed);
        pass_time(world, 1500); /* what happens before a new sender is settled may be lost */
        world->strict = true;
        for (unsigned round = 0; round < 6; round++) {
            unsigned place = 2 + (unsigned)rand() % 2;

            change_at_random(world, 60, 10);
            pass_time(world, 300);
            if (!world->peers[place].alive) {
                start_peer(world, place);
                tell_nodes(world, UINT64_C(1) << place);
            } else {
                for (unsigned channel = 0; channel < CHANNELS; channel++)
                    for (unsigned user = 0; user < USERS; user++)
                        change(world, place, channel, user, false);
                while (roster_leave(world->peers[place].roster, world->now_ms))
                    continue;
                pass_time(world, 500); /* all of it arrives */
                stop_peer(world, place);
                tell_nodes(world, UINT64_C(1) << place);
            }
            pass_time(world, 1500);
        }
        pass_time(world, 6000);
        check_told(world);
        world_destroy(world);
    }
}

static void test_what_a_dead_node_had_is_told_as_gone_once(void **state) {
    (void)state;
    for (unsigned seed = 0; seed < 40; seed++) {
        struct world *world = world_create(3);
        unsigned place = seed % 3;

        srand(seed);
        pass_time(world, 1500);
        world->strict = true;
        change_at_random(world, 200, 10);
        pass_time(world, 5000); /* what a dying node has not told may be lost: here it has told all */
        check_told(world);
        stop_peer(world, place);
        tell_nodes(world, UINT64_C(1) << place);
        pass_time(world, 5000);
        check_told(world);
        change_at_random(world, 100, 10);
        pass_time(world, 5000);
        check_told(world);
        world_destroy(world);
    }
}

static bool is_there(const struct world *world, unsigned channel, unsigned user) {
    for (unsigned place = 0; place < NODES; place++)
        if (world->peers[place].there[channel][user])
            return true;
    return false;
}

/* Some users leave, one in so many. */
static void leave_at_random(struct world *world, unsigned one_in) {
    for (unsigned place = 0; place < NODES; place++)
        for (unsigned channel = 0; channel < CHANNELS; channel++)
            for (unsigned user = 0; user < USERS; user++)
                if ((unsigned)rand() % one_in == 0)
                    change(world, place, channel, user, false);
}

/* What live nodes had is told as it is. */
static void check_told_of(const struct world *world, bool had[CHANNELS][USERS]) {
    for (unsigned channel = 0; channel < CHANNELS; channel++)
        for (unsigned user = 0; user < USERS; user++)
            if (had[channel][user])
                assert_int_equal(world->told[channel][user], is_there(world, channel, user));
}

/* The sender and the deputy of some channels die at once: what they alone had is told by nobody. */
static void test_without_word_from_the_sender_before_nothing_that_is_there_is_told_twice(void **state) {
    (void)state;
    for (unsigned seed = 0; seed < 40; seed++) {
        struct world *world = world_create(4);
        unsigned first = seed % 4, second = (first + 1 + seed / 4 % 3) % 4;
        bool had[CHANNELS][USERS];

        srand(seed);
        pass_time(world, 12000);
        world->strict = true;
        change_at_random(world, 200, 10);
        pass_time(world, 5000);
        check_told(world);
        stop_peer(world, first);
        stop_peer(world, second);
        tell_nodes(world, UINT64_C(1) << first | UINT64_C(1) << second);
        for (unsigned channel = 0; channel < CHANNELS; channel++)
            for (unsigned user = 0; user < USERS; user++)
                had[channel][user] = is_there(world, channel, user);
        pass_time(world, 50 + seed % 2 * 500); /* who leaves before may be lost */
        leave_at_random(world, 3);             /* while the new senders wait */
        pass_time(world, 6000);
        check_told_of(world, had);
        leave_at_random(world, 1);
        pass_time(world, 6000);
        check_told_of(world, had);
        world_destroy(world);
    }
}

/* Breaks a way for a while: what was on it is gone. Then everything is said anew, as after a gap in the numbers. */
/* Nodes come one after the other, each before those that send are settled. */
static void test_what_comes_before_a_sender_is_settled_is_told_by_the_next_one(void **state) {
    (void)state;
    for (unsigned seed = 0; seed < 30; seed++) {
        struct world *world = world_create(2);

        srand(seed);
        world->strict = true;
        change_at_random(world, 40, 0);
        for (unsigned place = 2; place < NODES; place++) {
            pass_time(world, 300); /* all of it arrives */
            start_peer(world, place);
            tell_nodes(world, UINT64_C(1) << place);
        }
        pass_time(world, 6000);
        check_told(world);
        world_destroy(world);
    }
}

static void lose(struct world *world, unsigned from, unsigned to) {
    clear_way(&world->ways[from][to]);
    world->ways[from][to].lost = true;
}

static void test_a_loss_is_mended_when_all_is_said_anew(void **state) {
    (void)state;
    for (unsigned seed = 0; seed < 40; seed++) {
        struct world *world = world_create(3);

        srand(seed);
        pass_time(world, 12000); /* from then on a channel that was not known is a new one */
        for (unsigned round = 0; round < 4; round++) {
            unsigned from = (unsigned)rand() % 3, to = (from + 1 + (unsigned)rand() % 2) % 3;

            change_at_random(world, 50, 10);
            lose(world, from, to);
            change_at_random(world, 50, 10);
            roster_tell_all(world->peers[from].roster, UINT64_C(1) << number_of(from, to), world->now_ms);
            pass_time(world, 100);
        }
        pass_time(world, 6000);
        check_told(world);
        assert_int_equal(world->doubles, 0);
        world_destroy(world);
    }
}

static void change_in_a_world_with_losses(struct world *world, unsigned changes) {
    for (unsigned i = 0; i < changes; i++) {
        change(world, (unsigned)rand() % 3, (unsigned)rand() % 4, (unsigned)rand() % 4, rand() % 3 == 0);
        if (rand() % 4 == 0)
            pass_time_with_losses(world, (uint64_t)rand() % 20 * 10);
    }
}

static struct world *world_create_with_losses(unsigned seed, uint64_t settled_ms) {
    struct world *world;

    srand(seed);
    last_run = 100 * seed; /* decides which node sends for which channel */
    world = world_create(3);
    world->strict = true;
    world->lose_one_in = LOSE_NOTHING;
    pass_time_with_losses(world, settled_ms);
    world->lose_one_in = 10;
    world->stalls = true;
    return world;
}

/* Losses begin so long after the nodes came. */
static void lose_and_repair(unsigned seed, uint64_t settled_ms) {
    struct world *world = world_create_with_losses(seed, settled_ms);

    change_in_a_world_with_losses(world, 300);
    pass_time_with_losses(world, 300);
    world->lose_one_in = LOSE_NOTHING;
    pass_time_with_losses(world, 70000);
    check_told(world);
    world_destroy(world);
}

static void test_lost_batches_are_repaired(void **state) {
    (void)state;
    for (unsigned seed = 0; seed < 100; seed++)
        lose_and_repair(seed, 12000);
}

static void test_what_was_lost_soon_after_nodes_came_is_told(void **state) {
    (void)state;
    for (unsigned seed = 0; seed < 40; seed++)
        lose_and_repair(seed, 2000);
}

static void test_a_node_that_was_away_learns_what_was_told_meanwhile(void **state) {
    (void)state;
    for (unsigned seed = 0; seed < 40; seed++) {
        struct world *world = world_create(3);
        unsigned place = seed % 3;
        struct peer *peer = &world->peers[place];

        srand(seed);
        pass_time(world, 1500);
        world->strict = true;
        change_at_random(world, 150, 10);
        pass_time(world, 5000);
        /* The others have declared it dead, and it takes no message. */
        peer->alive = false;
        for (unsigned other = 0; other < NODES; other++) {
            clear_way(&world->ways[place][other]);
            clear_way(&world->ways[other][place]);
        }
        tell_nodes(world, UINT64_C(1) << place);
        change_at_random(world, 100, 10);
        pass_time(world, 10000);
        /* It returns under another id. */
        peer->alive = true;
        peer->id.high++;
        roster_was_away(peer->roster, world->now_ms);
        tell_nodes(world, UINT64_C(1) << place);
        pass_time(world, 6000);
        check_told(world);
        change_at_random(world, 100, 10);
        pass_time(world, 6000);
        check_told(world);
        world_destroy(world);
    }
}

static void test_a_user_who_comes_after_all_was_said_stays(void **state) {
    struct world *world = world_create(2);
    struct roster *roster = world->peers[0].roster;
    struct roster_item item = {.type = ROSTER_ADDED, .app = app, .user = SLICE("u1")};
    char name[TEXT_MAX];

    (void)state;
    world->strict = true;
    pass_time(world, 1500);
    roster_take(roster, 1, &(struct roster_item){.type = ROSTER_ALL}, world->now_ms);
    roster_take(roster, 1, &(struct roster_item){.type = ROSTER_ALL_END}, world->now_ms);
    for (unsigned channel = 0; channel < CHANNELS; channel++) { /* this node is the sender of some of them */
        snprintf(name, sizeof name, "c%u", channel);
        item.channel = slice_of(name);
        roster_take(roster, 1, &item, world->now_ms);
    }
    assert_true(world->events != 0);
    pass_time(world, 5000);
    for (unsigned channel = 0; channel < CHANNELS; channel++)
        world->events -= world->told[channel][1];
    assert_int_equal(world->events, 0); /* nobody was told to have left */
    world_destroy(world);
}

/* The word that a channel is vacated was lost. Then the sender told everything, and died. */
static void test_a_deputy_forgets_what_the_sender_has_not_named_as_told(void **state) {
    struct world *world = world_create(2);
    struct roster *roster = world->peers[0].roster;
    struct roster_item item = {.type = ROSTER_TOLD, .app = app, .user = SLICE("")};
    char name[TEXT_MAX];

    (void)state;
    pass_time(world, 1500);
    for (unsigned channel = 0; channel < CHANNELS; channel++) { /* this node is the deputy of some of them */
        snprintf(name, sizeof name, "c%u", channel);
        item.channel = slice_of(name);
        roster_take(roster, 1, &item, world->now_ms);
    }
    assert_true(size_of_roster(roster).channels != 0);
    roster_take(roster, 1, &(struct roster_item){.type = ROSTER_ALL}, world->now_ms);
    roster_take(roster, 1, &(struct roster_item){.type = ROSTER_ALL_END}, world->now_ms);
    pass_time(world, 100);
    assert_int_equal(size_of_roster(roster).channels, 0);
    stop_peer(world, 1);
    tell_nodes(world, 2);
    pass_time(world, 5000);
    assert_int_equal(world->events, 0);
    world_destroy(world);
}

static void test_without_other_nodes_leaving_tells_what_is_in_its_grace(void **state) {
    struct world *world = world_create(1);

    (void)state;
    change(world, 0, 0, 0, true);
    change(world, 0, 0, 0, false);
    while (roster_leave(world->peers[0].roster, world->now_ms))
        continue;
    check_told(world);
    world_destroy(world);
}

/* --- very many at once --- */

#define MANY (5 * ROSTER_DUE_AT_ONCE / 2)

static void count_event(void *context, const struct roster_event *event) {
    (void)event;
    ++*(unsigned *)context;
}

/* Makes a node that is alone, where very many channels are vacated at once. */
static struct roster *create_crowded(unsigned *events) {
    struct roster *roster = roster_create(&(struct roster_hooks){.tell = count_event, .context = events});
    const struct node_id ids[ROSTER_NODES] = {{1, 1}};
    char name[TEXT_MAX];

    *events = 0;
    roster_set_nodes(roster, 1, ids, 0, 1000000);
    while (roster_run(roster, 1000000) <= 1000000)
        ;
    for (unsigned there = 2; there-- > 0;)
        for (unsigned i = 0; i < MANY; i++) {
            snprintf(name, sizeof name, "c%u", i);
            roster_own_change(roster, app, slice_of(name), SLICE(""), there != 0, 1000000);
        }
    assert_int_equal(*events, MANY); /* all were occupied; what is vacated waits for its grace */
    return roster;
}

static void test_graces_that_end_at_once_end_in_many_calls(void **state) {
    uint64_t now_ms = 1000000 + ROSTER_GRACE_MS;
    unsigned events, before, calls = 0;
    struct roster *roster = create_crowded(&events);
    bool more = true;

    (void)state;
    for (; more; calls++) {
        before = events;
        more = roster_run(roster, now_ms) <= now_ms;
        assert_true(events - before <= ROSTER_DUE_AT_ONCE);
    }
    assert_int_equal(events, 2 * MANY);
    assert_true(calls >= 3);
    roster_destroy(roster);
}

static void test_leaving_ends_graces_in_many_calls(void **state) {
    unsigned events, before, calls = 0;
    struct roster *roster = create_crowded(&events);
    bool more = true;

    (void)state;
    for (; more; calls++) {
        before = events;
        more = roster_leave(roster, 1000000);
        assert_true(events - before <= ROSTER_DUE_AT_ONCE);
    }
    assert_int_equal(events, 2 * MANY);
    assert_true(calls >= 3);
    roster_destroy(roster);
}

/* --- its bound --- */

static void hear_nothing(void *context, unsigned node, const struct roster_item *item) {
    (void)context;
    (void)node;
    (void)item;
}

static void count_event_of_kind(void *context, const struct roster_event *event) {
    unsigned *counts = context;

    counts[event->kind]++;
}

static void change_numbered_user(struct roster *roster, unsigned user, bool there, uint64_t now_ms) {
    char id[TEXT_MAX];

    snprintf(id, sizeof id, "u%u", user);
    roster_own_change(roster, app, SLICE("c"), slice_of(id), there, now_ms);
}

static void test_users_without_room_are_counted_and_room_comes_back(void **state) {
    unsigned counts[ROSTER_COUNTED + 1] = {0}, users = 0;
    struct roster *roster = roster_create(&(struct roster_hooks){hear_nothing, count_event_of_kind, counts});
    uint64_t before, limit, now_ms = 1000;

    (void)state;
    budget_settle();
    before = budget_used(BUDGET_CLUSTER);
    budget_set_limit(16 * 1024 * 1024);
    limit = budget_kind_limit(BUDGET_CLUSTER);
    while (size_of_roster(roster).refused == 0) {
        change_numbered_user(roster, users++, true, now_ms);
        assert_true(users < 1000000 && budget_used(BUDGET_CLUSTER) <= limit);
    }
    assert_int_equal(size_of_roster(roster).users, users - 1);
    assert_int_equal(counts[ROSTER_JOINED], users - 1);
    assert_true(budget_used(BUDGET_CLUSTER) > limit - 1024);
    change_numbered_user(roster, 0, false, now_ms); /* one leaves, and the last one fits */
    while (roster_run(roster, now_ms += ROSTER_GRACE_MS) != UINT64_MAX)
        continue;
    change_numbered_user(roster, users - 1, true, now_ms);
    assert_int_equal(counts[ROSTER_LEFT], 1);
    assert_int_equal(counts[ROSTER_JOINED], users);
    assert_int_equal(size_of_roster(roster).refused, 1);
    roster_destroy(roster);
    assert_int_equal(budget_used(BUDGET_CLUSTER), before);
    budget_set_limit(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_node_alone_tells_who_comes_and_leaves),
        cmocka_unit_test(test_events_come_once_from_several_nodes),
        cmocka_unit_test(test_nodes_that_come_and_leave_cause_no_event_of_their_own),
        cmocka_unit_test(test_what_a_dead_node_had_is_told_as_gone_once),
        cmocka_unit_test(test_without_word_from_the_sender_before_nothing_that_is_there_is_told_twice),
        cmocka_unit_test(test_what_comes_before_a_sender_is_settled_is_told_by_the_next_one),
        cmocka_unit_test(test_a_loss_is_mended_when_all_is_said_anew),
        cmocka_unit_test(test_lost_batches_are_repaired),
        cmocka_unit_test(test_what_was_lost_soon_after_nodes_came_is_told),
        cmocka_unit_test(test_a_node_that_was_away_learns_what_was_told_meanwhile),
        cmocka_unit_test(test_a_user_who_comes_after_all_was_said_stays),
        cmocka_unit_test(test_users_without_room_are_counted_and_room_comes_back),
        cmocka_unit_test(test_a_deputy_forgets_what_the_sender_has_not_named_as_told),
        cmocka_unit_test(test_without_other_nodes_leaving_tells_what_is_in_its_grace),
        cmocka_unit_test(test_graces_that_end_at_once_end_in_many_calls),
        cmocka_unit_test(test_leaving_ends_graces_in_many_calls),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
