#include <string.h>

#include "cluster/roster/roster_internal.h"

/* What one call visits, in channels and their users: less than a millisecond. */
#define WALK_UNITS 500

static const struct slice nobody = SLICE_INIT("");

/* --- telling --- */

static bool is_here(const struct roster_user *user) {
    return user != NULL && (user->nodes & 1) != 0;
}

static bool has_own_part(const struct roster_channel *channel) {
    const struct roster_report *own = roster_find_report(channel, 0);

    if ((own != NULL && own->count != 0) || is_here(channel->occupied))
        return true;
    for (struct list *at = channel->users.next; at != &channel->users; at = at->next)
        if (is_here(container_of(at, struct roster_user, in_channel)))
            return true;
    return false;
}

static uint64_t recent_bit(const struct roster_user *user) {
    return user->recent ? ROSTER_RECENT : 0;
}

/* All that this node itself has of the channel. */
static void say_own_part(struct roster *roster, unsigned node, const struct roster_channel *channel) {
    const struct roster_report *own = roster_find_report(channel, 0);

    roster_say(roster, node, channel, ROSTER_SET, nobody,
               is_here(channel->occupied) ? ROSTER_HERE | recent_bit(channel->occupied) : 0);
    for (struct list *at = channel->users.next; at != &channel->users; at = at->next) {
        const struct roster_user *user = container_of(at, struct roster_user, in_channel);

        if (is_here(user))
            roster_say(roster, node, channel, ROSTER_MEMBER, roster_user_id(user), recent_bit(user));
    }
    if (own != NULL)
        roster_say(roster, node, channel, ROSTER_COUNT, nobody, own->count | (own->recent ? ROSTER_COUNT_RECENT : 0));
    roster_say(roster, node, channel, ROSTER_SET_END, nobody, 0);
}

/* What a node is to know that was just said that it is told everything. */
static void tell_everything(struct roster *roster, const struct roster_channel *channel, unsigned node,
                            uint64_t now_ms) {
    if (channel->sender != node && channel->deputy != node)
        return;
    if (has_own_part(channel))
        say_own_part(roster, node, channel);
    if (channel->sender == 0 && channel->settled)
        roster_say_all_told(roster, node, channel, now_ms);
}

/* --- nodes that are gone, and new senders --- */

static void forget_nodes_of(struct roster *roster, struct roster_user *user, uint64_t nodes, uint64_t now_ms) {
    if ((user->nodes & nodes) != 0)
        roster_drop_node(roster, user, nodes, now_ms);
}

/* Takes the nodes of the mask out of the channel, and others where they are stale. */
static void forget_nodes(struct roster *roster, struct roster_channel *channel, uint64_t nodes, uint64_t stale_nodes,
                         uint64_t now_ms) {
    struct list *next;

    for (unsigned node = 1; node < ROSTER_NODES; node++)
        if ((nodes >> node & 1) != 0)
            roster_drop_report(channel, node);
    for (struct list *at = channel->users.next; at != &channel->users; at = next) {
        struct roster_user *user = container_of(at, struct roster_user, in_channel);

        next = at->next;
        forget_nodes_of(roster, user, nodes | (user->stale & stale_nodes), now_ms);
    }
    if (channel->occupied != NULL)
        forget_nodes_of(roster, channel->occupied, nodes | (channel->occupied->stale & stale_nodes), now_ms);
    roster_weigh_count(roster, channel);
}

/* The nodes of the mask whose report is older than their last ROSTER_ALL. */
static uint64_t old_nodes(const struct roster *roster, const struct roster_channel *channel, uint64_t nodes) {
    uint64_t old = nodes;

    for (unsigned i = 0; i < channel->report_count; i++)
        if (channel->reports[i].epoch == roster->epochs[channel->reports[i].node])
            old &= ~(UINT64_C(1) << channel->reports[i].node);
    return old;
}

/* This node is neither sender nor deputy any more: it keeps its own part only. */
static void keep_own_part(struct roster *roster, struct roster_channel *channel, uint64_t now_ms) {
    struct list *next;

    channel->settled = true;
    channel->told_count = 0;
    heap_unlink(&roster->settles, &channel->settles);
    for (struct list *at = channel->users.next; at != &channel->users; at = next) {
        struct roster_user *user = container_of(at, struct roster_user, in_channel);

        next = at->next;
        user->told = user->known = false;
        heap_unlink(&roster->graces, &user->grace);
        roster_drop_node(roster, user, ~UINT64_C(1), now_ms);
    }
    if (channel->occupied != NULL) {
        channel->occupied->told = channel->occupied->known = false;
        heap_unlink(&roster->graces, &channel->occupied->grace);
        roster_drop_node(roster, channel->occupied, ~UINT64_C(1), now_ms);
    }
    while (channel->report_count > 1 || (channel->report_count == 1 && channel->reports[0].node != 0))
        roster_drop_report(channel, channel->reports[channel->reports[0].node == 0 ? 1 : 0].node);
}

/* The part that this node has, to those who have not known it. */
static void tell_new_ranks(struct roster *roster, struct roster_channel *channel, unsigned sender, unsigned deputy) {
    if (!has_own_part(channel))
        return;
    if (channel->sender != 0 && channel->sender != NO_NODE && channel->sender != sender && channel->sender != deputy)
        say_own_part(roster, channel->sender, channel);
    if (channel->deputy != 0 && channel->deputy != NO_NODE && channel->deputy != sender && channel->deputy != deputy)
        say_own_part(roster, channel->deputy, channel);
}

/* What these nodes have was there before the sender changed. */
static void note_known(struct roster_channel *channel, uint64_t nodes) {
    if (channel->occupied != NULL && (channel->occupied->nodes & nodes) != 0)
        channel->occupied->known = !channel->occupied->news;
    for (struct list *at = channel->users.next; at != &channel->users; at = at->next) {
        struct roster_user *user = container_of(at, struct roster_user, in_channel);

        user->known = user->known || ((user->nodes & nodes) != 0 && !user->news);
    }
}

/* A deputy knows what a sender that died has told. One that was neither has heard of other nodes only since then. What
 * a node has that was away was told as gone. */
static void become_sender(struct roster *roster, struct roster_channel *channel, unsigned before, bool was_deputy,
                          uint64_t now_ms) {
    bool before_lives = before < ROSTER_NODES && (roster->alive >> before & 1) != 0;

    if (!before_lives && was_deputy && channel->settled) {
        roster_settle(roster, channel, now_ms);
    } else if (channel->settles.place == 0) {
        if (before != NO_NODE)
            note_known(channel, was_deputy ? ~UINT64_C(0) : 1);
        roster_settle_later(roster, channel, now_ms);
    }
}

static void say_news_of(struct roster *roster, const struct roster_channel *channel, const struct roster_user *user) {
    if (user != NULL && user->nodes != 0 && !user->told && !user->known)
        roster_say(roster, channel->sender, channel, ROSTER_NEWS, roster_user_id(user), 0);
}

/* To the new sender, from one that has waited in vain for the sender before it: what came since then nobody has told.
 */
static void say_news(struct roster *roster, const struct roster_channel *channel) {
    say_news_of(roster, channel, channel->occupied);
    for (struct list *at = channel->users.next; at != &channel->users; at = at->next)
        say_news_of(roster, channel, container_of(at, struct roster_user, in_channel));
}

/* What this node has now was there before the change of live nodes that comes next. */
static void end_recent(struct roster_channel *channel) {
    struct roster_report *own = roster_find_report(channel, 0);

    if (own != NULL)
        own->recent = false;
    if (channel->occupied != NULL)
        channel->occupied->recent = false;
    for (struct list *at = channel->users.next; at != &channel->users; at = at->next)
        container_of(at, struct roster_user, in_channel)->recent = false;
}

/* Decides anew who sends the events of the channel, and tells those who did not know of it. */
static void rank_again(struct roster *roster, struct roster_channel *channel, uint64_t now_ms) {
    unsigned sender = channel->sender, deputy = channel->deputy;

    channel->telling = false;
    end_recent(channel);
    roster_rank(roster, channel);
    tell_new_ranks(roster, channel, sender, deputy);
    if (sender == 0 && channel->settled) {
        if (channel->sender != 0)
            roster_say_all_told(roster, channel->sender, channel, now_ms);
        if (channel->deputy != deputy)
            roster_say_all_told(roster, channel->deputy, channel, now_ms);
    } else if (sender == 0 && channel->sender != 0) {
        say_news(roster, channel);
    }
    if (roster->leaving)
        return;
    if (channel->sender == 0 && sender != 0)
        become_sender(roster, channel, sender, deputy == 0, now_ms);
    else if (channel->deputy == 0 && sender != 0 && deputy != 0)
        channel->settled = false; /* until the sender says what it has told */
    if (channel->sender != 0 && channel->deputy != 0)
        keep_own_part(roster, channel, now_ms);
}

/* --- the walk --- */

static bool walk_is_empty(const struct roster_walk *walk) {
    return !walk->ranks && !walk->away && (walk->forget | walk->forget_old | walk->tell) == 0;
}

bool roster_is_walking(const struct roster *roster) {
    return roster->at != NULL || !walk_is_empty(&roster->next_walk);
}

void roster_want_walk(struct roster *roster, const struct roster_walk *walk) {
    struct roster_walk *next = &roster->next_walk;

    next->away = next->away || walk->away;
    next->ranks = next->ranks || walk->ranks;
    next->forget |= walk->forget;
    next->forget_old |= walk->forget_old;
    next->tell |= walk->tell;
}

/* Items that are about no channel, to each node that is told everything. */
static void say_about_all(struct roster *roster, enum roster_item_type type) {
    for (unsigned node = 1; node < ROSTER_NODES; node++)
        if ((roster->walk.tell >> node & 1) != 0)
            roster->hooks.say(roster->hooks.context, node, &(struct roster_item){.type = type});
}

/* The other nodes will tell all that they have, and the sender what was told: what this node has was told as gone. */
static void forget_told_of(struct roster *roster, struct roster_channel *channel) {
    channel->sender = channel->deputy = NO_NODE;
    channel->settled = false;
    channel->told_count = 0;
    channel->counted = true;
    for (struct list *at = channel->users.next; at != &channel->users; at = at->next) {
        struct roster_user *user = container_of(at, struct roster_user, in_channel);

        heap_unlink(&roster->graces, &user->grace);
        user->told = user->known = false;
    }
    if (channel->occupied != NULL) {
        heap_unlink(&roster->graces, &channel->occupied->grace);
        channel->occupied->told = channel->occupied->known = false;
    }
}

/* The sender has told everything to this node, the deputy, and has not named the channel: nothing of it was told. */
static void forget_old_told(struct roster *roster, struct roster_channel *channel, uint64_t nodes) {
    if (channel->deputy != 0 || channel->sender >= ROSTER_NODES || (nodes >> channel->sender & 1) == 0 ||
        channel->told_epoch == roster->epochs[channel->sender])
        return;
    roster_forget_told(roster, channel);
    channel->told_count = 0;
    roster_forget_all_unneeded(roster, channel);
}

static void visit_channel(struct roster *roster, struct roster_channel *channel, uint64_t now_ms) {
    const struct roster_walk *walk = &roster->walk;
    uint64_t forget = walk->forget;

    if (walk->away)
        forget_told_of(roster, channel);
    if (walk->forget_old != 0)
        forget |= old_nodes(roster, channel, walk->forget_old);
    forget_old_told(roster, channel, walk->forget_old);
    if (forget != 0 || walk->forget_old != 0)
        forget_nodes(roster, channel, forget, walk->forget_old, now_ms);
    if (walk->ranks)
        rank_again(roster, channel, now_ms);
    for (unsigned node = 1; walk->tell != 0 && node < ROSTER_NODES; node++)
        if ((walk->tell >> node & 1) != 0)
            tell_everything(roster, channel, node, now_ms);
    roster_free_unused(roster, channel);
}

static void begin_walk(struct roster *roster) {
    roster->walk = roster->next_walk;
    roster->next_walk = (struct roster_walk){0};
    roster->walk.tell &= roster->alive;
    roster->at = roster->all.next;
    say_about_all(roster, ROSTER_ALL);
}

bool roster_walk_on(struct roster *roster, uint64_t now_ms) {
    if (!roster_is_walking(roster))
        return false;
    if (roster->at == NULL)
        begin_walk(roster);
    for (unsigned units = 0; units < WALK_UNITS && roster->at != &roster->all;) {
        struct roster_channel *channel = container_of(roster->at, struct roster_channel, in_all);

        roster->at = roster->at->next;
        units += 1 + channel->user_count;
        visit_channel(roster, channel, now_ms);
    }
    if (roster->at == &roster->all) {
        say_about_all(roster, ROSTER_ALL_END);
        roster->at = NULL;
        roster->away = roster->away && !roster->walk.away;
    }
    return roster_is_walking(roster);
}

/* Several changes soon after each other are one. */
static void note_nodes_before(struct roster *roster, uint64_t now_ms) {
    if (roster->changed_ms != 0 && now_ms < roster->changed_ms + SETS_TOLD_MS)
        return;
    /* A process that has just started was the sender of nothing. */
    roster->alive_before = roster->alive == 1 && roster->channels.count == 0 ? 0 : roster->alive;
    memcpy(roster->ids_before, roster->ids, sizeof roster->ids);
}

void roster_set_nodes(struct roster *roster, uint64_t alive, const struct node_id ids[ROSTER_NODES], uint64_t forget,
                      uint64_t now_ms) {
    forget |= roster->alive & ~alive;
    note_nodes_before(roster, now_ms);
    if ((alive | roster->alive) != 1)
        roster->changed_ms = now_ms;
    roster->alive = alive | 1;
    for (unsigned node = 0; node < ROSTER_NODES; node++)
        if ((roster->alive >> node & 1) != 0)
            roster->ids[node] = ids[node];
    roster_want_walk(roster, &(struct roster_walk){.ranks = true, .forget = forget & ~UINT64_C(1)});
}

void roster_tell_all(struct roster *roster, uint64_t nodes, uint64_t now_ms) {
    (void)now_ms;
    roster_want_walk(roster, &(struct roster_walk){.tell = nodes & ~UINT64_C(1)});
}

void roster_was_away(struct roster *roster, uint64_t now_ms) {
    roster->away = true;
    roster->alive_before = 0;
    roster->changed_ms = now_ms;
    roster_want_walk(roster, &(struct roster_walk){.away = true, .ranks = true, .forget = ~UINT64_C(1)});
}
