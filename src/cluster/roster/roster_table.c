#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/hash.h"
#include "cluster/message/message.h"
#include "cluster/roster/roster_internal.h"

/* --- the account of memory: each link has about one bucket --- */

static size_t channel_bytes_of(size_t texts) {
    return alloc_footprint(sizeof(struct roster_channel) + texts) + alloc_footprint(sizeof(struct roster_report)) +
           sizeof(struct hash_link *);
}

static size_t user_bytes_of(size_t length) {
    return alloc_footprint(sizeof(struct roster_user) + length) + sizeof(struct hash_link *);
}

static bool take_roster_room(struct roster *roster, size_t bytes) {
    if (budget_take(BUDGET_CLUSTER, NULL, bytes))
        return true;
    roster->refused++;
    return false;
}

/* --- channels --- */

static uint64_t hash_of_channel(struct slice app, struct slice name) {
    return hash_bytes(name) * 31 + hash_bytes(app);
}

struct roster_channel *roster_find_channel(const struct roster *roster, struct slice app, struct slice name) {
    uint64_t hash = hash_of_channel(app, name);
    struct hash_link *link = hash_index_bucket(&roster->channels, hash);

    for (; link != NULL; link = link->next) {
        struct roster_channel *channel = container_of(link, struct roster_channel, link);

        if (link->hash == hash && slice_equal(roster_name(channel), name) && slice_equal(roster_app(channel), app))
            return channel;
    }
    return NULL;
}

struct roster_channel *roster_make_channel(struct roster *roster, struct slice app, struct slice name) {
    struct roster_channel *channel = roster_find_channel(roster, app, name);

    if (channel != NULL || !take_roster_room(roster, channel_bytes_of(app.length + name.length)))
        return channel;
    channel = alloc_zero(sizeof *channel + app.length + name.length);
    channel->app_length = (uint16_t)app.length;
    channel->name_length = (uint16_t)name.length;
    memcpy(channel->text, app.data, app.length);
    memcpy(channel->text + app.length, name.data, name.length);
    channel->link.hash = hash_of_channel(app, name);
    channel->rank_hash = message_channel_hash(app, name);
    list_init(&channel->users);
    list_append(&roster->all, &channel->in_all);
    hash_index_add(&roster->channels, &channel->link);
    roster_rank(roster, channel);
    return channel;
}

void roster_free_channel(struct roster *roster, struct roster_channel *channel) {
    while (!list_empty(&channel->users))
        roster_free_user(roster, container_of(channel->users.next, struct roster_user, in_channel));
    if (channel->occupied != NULL)
        roster_free_user(roster, channel->occupied);
    if (roster->at == &channel->in_all)
        roster->at = channel->in_all.next;
    heap_unlink(&roster->settles, &channel->settles);
    list_remove(&channel->in_all);
    hash_index_remove(&roster->channels, &channel->link);
    budget_give(BUDGET_CLUSTER, NULL, channel_bytes_of((size_t)channel->app_length + channel->name_length));
    free(channel->reports);
    free(channel);
}

bool roster_free_unused(struct roster *roster, struct roster_channel *channel) {
    bool counted = channel->told_count != 0 && channel->sender == 0;

    for (unsigned i = 0; i < channel->report_count; i++)
        counted = counted || channel->reports[i].count != 0;
    if (counted || channel->occupied != NULL || channel->user_count != 0 || channel->settles.place != 0 ||
        channel->telling)
        return false;
    roster_free_channel(roster, channel);
    return true;
}

/* --- users --- */

static uint64_t hash_of_user(const struct roster_channel *channel, struct slice id) {
    return (hash_bytes(id) ^ channel->link.hash) * UINT64_C(0x9e3779b97f4a7c15) >> 7;
}

struct roster_user *roster_find_user(const struct roster *roster, const struct roster_channel *channel,
                                     struct slice id) {
    uint64_t hash = hash_of_user(channel, id);
    struct hash_link *link;

    if (id.length == 0)
        return channel->occupied;
    for (link = hash_index_bucket(&roster->users, hash); link != NULL; link = link->next) {
        struct roster_user *user = container_of(link, struct roster_user, link);

        if (link->hash == hash && user->channel == channel && slice_equal(roster_user_id(user), id))
            return user;
    }
    return NULL;
}

struct roster_user *roster_make_user(struct roster *roster, struct roster_channel *channel, struct slice id) {
    struct roster_user *user = roster_find_user(roster, channel, id);

    if (user != NULL || !take_roster_room(roster, user_bytes_of(id.length)))
        return user;
    user = alloc_zero(sizeof *user + id.length);
    user->channel = channel;
    user->length = (uint8_t)id.length;
    memcpy(user->id, id.data, id.length);
    user->link.hash = hash_of_user(channel, id);
    if (id.length == 0) {
        channel->occupied = user;
        return user;
    }
    channel->user_count++;
    list_append(&channel->users, &user->in_channel);
    hash_index_add(&roster->users, &user->link);
    return user;
}

void roster_free_user(struct roster *roster, struct roster_user *user) {
    heap_unlink(&roster->graces, &user->grace);
    if (user->length == 0) {
        user->channel->occupied = NULL;
    } else {
        user->channel->user_count--;
        list_remove(&user->in_channel);
        hash_index_remove(&roster->users, &user->link);
    }
    budget_give(BUDGET_CLUSTER, NULL, user_bytes_of(user->length));
    free(user);
}

/* --- reports --- */

struct roster_report *roster_find_report(const struct roster_channel *channel, unsigned node) {
    for (unsigned i = 0; i < channel->report_count; i++)
        if (channel->reports[i].node == node)
            return &channel->reports[i];
    return NULL;
}

struct roster_report *roster_make_report(struct roster_channel *channel, unsigned node) {
    struct roster_report *report = roster_find_report(channel, node);

    if (report != NULL)
        return report;
    channel->reports = alloc_array(channel->reports, channel->report_count + 1u, sizeof channel->reports[0]);
    report = &channel->reports[channel->report_count++];
    *report = (struct roster_report){.node = (uint8_t)node};
    return report;
}

void roster_drop_report(struct roster_channel *channel, unsigned node) {
    struct roster_report *report = roster_find_report(channel, node);

    if (report != NULL)
        *report = channel->reports[--channel->report_count];
}

/* --- the roster --- */

struct roster *roster_create(const struct roster_hooks *hooks) {
    struct roster *roster = alloc_zero(sizeof *roster);

    roster->hooks = *hooks;
    roster->alive = 1;
    list_init(&roster->all);
    hash_index_init(&roster->channels);
    hash_index_init(&roster->users);
    return roster;
}

void roster_destroy(struct roster *roster) {
    if (roster == NULL)
        return;
    while (!list_empty(&roster->all))
        roster_free_channel(roster, container_of(roster->all.next, struct roster_channel, in_all));
    hash_index_dispose(&roster->channels);
    hash_index_dispose(&roster->users);
    heap_dispose(&roster->graces);
    heap_dispose(&roster->settles);
    free(roster);
}

void roster_read_size(const struct roster *roster, struct roster_size *size) {
    *size = (struct roster_size){roster->channels.count, roster->users.count, roster->refused};
}
