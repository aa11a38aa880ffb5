#include "cluster/roster/roster_internal.h"

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

static void tell_webhooks(struct roster *roster, const struct roster_channel *channel, enum roster_event_kind kind,
                          struct slice user, uint32_t count) {
    roster->hooks.tell(
        roster->hooks.context,
        &(struct roster_event){
            .kind = kind, .app = roster_app(channel), .channel = roster_name(channel), .user = user, .count = count});
}

/* --- what is there and what was told --- */

void roster_tell_user(struct roster *roster, struct roster_user *user, bool there) {
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
void roster_set_due(struct roster *roster, struct heap *heap, struct heap_node *node, uint64_t due_ms) {
    heap_set(heap, node, due_ms << 20 | (roster->serial++ & 0xfffff));
}

bool roster_is_sending(const struct roster *roster, const struct roster_channel *channel) {
    return channel->sender == 0 && channel->settled && !roster->away;
}

void roster_forget_unneeded(struct roster *roster, struct roster_user *user) {
    bool may_be_told = user->told || (user->known && !user->channel->settled);

    if (user->nodes == 0 && !may_be_told && user->grace.place == 0)
        roster_free_user(roster, user);
}

void roster_weigh(struct roster *roster, struct roster_user *user, uint64_t now_ms) {
    bool there = user->nodes != 0;

    if (roster_is_sending(roster, user->channel)) {
        if (there == user->told)
            heap_unlink(&roster->graces, &user->grace);
        else if (there)
            roster_tell_user(roster, user, true);
        else if (user->grace.place == 0)
            roster_set_due(roster, &roster->graces, &user->grace, now_ms + ROSTER_GRACE_MS);
    }
    roster_forget_unneeded(roster, user);
}

void roster_weigh_count(struct roster *roster, struct roster_channel *channel) {
    uint32_t count = 0;

    for (unsigned i = 0; i < channel->report_count; i++)
        count += channel->reports[i].count;
    if (!roster_is_sending(roster, channel) || count == channel->told_count)
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

void roster_forget_told_of(struct roster *roster, struct roster_user *user) {
    user->told = user->known = user->news = false;
    heap_unlink(&roster->graces, &user->grace);
}

void roster_forget_told(struct roster *roster, struct roster_channel *channel) {
    if (channel->occupied != NULL)
        roster_forget_told_of(roster, channel->occupied);
    for (struct list *at = channel->users.next; at != &channel->users; at = at->next)
        roster_forget_told_of(roster, container_of(at, struct roster_user, in_channel));
}

/* Without word from the sender before: what was there before is taken as told. */
void roster_take_known_as_told(struct roster_channel *channel) {
    if (channel->occupied != NULL) {
        channel->occupied->told = channel->occupied->told || channel->occupied->known;
        channel->occupied->known = channel->occupied->news = false;
    }
    for (struct list *at = channel->users.next; at != &channel->users; at = at->next) {
        struct roster_user *user = container_of(at, struct roster_user, in_channel);

        user->told = user->told || user->known;
        user->known = user->news = false;
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

void roster_forget_all_unneeded(struct roster *roster, struct roster_channel *channel) {
    struct list *next;

    for (struct list *at = channel->users.next; at != &channel->users; at = next) {
        next = at->next;
        roster_forget_unneeded(roster, container_of(at, struct roster_user, in_channel));
    }
    if (channel->occupied != NULL)
        roster_forget_unneeded(roster, channel->occupied);
}

void roster_settle(struct roster *roster, struct roster_channel *channel, uint64_t now_ms) {
    heap_unlink(&roster->settles, &channel->settles);
    channel->settled = true;
    if (channel->sender == 0) {
        roster_say_all_told(roster, channel->deputy, channel, now_ms);
        roster_weigh_all(roster, channel, now_ms);
    } else {
        roster_forget_all_unneeded(roster, channel);
    }
}

void roster_settle_later(struct roster *roster, struct roster_channel *channel, uint64_t now_ms) {
    channel->settled = false;
    roster_set_due(roster, &roster->settles, &channel->settles, now_ms + ROSTER_HANDOVER_MS);
}

void roster_drop_node(struct roster *roster, struct roster_user *user, uint64_t nodes, uint64_t now_ms) {
    user->stale &= ~nodes;
    user->nodes &= ~nodes;
    roster_weigh(roster, user, now_ms);
}
