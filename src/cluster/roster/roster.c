#include "cluster/roster/roster_internal.h"

/* When a timer comes later than this, the process did not run: other nodes may have taken over, which it is about to
 * hear. */
#define LATE_MS 1000
#define AFTER_LATE_MS 2000

static const struct slice nobody = SLICE_INIT("");

/* To those who must know what this node has. */
static void say_own(struct roster *roster, const struct roster_channel *channel, enum roster_item_type type,
                    struct slice user, uint64_t number) {
    roster_say(roster, channel->sender, channel, type, user, number);
    roster_say(roster, channel->deputy, channel, type, user, number);
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

static void mark_stale(struct roster_user *user, unsigned node) {
    user->stale |= user->nodes & UINT64_C(1) << node;
}

static void mark_all_stale(struct roster_channel *channel, unsigned node) {
    if (channel->occupied != NULL)
        mark_stale(channel->occupied, node);
    for (struct list *at = channel->users.next; at != &channel->users; at = at->next)
        mark_stale(container_of(at, struct roster_user, in_channel), node);
}

/* The report of a node that says something. What it had before its last ROSTER_ALL goes at ROSTER_ALL_END, unless it is
 * named again: what is said now does not confirm that. */
static struct roster_report *renew_report(struct roster *roster, struct roster_channel *channel, unsigned node) {
    struct roster_report *report = roster_make_report(channel, node);

    if (report->epoch != roster->epochs[node])
        mark_all_stale(channel, node);
    report->epoch = roster->epochs[node];
    return report;
}

static void add_to_user(struct roster *roster, struct roster_channel *channel, unsigned node, struct slice id,
                        bool was_there, uint64_t now_ms) {
    struct roster_user *user = roster_make_user(roster, channel, id);

    if (user == NULL)
        return;
    if (node != 0)
        renew_report(roster, channel, node);
    else
        user->recent = user->recent || (user->nodes & 1) == 0;
    user->nodes |= UINT64_C(1) << node;
    user->stale &= ~(UINT64_C(1) << node);
    /* This node may be about to become the sender. */
    user->known = user->known || (was_there && !user->news && (!channel->settled || channel->sender != 0));
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

static void take_count(struct roster *roster, struct roster_channel *channel, unsigned node, uint32_t count,
                       bool recent) {
    struct roster_report *report = renew_report(roster, channel, node);

    channel->counted = channel->counted || ((!report->tells || recent) && !channel->settled);
    report->recent = recent;
    report->count = count;
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
    take_count(roster, channel, 0, count, true);
}

/* All that the node has follows. */
static void begin_part(struct roster *roster, struct roster_channel *channel, unsigned node, uint64_t occupied,
                       uint64_t now_ms) {
    renew_report(roster, channel, node)->tells = true;
    mark_all_stale(channel, node);
    if (occupied != 0)
        add_to_user(roster, channel, node, nobody, (occupied & ROSTER_RECENT) == 0, now_ms);
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

static void begin_told(struct roster *roster, struct roster_channel *channel, unsigned node) {
    channel->telling = true;
    channel->told_epoch = roster->epochs[node];
    roster_forget_told(roster, channel);
}

static void take_told(struct roster *roster, struct roster_channel *channel, unsigned node,
                      const struct roster_item *item, uint64_t now_ms) {
    struct roster_user *user = roster_make_user(roster, channel, item->user);
    uint64_t left_ms = item->number;

    if (channel->told_epoch != roster->epochs[node]) /* it has told all, and nothing of this channel */
        roster_forget_told(roster, channel);
    channel->told_epoch = roster->epochs[node];
    if (user == NULL)
        return;
    user->told = true;
    if (left_ms != 0)
        roster_set_due(roster, &roster->graces, &user->grace,
                       now_ms + (left_ms < ROSTER_GRACE_MS ? left_ms : ROSTER_GRACE_MS));
}

static void take_untold(struct roster *roster, struct roster_channel *channel, struct slice id) {
    struct roster_user *user = roster_find_user(roster, channel, id);

    if (user == NULL)
        return;
    roster_forget_told_of(roster, user);
    roster_forget_unneeded(roster, user);
    roster_free_unused(roster, channel);
}

/* Its node may say later that it is there. */
static void take_news(struct roster *roster, struct roster_channel *channel, struct slice id) {
    struct roster_user *user = channel->settled ? NULL : roster_make_user(roster, channel, id);

    if (user == NULL || user->told)
        return;
    user->known = false;
    user->news = channel->counted = true;
}

/* What was told and nobody has: freed when its grace has ended, or if this node is not the sender, when that says so.
 */
static void end_told(struct roster *roster, struct roster_channel *channel, uint64_t now_ms) {
    channel->telling = false;
    roster_settle(roster, channel, now_ms);
    roster_free_unused(roster, channel);
}

/* An item that only the sender of a channel says. If this node is the sender, it comes from the one before. */
static void take_from_sender(struct roster *roster, struct roster_channel *channel, unsigned node,
                             const struct roster_item *item, uint64_t now_ms) {
    switch (item->type) {
    case ROSTER_TOLD:
    case ROSTER_TOLD_PART:
        take_told(roster, channel, node, item, now_ms);
        break;
    case ROSTER_UNTOLD:
        take_untold(roster, channel, item->user);
        break;
    case ROSTER_NEWS:
        take_news(roster, channel, item->user);
        break;
    case ROSTER_TOLD_COUNT:
        channel->told_count = (uint32_t)item->number;
        break;
    case ROSTER_TOLD_ALL:
        begin_told(roster, channel, node);
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
        take_count(roster, channel, node, (uint32_t)item->number, (item->number & ROSTER_COUNT_RECENT) != 0);
        break;
    case ROSTER_SET:
        begin_part(roster, channel, node, item->number, now_ms);
        break;
    case ROSTER_MEMBER:
        add_to_user(roster, channel, node, item->user, (item->number & ROSTER_RECENT) == 0, now_ms);
        break;
    case ROSTER_SET_END:
        end_part(roster, channel, node, now_ms);
        break;
    default:
        break;
    }
}

void roster_take(struct roster *roster, unsigned node, const struct roster_item *item, uint64_t now_ms) {
    bool from_sender = (item->type >= ROSTER_TOLD && item->type <= ROSTER_TOLD_ALL_END) || item->type == ROSTER_NEWS;
    struct roster_channel *channel;

    if (node == 0 || node >= ROSTER_NODES || (roster->alive >> node & 1) == 0)
        return;
    if (item->type == ROSTER_ALL) {
        roster->epochs[node]++;
        /* What waits to be forgotten may be named now. */
        roster->walk.forget_old &= ~(UINT64_C(1) << node);
        roster->next_walk.forget_old &= ~(UINT64_C(1) << node);
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
        take_from_sender(roster, channel, node, item, now_ms);
}

/* --- time --- */

static void end_grace(struct roster *roster, struct roster_user *user) {
    struct roster_channel *channel = user->channel;

    if (roster_is_sending(roster, channel) && user->nodes == 0 && user->told)
        roster_tell_user(roster, user, false);
    roster_forget_unneeded(roster, user);
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
        roster_set_due(roster, heap, first, now_ms + AFTER_LATE_MS);
    }
    return NULL;
}

uint64_t roster_run(struct roster *roster, uint64_t now_ms) {
    uint64_t next_ms = UINT64_MAX;
    struct heap_node *due = NULL;
    uint64_t units = 0;

    for (unsigned i = 0; i < ROSTER_DUE_AT_ONCE && (due = take_due(roster, &roster->graces, now_ms)) != NULL; i++)
        end_grace(roster, container_of(due, struct roster_user, grace));
    while (units < ROSTER_DUE_AT_ONCE && (due = take_due(roster, &roster->settles, now_ms)) != NULL) {
        struct roster_channel *channel = container_of(due, struct roster_channel, settles);

        units += 1 + channel->user_count;
        roster_take_known_as_told(channel);
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

/* Nobody goes on: what is in its grace is told now, some in each call. False: there is no more. */
static bool end_graces_early(struct roster *roster) {
    struct heap_node *first;

    for (unsigned i = 0; i < ROSTER_DUE_AT_ONCE && (first = heap_first(&roster->graces)) != NULL; i++) {
        heap_unlink(&roster->graces, first);
        end_grace(roster, container_of(first, struct roster_user, grace));
    }
    return heap_first(&roster->graces) != NULL;
}

bool roster_leave(struct roster *roster, uint64_t now_ms) {
    bool begins = !roster->leaving;

    roster->leaving = true;
    if (begins && roster->alive == 1) {
        roster->ends_graces = true;
    } else if (begins) {
        roster->alive &= ~UINT64_C(1);
        roster_want_walk(roster, &(struct roster_walk){.ranks = true});
    }
    if (roster->ends_graces && end_graces_early(roster))
        return true;
    return roster_walk_on(roster, now_ms);
}
