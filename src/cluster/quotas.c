#include "cluster/quotas.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "app/app_slot.h"
#include "app_manager/app_manager.h"
#include "app_manager/cache/name_table.h"
#include "base/alloc.h"
#include "base/budget.h"
#include "base/hash.h"
#include "base/list.h"

#define QUOTAS_TELL_MS 100
#define QUOTAS_WHOLE_MS 60000
/* For hellos the apps are looked through so often at most. */
#define QUOTAS_LOOK_MS 100

/* Apps that other nodes may name. */
#define QUOTA_APPS_MAX 200000

/* What is in the list of a hello, at most. */
#define HELLO_QUOTAS_BYTES (MESSAGE_LIST_BYTES - 4096)

/* The connections of one node. */
struct node_quota {
    uint32_t connections;
    unsigned node;
    uint64_t whole; /* the row of parts that named it last, or was under way then */
};

/* An app with connections on other nodes. */
struct quota_app {
    struct name_node node;
    struct list link;
    uint64_t connections; /* of all of them */
    unsigned count;
    struct node_quota *list;
    char id[];
};

/* An app of this node. */
struct own_quota {
    struct name_node node;
    struct list link;
    uint64_t told;
    uint64_t pass; /* in which its slot was seen last */
    char id[];
};

/* A row of parts of another node. */
struct whole_row {
    uint64_t whole; /* 0: none, or a part is missing */
    uint32_t next_part;
};

struct quotas {
    struct cluster_core *core;
    struct loop_timer timer;

    struct name_table own; /* struct own_quota */
    struct list own_list;
    uint64_t pass, looked_ms; /* how often the own apps were looked through, and when last */
    struct buffer out;        /* a list to be told */
    struct buffer hello;
    uint64_t whole; /* number of the last row of parts */
    uint64_t whole_due_ms;
    bool whole_due;

    struct whole_row rows[NODES_MAX];
    pthread_mutex_t mutex; /* workers read the table of others */
    struct name_table others;
    struct list other_list;
    size_t other_count;
};

/* --- what this node tells --- */

static struct own_quota *add_own_quota(struct quotas *quotas, struct slice id, uint64_t hash) {
    struct own_quota *own = alloc(sizeof *own + id.length);
    struct reclaim_batch unlinked = {0};

    *own = (struct own_quota){.node = {.hash = hash, .text = {own->id, id.length}}};
    memcpy(own->id, id.data, id.length);
    list_append(&quotas->own_list, &own->link);
    name_table_add(&quotas->own, &own->node, &unlinked);
    reclaim_batch_free(&unlinked);
    return own;
}

static void tell_quotas(struct quotas *quotas, uint64_t whole, uint32_t part, bool last) {
    struct cluster_message message = {.kind = MESSAGE_QUOTAS};

    message.quotas =
        (struct message_quotas){.whole = whole, .part = part, .last = last, .apps = buffer_slice(&quotas->out)};
    cluster_core_say_to_all(quotas->core, &message);
    quotas->out.length = 0;
}

static void add_quota_change(struct quotas *quotas, struct own_quota *own, uint64_t connections) {
    own->told = connections;
    message_add_quota(&quotas->out, &(struct message_quota){own->node.text, connections});
    if (quotas->out.length >= MESSAGE_LIST_BYTES - 512)
        tell_quotas(quotas, 0, 0, true);
}

static void look_at_slot_quota(struct app_slot *slot, void *context) {
    struct quotas *quotas = context;
    const struct app *app = slot_app(slot);
    uint64_t connections = app != NULL && app->max_connections != 0 ? slot_connections(slot) : 0, hash;
    struct slice id = slice_of(slot->id);
    struct name_node *node;
    struct own_quota *own;

    if (connections == 0 && quotas->own.count == 0)
        return;
    hash = hash_bytes(id);
    node = name_table_find(&quotas->own, id, hash);
    if (node == NULL && connections == 0)
        return;
    own = node != NULL ? container_of(node, struct own_quota, node) : add_own_quota(quotas, id, hash);
    own->pass = quotas->pass;
    if (connections != own->told)
        add_quota_change(quotas, own, connections);
}

static void remove_own_quota(struct quotas *quotas, struct own_quota *own) {
    name_table_remove(&quotas->own, &own->node);
    list_remove(&own->link);
    free(own);
}

/* Apps without connections are forgotten once that is told; those that are gone are told first. */
static void sweep_own_quotas(struct quotas *quotas) {
    for (struct list *link = quotas->own_list.next, *next; link != &quotas->own_list; link = next) {
        struct own_quota *own = container_of(link, struct own_quota, link);

        next = link->next;
        if (own->told != 0 && own->pass != quotas->pass)
            add_quota_change(quotas, own, 0);
        if (own->told == 0)
            remove_own_quota(quotas, own);
    }
}

/* Reads the counts of all apps, and tells those that have changed. */
static void tell_changes(struct quotas *quotas) {
    quotas->pass++;
    quotas->looked_ms = loop_now_ms(quotas->core->loop);
    app_manager_each_slot(quotas->core->apps, look_at_slot_quota, quotas);
    sweep_own_quotas(quotas);
    if (quotas->out.length != 0)
        tell_quotas(quotas, 0, 0, true);
}

static void tell_whole(struct quotas *quotas) {
    uint32_t part = 0;

    tell_changes(quotas);
    quotas->whole_due = false;
    quotas->whole_due_ms = loop_now_ms(quotas->core->loop) + QUOTAS_WHOLE_MS;
    quotas->whole++;
    for (struct list *link = quotas->own_list.next; link != &quotas->own_list; link = link->next) {
        const struct own_quota *own = container_of(link, struct own_quota, link);

        message_add_quota(&quotas->out, &(struct message_quota){own->node.text, own->told});
        if (quotas->out.length >= MESSAGE_LIST_BYTES - 512)
            tell_quotas(quotas, quotas->whole, part++, false);
    }
    tell_quotas(quotas, quotas->whole, part, true);
}

static void on_quotas_timer(struct loop_timer *timer) {
    struct quotas *quotas = container_of(timer, struct quotas, timer);
    struct cluster_core *core = quotas->core;

    if (nodes_alive(core->nodes) == 0)
        return;
    loop_timer_set(core->loop, timer, QUOTAS_TELL_MS);
    if (!nodes_are_up(core->nodes))
        return;
    if (quotas->whole_due || loop_now_ms(core->loop) >= quotas->whole_due_ms)
        tell_whole(quotas);
    else
        tell_changes(quotas);
}

/* For a hello, of which others can cause many: what changed a moment ago is told with the next changes. */
static void look_for_hello(struct quotas *quotas) {
    uint64_t now_ms = loop_now_ms(quotas->core->loop);

    if (quotas->pass != 0 && now_ms - quotas->looked_ms < QUOTAS_LOOK_MS)
        return;
    tell_changes(quotas);
}

/* All apps in the hello; if they are too many, those that fit, and all of them follow. */
static void say_quotas(void *context, struct message_hello *hello) {
    struct quotas *quotas = context;
    bool all = true;

    if (quotas->core->apps == NULL)
        return;
    look_for_hello(quotas);
    quotas->hello.length = 0;
    for (struct list *link = quotas->own_list.next; link != &quotas->own_list && all; link = link->next) {
        const struct own_quota *own = container_of(link, struct own_quota, link);

        message_add_quota(&quotas->hello, &(struct message_quota){own->node.text, own->told});
        all = quotas->hello.length < HELLO_QUOTAS_BYTES;
    }
    quotas->whole_due |= !all;
    hello->quotas =
        (struct message_quotas){.whole = ++quotas->whole, .last = all, .apps = buffer_slice(&quotas->hello)};
}

/* --- what the others tell --- */

static void remove_quota_app(struct quotas *quotas, struct quota_app *app) {
    name_table_remove(&quotas->others, &app->node);
    list_remove(&app->link);
    quotas->other_count--;
    budget_give(BUDGET_CLUSTER, NULL, sizeof *app + app->node.text.length + app->count * sizeof app->list[0]);
    free(app->list);
    free(app);
}

/* Drops the count of one node; the app goes with the last one. */
static void drop_node_quota(struct quotas *quotas, struct quota_app *app, unsigned at) {
    app->connections -= app->list[at].connections;
    app->list[at] = app->list[app->count - 1];
    if (app->count == 1) {
        remove_quota_app(quotas, app);
        return;
    }
    app->count--;
    budget_give(BUDGET_CLUSTER, NULL, sizeof app->list[0]);
}

static struct quota_app *add_quota_app(struct quotas *quotas, struct slice id, uint64_t hash) {
    struct reclaim_batch unlinked = {0};
    struct quota_app *app;

    if (quotas->other_count >= QUOTA_APPS_MAX || !budget_has_room(BUDGET_CLUSTER, NULL, 0))
        return NULL;
    app = malloc(sizeof *app + id.length);
    if (app == NULL)
        return NULL;
    *app = (struct quota_app){.node = {.hash = hash, .text = {app->id, id.length}}};
    memcpy(app->id, id.data, id.length);
    list_append(&quotas->other_list, &app->link);
    name_table_add(&quotas->others, &app->node, &unlinked);
    reclaim_batch_free(&unlinked);
    quotas->other_count++;
    budget_add(BUDGET_CLUSTER, NULL, sizeof *app + id.length);
    return app;
}

static struct quota_app *find_quota_app(const struct quotas *quotas, struct slice id, uint64_t hash) {
    struct name_node *node = name_table_find(&quotas->others, id, hash);

    return node != NULL ? container_of(node, struct quota_app, node) : NULL;
}

/* The place of the node's count; `count` if there is none. */
static unsigned find_node_quota(const struct quota_app *app, unsigned node) {
    unsigned at = 0;

    while (at < app->count && app->list[at].node != node)
        at++;
    return at;
}

static void set_quota(struct quotas *quotas, unsigned node, const struct message_quota *said) {
    uint64_t hash = hash_bytes(said->app);
    struct quota_app *app = find_quota_app(quotas, said->app, hash);
    uint32_t connections = said->connections < UINT32_MAX ? (uint32_t)said->connections : UINT32_MAX;
    unsigned at;

    if (app == NULL && connections != 0)
        app = add_quota_app(quotas, said->app, hash);
    if (app == NULL)
        return;
    at = find_node_quota(app, node);
    if (at == app->count) {
        if (connections == 0)
            return;
        app->list = alloc_array(app->list, app->count + 1, sizeof app->list[0]);
        app->list[app->count++] = (struct node_quota){.node = node};
        budget_add(BUDGET_CLUSTER, NULL, sizeof app->list[0]);
    }
    app->connections += connections;
    app->connections -= app->list[at].connections;
    app->list[at].connections = connections;
    app->list[at].whole = quotas->rows[node].whole;
    if (connections == 0)
        drop_node_quota(quotas, app, at);
}

/* Drops the node's counts that the row of parts did not name; 0: all of them. */
static void drop_quotas(struct quotas *quotas, unsigned node, uint64_t whole) {
    for (struct list *link = quotas->other_list.next, *next; link != &quotas->other_list; link = next) {
        struct quota_app *app = container_of(link, struct quota_app, link);
        unsigned at = find_node_quota(app, node);

        next = link->next;
        if (at < app->count && (whole == 0 || app->list[at].whole != whole))
            drop_node_quota(quotas, app, at);
    }
}

static void follow_row(struct whole_row *row, const struct message_quotas *said) {
    if (said->part == 0)
        *row = (struct whole_row){said->whole, 1};
    else if (row->whole == said->whole && row->next_part == said->part)
        row->next_part++;
    else
        row->whole = 0;
}

static void take_quotas(struct quotas *quotas, unsigned node, const struct message_quotas *said) {
    struct slice rest = said->apps;
    struct message_quota quota;

    if (said->whole != 0)
        follow_row(&quotas->rows[node], said);
    pthread_mutex_lock(&quotas->mutex);
    while (message_next_quota(&rest, &quota))
        set_quota(quotas, node, &quota);
    if (said->whole != 0 && said->last && quotas->rows[node].whole == said->whole)
        drop_quotas(quotas, node, said->whole);
    pthread_mutex_unlock(&quotas->mutex);
}

static bool on_quotas(void *context, unsigned node, const struct cluster_message *message, struct bus_message *bytes) {
    (void)bytes;
    take_quotas(context, node, &message->quotas);
    return false;
}

uint64_t quotas_of_others(struct quotas *quotas, struct slice app) {
    uint64_t connections = 0, hash = hash_bytes(app);
    const struct quota_app *found;

    pthread_mutex_lock(&quotas->mutex);
    found = find_quota_app(quotas, app, hash);
    if (found != NULL)
        connections = found->connections;
    pthread_mutex_unlock(&quotas->mutex);
    return connections;
}

/* --- the part --- */

static void on_quotas_hello(void *context, unsigned node, const struct message_hello *hello) {
    take_quotas(context, node, &hello->quotas);
}

static void on_quotas_node(void *context, unsigned node) {
    struct quotas *quotas = context;

    (void)node;
    if (quotas->core->apps == NULL || loop_timer_is_set(&quotas->timer))
        return;
    quotas->whole_due_ms = loop_now_ms(quotas->core->loop) + QUOTAS_WHOLE_MS;
    loop_timer_set(quotas->core->loop, &quotas->timer, QUOTAS_TELL_MS);
}

static void on_quotas_node_left(void *context, unsigned node) {
    struct quotas *quotas = context;

    quotas->rows[node] = (struct whole_row){0};
    pthread_mutex_lock(&quotas->mutex);
    drop_quotas(quotas, node, 0);
    pthread_mutex_unlock(&quotas->mutex);
}

static void on_quotas_node_replaced(void *context, unsigned before, unsigned now) {
    on_quotas_node_left(context, before);
    on_quotas_node(context, now);
}

static void dispose_quotas(void *context) {
    struct quotas *quotas = context;

    loop_timer_end(quotas->core->loop, &quotas->timer);
    while (!list_empty(&quotas->own_list))
        remove_own_quota(quotas, container_of(quotas->own_list.next, struct own_quota, link));
    while (!list_empty(&quotas->other_list))
        remove_quota_app(quotas, container_of(quotas->other_list.next, struct quota_app, link));
    name_table_dispose(&quotas->own);
    name_table_dispose(&quotas->others);
    pthread_mutex_destroy(&quotas->mutex);
    buffer_dispose(&quotas->out);
    buffer_dispose(&quotas->hello);
    free(quotas);
}

struct quotas *quotas_create(struct cluster_core *core) {
    struct quotas *quotas = alloc_zero(sizeof *quotas);
    const struct cluster_part part = {
        .node_came = on_quotas_node,
        .node_left = on_quotas_node_left,
        .node_replaced = on_quotas_node_replaced,
        .say_hello = say_quotas,
        .hello = on_quotas_hello,
        .dispose = dispose_quotas,
        .context = quotas,
    };

    quotas->core = core;
    quotas->timer.fire = on_quotas_timer;
    pthread_mutex_init(&quotas->mutex, NULL);
    name_table_init(&quotas->own);
    name_table_init(&quotas->others);
    list_init(&quotas->own_list);
    list_init(&quotas->other_list);
    cluster_core_add_part(core, &part);
    cluster_core_handle(core, MESSAGE_QUOTAS, on_quotas, false, quotas);
    return quotas;
}
