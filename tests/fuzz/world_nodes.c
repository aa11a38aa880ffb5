#include "world_nodes.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "world_server.h"

#define NODE_CHANNELS 8 /* presence channels of all apps that other nodes have members of, at most */
#define NOTICES_MAX 256

/* What other nodes have in a channel. */
struct node_channel {
    unsigned app;
    const char *name; /* NULL: the place is free */
    unsigned users[WORLD_NODES + 1];
    uint64_t versions[WORLD_NODES + 1];
};

static struct channel_hub *hub;
static struct workers *workers;
static bool nodes_present;
static struct node_channel channels[NODE_CHANNELS];
static uint64_t last_version;
static struct channel *noticed[NOTICES_MAX]; /* with a reference each */
static unsigned noticed_count;

/* --- hooks --- */

static void on_interest(void *context, struct channel *channel) {
    (void)context;
    MUST(noticed_count < NOTICES_MAX);
    noticed[noticed_count++] = channel;
}

static struct channel_own_change *create_change(void *context, bool webhooks) {
    (void)webhooks;
    (void)context;
    return calloc(1, sizeof(struct channel_own_change));
}

static void free_change(void *context, struct channel_own_change *change) {
    (void)context;
    free(change);
}

static void post_change(void *context, struct channel_own_change *change) {
    MUST(change->version > change->before);
    presence_member_unref(change->member);
    channel_unref(change->channel);
    free_change(context, change);
}

static void ignore_count(void *context, struct channel *channel, uint64_t version, uint32_t count) {
    (void)context;
    (void)channel;
    (void)version;
    (void)count;
}

static void ignore_wake(void *context) {
    (void)context;
}

static const struct channel_hooks hooks = {.interest = on_interest,
                                           .change_create = create_change,
                                           .change_post = post_change,
                                           .change_free = free_change,
                                           .own_count = ignore_count,
                                           .wake = ignore_wake};

void world_nodes_begin(struct channel_hub *world_hub, struct workers *world_workers, bool present) {
    hub = world_hub;
    workers = world_workers;
    nodes_present = present;
    memset(channels, 0, sizeof channels);
    MUST(noticed_count == 0);
    channel_hub_set_hooks(hub, present ? &hooks : NULL);
}

/* --- what other nodes have --- */

static struct node_channel *find_node_channel(unsigned app, struct slice name) {
    for (unsigned i = 0; i < NODE_CHANNELS; i++)
        if (channels[i].name != NULL && channels[i].app == app && slice_equal(slice_of(channels[i].name), name))
            return &channels[i];
    return NULL;
}

static struct node_channel *make_node_channel(unsigned app, const char *name) {
    struct node_channel *found = find_node_channel(app, slice_of(name));

    for (unsigned i = 0; found == NULL && i < NODE_CHANNELS; i++)
        if (channels[i].name == NULL)
            found = &channels[i];
    MUST(found != NULL);
    found->app = app;
    found->name = name;
    return found;
}

unsigned world_nodes_members(unsigned app, const char *channel) {
    const struct node_channel *found = find_node_channel(app, slice_of(channel));
    unsigned users = 0;

    for (unsigned node = 1; found != NULL && node <= WORLD_NODES; node++)
        users |= found->users[node];
    return users;
}

static struct worker *worker_of(struct slice name) {
    return workers->list[hash_bytes(name) % workers->count];
}

static struct remote_member node_member(unsigned user, char id[8]) {
    return (struct remote_member){{id, (size_t)snprintf(id, 8, "u%u", user)}, SLICE("{}"), 1};
}

static void tell_all(struct app_slot *slot, const struct node_channel *channel, unsigned node) {
    enum remote_result result;
    struct remote_set *set =
        channel_remote_set_begin(hub, slot, worker_of(slice_of(channel->name)), slice_of(channel->name), node,
                                 channel->versions[node], true, &result);

    for (unsigned user = 0; set != NULL && user < 32; user++) {
        char id[8];
        struct remote_member member = node_member(user, id);
        if ((channel->users[node] >> user & 1) != 0)
            channel_remote_set_add(set, &member, 1);
    }
    if (set != NULL)
        channel_remote_set_end(set, true, NULL, NULL);
}

static void change_user(struct app_slot *slot, struct node_channel *channel, unsigned node, unsigned user) {
    struct remote_change change = {
        .node = node, .version = ++last_version, .before = channel->users[node] != 0 ? channel->versions[node] : 0};
    enum remote_result result;
    char id[8];

    channel->users[node] ^= 1u << user;
    channel->versions[node] = change.version;
    change.added = (channel->users[node] >> user & 1) != 0;
    change.member = node_member(user, id);
    result = channel_remote_change(hub, slot, worker_of(slice_of(channel->name)), slice_of(channel->name), &change);
    if (result == REMOTE_GAP) /* a set is being taken in, or the number had another node */
        tell_all(slot, channel, node);
}

void world_nodes_happen(enum world_node_event event, struct app_slot *slot, unsigned app, unsigned node,
                        const char *name, unsigned user) {
    struct node_channel *channel;

    if (!nodes_present)
        return;
    channel = make_node_channel(app, name);
    if (event == NODE_CHANGES) {
        change_user(slot, channel, node, user);
    } else if (event == NODE_TELLS_ALL) {
        tell_all(slot, channel, node);
    } else {
        for (unsigned i = 0; i < NODE_CHANNELS; i++)
            channels[i].users[node] = 0;
        for (unsigned i = 0; i < workers->count; i++)
            channel_remote_forget(hub, workers->list[i], node, NULL, NULL);
    }
}

/* --- answers --- */

/* Tells what other nodes have, as the answers to a request for the state of a channel. */
static void tell_state(struct channel *channel) {
    struct app_slot *slot = channel_held_slot(channel);

    for (unsigned i = 0; slot != NULL && i < NODE_CHANNELS; i++)
        if (channels[i].name != NULL && slot->id[0] == (char)('1' + channels[i].app) &&
            slice_equal(channel_name(channel), slice_of(channels[i].name)))
            for (unsigned node = 1; node <= WORLD_NODES; node++)
                tell_all(slot, &channels[i], node);
}

bool world_nodes_answer(void) {
    bool any = false;

    while (noticed_count != 0) {
        struct channel *channel = noticed[--noticed_count];
        struct channel_interest interest = channel_take_interest(channel);

        if (interest.held && interest.wanted) {
            tell_state(channel);
            channel_ready(hub, channel, interest.generation);
            any |= interest.waits;
        } else if (interest.held) {
            channel_let_go(worker_of(channel_name(channel)), channel, interest.generation);
        }
        channel_unref(channel);
    }
    return any;
}
