#include "cluster/roster_internal.h"

/* When a timer comes later than this, the process did not run: other nodes may have taken over, which it is about to
 * hear. */
#define LATE_MS 1000
#define AFTER_LATE_MS 2000

static const struct slice nobody = SLICE_INIT("");

/* --- saying --- */

void roster_say(struct roster *roster, unsigned node, const struct roster_channel *channel, enum roster_item_type type,
                struct slice user, uint64_t number) {
    if (node == 0 || node == NO_NODE)
        return;
    roster->hooks.say(
        roster->hooks.context, node,
        &(struct roster_item){
            .type = type, .app = roster_app(channel), .channel = roster_name(channel), .user = user, .number = number});
}

/* To those who must know what this node has. */
static void say_own(struct roster *roster, const struct roster_channel *channel, enum roster_item_type type,
                    struct slice user, uint64_t number) {
    roster_say(roster, channel->sender, channel, type, user, number);
    roster_say(roster, channel->deputy, channel, type, user, number);
}

static void tell_webhooks(struct roster *roster, const struct roster_channel *channel, enum roster_event_kind kind,
                          struct slice user, uint32_t count) {
    roster->hooks.tell(
        roster->hooks.context,
        &(struct roster_event){
            .kind = kind, .app = roster_app(channel), .channel = roster_name(channel), .user = user, .count = count});
}

/* --- what is there and what was told --- */

static void tell_user(struct roster *roster, struct roster_user *user, bool there) {
    struct slice id = roster_user_id(user);
    enum roster_event_kind kind;

    if (id.length == 0)
        kind = there ? ROSTER_OCCUPIED : ROSTER_VACATED;
    else
        kind = there ? ROSTER_JOINED : ROSTER_LEFT;
    user->told = there;
    roster_say(roster, user->channel->deputy, user->channel, there ? ROSTER_TOLD : ROSTER_UNTOLD, id, 0);
    tell_webhooks(roster, user->channel, kind, id, 0);
}

/* The order of those that are due in the same millisecond is the one in which they came. */
static void set_due(struct roster *roster, struct heap *heap, struct heap_node *node, uint64_t due_ms) {
    heap_set(heap, node, due_ms << 20 | (roster->serial++ & 0xfffff));
}

static bool is_sending(const struct roster *roster, const struct roster_channel *channel) {
    return channel->sender == 0 && channel->settled && !roster->away;
}

static void forget_unneeded(struct roster *roster, struct roster_user *user) {
    if (user->nodes == 0 && !user->told && user->grace.place == 0)
        roster_free_user(roster, user);
}

void roster_weigh(struct roster *roster, struct roster_user *user, uint64_t now_ms) {
    bool there = user->nodes != 0;

    if (is_sending(roster, user->channel)) {
        if (there == user->told)
            heap_unlink(&roster->graces, &user->grace);
        else if (there)
            tell_user(roster, user, true);
        else if (user->grace.place == 0)
            set_due(roster, &roster->graces, &user->grace, now_ms + ROSTER_GRACE_MS);
    }
    forget_unneeded(roster, user);
}

void roster_weigh_count(struct roster *roster, struct roster_channel *channel) {
    uint32_t count = 0;

    for (unsigned i = 0; i < channel->report_count; i++)
        count += channel->reports[i].count;
    if (!is_sending(roster, channel) || count == channel->told_count)
        return;
    channel->told_count = count;
    roster_say(roster, channel->deputy, channel, ROSTER_TOLD_COUNT, nobody, count);
    tell_webhooks(roster, channel, ROSTER_COUNTED, nobody, count);
}

void roster_weigh_all(struct roster *roster, struct roster_channel *channel, uint64_t now_ms) {
    struct roster_user *occupied = channel->occupied;
    struct list *next;

    if (occupied != NULL && occupied->nodes != 0)
        roster_weigh(roster, occupied, now_ms);
    for (struct list *at = channel->users.next; at != &channel->users; at = next) {
        next = at->next;
        roster_weigh(roster, container_of(at, struct roster_user, in_channel), now_ms);
    }
    if (channel->occupied != NULL && channel->occupied->nodes == 0)
        roster_weigh(roster, channel->occupied, now_ms);
    roster_weigh_count(roster, channel);
}

/* Without word from the sender before: what was there before is taken as told. */
static void take_known_as_told(struct roster_channel *channel) {
    if (channel->occupied != NULL && channel->occupied->known)
        channel->occupied->told = true;
    for (struct list *at = channel->users.next; at != &channel->users; at = at->next) {
        struct roster_user *user = container_of(at, struct roster_user, in_channel);

        user->told = user->told || user->known;
        user->known = false;
    }
    for (unsigned i = 0; i < channel->report_count && !channel->counted; i++)
        channel->told_count += channel->reports[i].count;
    channel->counted = false;
}

/* Says what was told, with the graces that run. */
static void say_told(struct roster *roster, unsigned node, const struct roster_user *user, uint64_t now_ms) {
    uint64_t due_ms = user->grace.key >> 20, left_ms = 0;

    if (user->grace.place != 0)
        left_ms = due_ms > now_ms ? due_ms - now_ms : 1;
    if (user->told)
        roster_say(roster, node, user->channel, ROSTER_TOLD_PART, roster_user_id(user), left_ms);
}

void roster_say_all_told(struct roster *roster, unsigned node, const struct roster_channel *channel, uint64_t now_ms) {
    roster_say(roster, node, channel, ROSTER_TOLD_ALL, nobody, 0);
    if (channel->occupied != NULL)
        say_told(roster, node, channel->occupied, now_ms);
    for (struct list *at = channel->users.next; at != &channel->users; at = at->next)
        say_told(roster, node, container_of(at, struct roster_user, in_channel), now_ms);
    roster_say(roster, node, channel, ROSTER_TOLD_COUNT, nobody, channel->told_count);
    roster_say(roster, node, channel, ROSTER_TOLD_ALL_END, nobody, 0);
}

void roster_settle(struct roster *roster, struct roster_channel *channel, uint64_t now_ms) {
    heap_unlink(&roster->settles, &channel->settles);
    channel->settled = true;
    if (channel->sender == 0) {
        roster_say_all_told(roster, channel->deputy, channel, now_ms);
        roster_weigh_all(roster, channel, now_ms);
    }
}

void roster_settle_later(struct roster *roster, struct roster_channel *channel, uint64_t now_ms) {
    channel->settled = false;
    set_due(roster, &roster->settles, &channel->settles, now_ms + ROSTER_HANDOVER_MS);
}

void roster_drop_node(struct roster *roster, struct roster_user *user, uint64_t nodes, uint64_t now_ms) {
    user->stale &= ~nodes;
    user->nodes &= ~nodes;
    roster_weigh(roster, user, now_ms);
}

/* --- what nodes report --- */

/* Finds or makes a channel for a report. A new one waits for the sender before if that has just changed. */
static struct roster_channel *channel_for_report(struct roster *roster, struct slice app, struct slice name,
                                                 bool is_set, uint64_t now_ms) {
    struct roster_channel *channel = roster_find_channel(roster, app, name);

    if (channel != NULL)
        return channel;
    channel = roster_make_channel(roster, app, name);
    if (channel == NULL)
        return NULL;
    channel->settled = true;
    if (roster->changed_ms != 0 && now_ms < roster->changed_ms + (is_set ? SETS_TOLD_MS : ROSTER_HANDOVER_MS) &&
        !roster_was_sender(roster, channel))
        roster_settle_later(roster, channel, now_ms);
    return channel;
}

static void add_to_user(struct roster *roster, struct roster_channel *channel, unsigned node, struct slice id,
                        bool was_there, uint64_t now_ms) {
    struct roster_user *user = roster_make_user(roster, channel, id);

    if (user == NULL)
        return;
    user->nodes |= UINT64_C(1) << node;
    user->stale &= ~(UINT64_C(1) << node);
    user->known = user->known || (was_there && !channel->settled);
    roster_weigh(roster, user, now_ms);
}

/* A user that nobody has heard of was there before the app had webhooks. */
static void take_from_user(struct roster *roster, struct roster_channel *channel, unsigned node, struct slice id,
                           uint64_t now_ms) {
    struct roster_user *user = roster_find_user(roster, channel, id);

    if (user == NULL && channel->sender == 0)
        user = roster_make_user(roster, channel, id);
    if (user == NULL)
        return;
    if (user->nodes == 0 && user->grace.place == 0)
        user->told = true;
    roster_drop_node(roster, user, UINT64_C(1) << node, now_ms);
}

static void change_user(struct roster *roster, struct roster_channel *channel, unsigned node, struct slice id,
                        bool added, uint64_t now_ms) {
    if (added)
        add_to_user(roster, channel, node, id, false, now_ms);
    else
        take_from_user(roster, channel, node, id, now_ms);
    roster_free_unused(roster, channel);
}

static void take_count(struct roster *roster, struct roster_channel *channel, unsigned node, uint32_t count) {
    struct roster_report *report = roster_make_report(channel, node);

    channel->counted = channel->counted || (!report->tells && !channel->settled);
    report->count = count;
    report->epoch = roster->epochs[node];
    roster_weigh_count(roster, channel);
    roster_free_unused(roster, channel);
}

void roster_own_change(struct roster *roster, struct slice app, struct slice name, struct slice user, bool added,
                       uint64_t now_ms) {
    struct roster_channel *channel = channel_for_report(roster, app, name, false, now_ms);

    if (channel == NULL)
        return;
    say_own(roster, channel, added ? ROSTER_ADDED : ROSTER_REMOVED, user, 0);
    change_user(roster, channel, 0, user, added, now_ms);
}

void roster_own_count(struct roster *roster, struct slice app, struct slice name, uint32_t count, uint64_t now_ms) {
    struct roster_channel *channel = channel_for_report(roster, app, name, false, now_ms);

    if (channel == NULL)
        return;
    say_own(roster, channel, ROSTER_COUNT, nobody, count);
    take_count(roster, channel, 0, count);
}

static void mark_stale(struct roster_user *user, unsigned node) {
    user->stale |= user->nodes & UINT64_C(1) << node;
}

/* All that the node has follows. */
static void begin_part(struct roster *roster, struct roster_channel *channel, unsigned node, bool occupied,
                       uint64_t now_ms) {
    struct roster_report *report = roster_make_report(channel, node);

    report->epoch = roster->epochs[node];
    report->tells = true;
    if (channel->occupied != NULL)
        mark_stale(channel->occupied, node);
    for (struct list *at = channel->users.next; at != &channel->users; at = at->next)
        mark_stale(container_of(at, struct roster_user, in_channel), node);
    if (occupied)
        add_to_user(roster, channel, node, nobody, true, now_ms);
}

static void drop_stale(struct roster *roster, struct roster_user *user, unsigned node, uint64_t now_ms) {
    if ((user->stale >> node & 1) != 0)
        roster_drop_node(roster, user, UINT64_C(1) << node, now_ms);
}

static void end_part(struct roster *roster, struct roster_channel *channel, unsigned node, uint64_t now_ms) {
    struct list *next;

    roster_make_report(channel, node)->tells = false;
    for (struct list *at = channel->users.next; at != &channel->users; at = next) {
        next = at->next;
        drop_stale(roster, container_of(at, struct roster_user, in_channel), node, now_ms);
    }
    if (channel->occupied != NULL)
        drop_stale(roster, channel->occupied, node, now_ms);
    roster_free_unused(roster, channel);
}

/* --- what the sender has told --- */

static void forget_told(struct roster *roster, struct roster_user *user) {
    user->told = user->known = false;
    heap_unlink(&roster->graces, &user->grace);
}

static void begin_told(struct roster *roster, struct roster_channel *channel) {
    channel->telling = true;
    if (channel->occupied != NULL)
        forget_told(roster, channel->occupied);
    for (struct list *at = channel->users.next; at != &channel->users; at = at->next)
        forget_told(roster, container_of(at, struct roster_user, in_channel));
}

static void take_told(struct roster *roster, struct roster_channel *channel, struct slice id, uint64_t left_ms,
                      uint64_t now_ms) {
    struct roster_user *user = roster_make_user(roster, channel, id);

    if (user == NULL)
        return;
    user->told = true;
    if (left_ms != 0)
        set_due(roster, &roster->graces, &user->grace,
                now_ms + (left_ms < ROSTER_GRACE_MS ? left_ms : ROSTER_GRACE_MS));
}

static void take_untold(struct roster *roster, struct roster_channel *channel, struct slice id) {
    struct roster_user *user = roster_find_user(roster, channel, id);

    if (user == NULL)
        return;
    forget_told(roster, user);
    forget_unneeded(roster, user);
    roster_free_unused(roster, channel);
}

/* What was told and nobody has: freed when its grace has ended, or if this node is not the sender, when that says so.
 */
static void end_told(struct roster *roster, struct roster_channel *channel, uint64_t now_ms) {
    channel->telling = false;
    roster_settle(roster, channel, now_ms);
    roster_free_unused(roster, channel);
}

/* An item that only the sender of a channel says. If this node is the sender, it comes from the one before. */
static void take_from_sender(struct roster *roster, struct roster_channel *channel, const struct roster_item *item,
                             uint64_t now_ms) {
    switch (item->type) {
    case ROSTER_TOLD:
    case ROSTER_TOLD_PART:
        take_told(roster, channel, item->user, item->number, now_ms);
        break;
    case ROSTER_UNTOLD:
        take_untold(roster, channel, item->user);
        break;
    case ROSTER_TOLD_COUNT:
        channel->told_count = (uint32_t)item->number;
        break;
    case ROSTER_TOLD_ALL:
        begin_told(roster, channel);
        break;
    case ROSTER_TOLD_ALL_END:
        end_told(roster, channel, now_ms);
        break;
    default:
        break;
    }
}

static void take_report(struct roster *roster, struct roster_channel *channel, unsigned node,
                        const struct roster_item *item, uint64_t now_ms) {
    switch (item->type) {
    case ROSTER_ADDED:
    case ROSTER_REMOVED:
        change_user(roster, channel, node, item->user, item->type == ROSTER_ADDED, now_ms);
        break;
    case ROSTER_COUNT:
        take_count(roster, channel, node, (uint32_t)item->number);
        break;
    case ROSTER_SET:
        begin_part(roster, channel, node, item->number != 0, now_ms);
        break;
    case ROSTER_MEMBER:
        add_to_user(roster, channel, node, item->user, true, now_ms);
        break;
    case ROSTER_SET_END:
        end_part(roster, channel, node, now_ms);
        break;
    default:
        break;
    }
}

void roster_take(struct roster *roster, unsigned node, const struct roster_item *item, uint64_t now_ms) {
    bool from_sender = item->type >= ROSTER_TOLD && item->type <= ROSTER_TOLD_ALL_END;
    struct roster_channel *channel;

    if (node == 0 || node >= ROSTER_NODES || (roster->alive >> node & 1) == 0)
        return;
    if (item->type == ROSTER_ALL) {
        roster->epochs[node]++;
        return;
    }
    if (item->type == ROSTER_ALL_END) {
        roster_want_walk(roster, &(struct roster_walk){.forget_old = UINT64_C(1) << node});
        return;
    }
    if (item->app.length == 0 || item->channel.length == 0)
        return;
    if (item->type == ROSTER_UNTOLD || item->type == ROSTER_TOLD_COUNT)
        channel = roster_find_channel(roster, item->app, item->channel);
    else
        channel = channel_for_report(roster, item->app, item->channel, item->type == ROSTER_SET, now_ms);
    if (channel == NULL)
        return;
    if (!from_sender)
        take_report(roster, channel, node, item, now_ms);
    else if (channel->sender != 0 || !channel->settled) /* else it comes too late */
        take_from_sender(roster, channel, item, now_ms);
}

/* --- time --- */

static void end_grace(struct roster *roster, struct roster_user *user) {
    struct roster_channel *channel = user->channel;

    if (is_sending(roster, channel) && user->nodes == 0 && user->told)
        tell_user(roster, user, false);
    forget_unneeded(roster, user);
    roster_free_unused(roster, channel);
}

/* Takes the first that is due out of the heap; NULL: none is. One that comes late waits for news of other nodes. */
static struct heap_node *take_due(struct roster *roster, struct heap *heap, uint64_t now_ms) {
    struct heap_node *first;

    while ((first = heap_first(heap)) != NULL && first->key >> 20 <= now_ms) {
        if (now_ms - (first->key >> 20) <= LATE_MS || roster->alive == 1 || roster->leaving) {
            heap_unlink(heap, first);
            return first;
        }
        set_due(roster, heap, first, now_ms + AFTER_LATE_MS);
    }
    return NULL;
}

#define DUE_AT_ONCE 2000

uint64_t roster_run(struct roster *roster, uint64_t now_ms) {
    uint64_t next_ms = UINT64_MAX;
    struct heap_node *due = NULL;

    for (unsigned i = 0; i < DUE_AT_ONCE && (due = take_due(roster, &roster->graces, now_ms)) != NULL; i++)
        end_grace(roster, container_of(due, struct roster_user, grace));
    while ((due = take_due(roster, &roster->settles, now_ms)) != NULL) {
        struct roster_channel *channel = container_of(due, struct roster_channel, settles);

        take_known_as_told(channel);
        roster_settle(roster, channel, now_ms);
        roster_free_unused(roster, channel);
    }
    if (roster_walk_on(roster, now_ms))
        return now_ms;
    if (heap_first(&roster->graces) != NULL)
        next_ms = heap_first(&roster->graces)->key >> 20;
    if (heap_first(&roster->settles) != NULL && heap_first(&roster->settles)->key >> 20 < next_ms)
        next_ms = heap_first(&roster->settles)->key >> 20;
    return next_ms;
}

/* --- leaving --- */

/* Nobody goes on: what is in its grace is told now. */
static void end_all_graces(struct roster *roster) {
    struct heap_node *first;

    while ((first = heap_first(&roster->graces)) != NULL) {
        heap_unlink(&roster->graces, first);
        end_grace(roster, container_of(first, struct roster_user, grace));
    }
}

bool roster_leave(struct roster *roster, uint64_t now_ms) {
    if (!roster->leaving && roster->alive == 1)
        end_all_graces(roster);
    if (!roster->leaving && roster->alive != 1) {
        roster->alive &= ~UINT64_C(1);
        roster_want_walk(roster, &(struct roster_walk){.ranks = true});
    }
    roster->leaving = true;
    return roster_walk_on(roster, now_ms);
}
