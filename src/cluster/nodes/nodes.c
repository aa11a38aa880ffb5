#include "cluster/nodes/nodes.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

/* `hello` is said so often after the bus came up, with this time between. */
#define HELLO_TIMES 3
#define HELLO_STEP_MS 250

/* How long those that were alive before are waited for after the bus came up. */
#define GATHER_MS 1000

/* How long ids of nodes that left are remembered. */
#define GONE_MS (60 * 60 * UINT64_C(1000))
/* What was said before a bye may come so long after it. */
#define LATE_MS 5000
/* Between two times that a dead node is told so. */
#define GONE_TOLD_MS 100

/* Strangers are asked for their hello so often in a second. */
#define STRANGERS_PER_S 100

/* Hellos are answered so often in a second: three of each of the most nodes, and twice as many. */
#define ANSWERS_PER_S 400

/* nodes_run is called at least so often in a heartbeat interval. */
#define RUNS_PER_HEARTBEAT 4

/* An id that is not to come back. */
struct gone_node {
    struct node_id id;
    bool dead; /* else it said bye, or was replaced */
    uint64_t since_ms, told_ms;
};

/* How often something was done in this second. */
struct per_second {
    uint64_t begin_ms;
    unsigned count;
};

struct nodes {
    struct nodes_settings settings;
    struct nodes_hooks hooks;
    struct node_id own, replaced;
    struct node table[NODES_MAX]; /* [0] is not used */
    uint64_t alive;               /* a bit for each */
    uint8_t version;

    bool up, gathering;
    bool expects; /* since the bus came up */
    uint64_t expected;
    unsigned hellos_left;
    uint64_t hello_due_ms, gather_due_ms, down_since_ms;
    uint64_t ran_ms, spoke_ms, came_ms;
    uint64_t refused_ms; /* when a node was refused last; 0: never */
    struct per_second strangers, answers;

    struct gone_node gone[NODES_GONE_MAX];
    unsigned gone_at;
};

struct nodes *nodes_create(const struct nodes_settings *settings, const struct nodes_hooks *hooks, uint64_t now_ms) {
    struct nodes *nodes = alloc_zero(sizeof *nodes);

    nodes->settings = *settings;
    nodes->hooks = *hooks;
    nodes->own = node_id_draw();
    nodes->version = settings->versions.highest;
    nodes->ran_ms = nodes->spoke_ms = nodes->down_since_ms = nodes->came_ms = now_ms;
    return nodes;
}

void nodes_destroy(struct nodes *nodes) {
    free(nodes);
}

/* --- the table --- */

const struct node *nodes_at(const struct nodes *nodes, unsigned number) {
    return &nodes->table[number];
}

unsigned nodes_find(const struct nodes *nodes, struct node_id id) {
    for (uint64_t left = nodes->alive; left != 0; left &= left - 1) {
        unsigned number = (unsigned)__builtin_ctzll(left);
        if (node_id_equal(nodes->table[number].id, id))
            return number;
    }
    return 0;
}

uint64_t nodes_alive(const struct nodes *nodes) {
    return nodes->alive;
}

unsigned nodes_alive_count(const struct nodes *nodes) {
    return (unsigned)__builtin_popcountll(nodes->alive);
}

void nodes_hold(struct nodes *nodes, unsigned number) {
    nodes->table[number].holds++;
}

void nodes_release(struct nodes *nodes, unsigned number) {
    struct node *node = &nodes->table[number];

    node->holds--;
    if (node->holds == 0 && node->state == NODE_GONE)
        node->state = NODE_FREE;
}

static void choose_version(struct nodes *nodes) {
    struct message_versions common = nodes->settings.versions;

    for (uint64_t left = nodes->alive; left != 0; left &= left - 1)
        message_versions_narrow(&common, nodes->table[__builtin_ctzll(left)].versions);
    nodes->version = common.highest;
}

static unsigned free_node_number(const struct nodes *nodes) {
    for (unsigned number = 1; number < NODES_MAX; number++)
        if (nodes->table[number].state == NODE_FREE)
            return number;
    return 0;
}

static struct gone_node *find_gone_node(struct nodes *nodes, struct node_id id, uint64_t now_ms) {
    for (unsigned i = 0; i < NODES_GONE_MAX; i++) {
        struct gone_node *gone = &nodes->gone[i];
        if (node_id_equal(gone->id, id) && now_ms - gone->since_ms < GONE_MS)
            return gone;
    }
    return NULL;
}

static void remember_gone_node(struct nodes *nodes, struct node_id id, bool dead, uint64_t now_ms) {
    nodes->gone[nodes->gone_at] = (struct gone_node){.id = id, .dead = dead, .since_ms = now_ms};
    nodes->gone_at = (nodes->gone_at + 1) % NODES_GONE_MAX;
}

/* Takes a node out of the live ones. Its number is free when `left` or `replaced` was told and nobody holds it. */
static void take_node_out(struct nodes *nodes, unsigned number) {
    nodes->alive &= ~(UINT64_C(1) << number);
    nodes->table[number].state = NODE_GONE;
    nodes->table[number].holds++;
    choose_version(nodes);
}

static void remove_node(struct nodes *nodes, unsigned number) {
    take_node_out(nodes, number);
    nodes->hooks.left(nodes->hooks.context, number);
    nodes_release(nodes, number);
}

static void log_node(const struct node *node, const char *what) {
    log_info("cluster", "node %s (%s) %s", node->name, node->address, what);
}

/* --- this node --- */

struct node_id nodes_own_id(const struct nodes *nodes) {
    return nodes->own;
}

struct node_id nodes_replaced_id(const struct nodes *nodes) {
    return nodes->replaced;
}

uint8_t nodes_version(const struct nodes *nodes) {
    return nodes->version;
}

static void start_silence_anew(struct nodes *nodes, uint64_t now_ms) {
    for (uint64_t left = nodes->alive; left != 0; left &= left - 1)
        nodes->table[__builtin_ctzll(left)].heard_ms = now_ms;
}

void nodes_up(struct nodes *nodes, uint64_t now_ms) {
    start_silence_anew(nodes, now_ms);
    nodes->up = nodes->gathering = true;
    nodes->expects = false;
    for (uint64_t left = nodes->alive; left != 0; left &= left - 1)
        nodes->table[__builtin_ctzll(left)].awaited = true;
    nodes->spoke_ms = nodes->came_ms = now_ms;
    nodes->gather_due_ms = now_ms + GATHER_MS;
    nodes->hellos_left = HELLO_TIMES;
    nodes->hello_due_ms = now_ms;
}

void nodes_down(struct nodes *nodes, uint64_t now_ms) {
    nodes->up = nodes->gathering = false;
    nodes->hellos_left = 0;
    nodes->down_since_ms = now_ms;
}

bool nodes_are_up(const struct nodes *nodes) {
    return nodes->up;
}

static void rename_own_node(struct nodes *nodes, const char *why) {
    struct node_id before = nodes->own;

    log_warning("cluster", "this node takes a new id: %s", why);
    nodes->replaced = before;
    nodes->own = node_id_draw();
    nodes->up = nodes->gathering = false; /* until the new inbox is in force */
    nodes->hellos_left = 0;
    nodes->hooks.renamed(nodes->hooks.context, before);
}

static bool is_still_awaited(const struct nodes *nodes) {
    for (uint64_t left = nodes->alive; left != 0; left &= left - 1)
        if (nodes->table[__builtin_ctzll(left)].awaited)
            return true;
    return false;
}

static void look_if_gathered(struct nodes *nodes, uint64_t now_ms) {
    if (!nodes->gathering || (now_ms < nodes->gather_due_ms && is_still_awaited(nodes)))
        return;
    nodes->gathering = false;
    nodes->hooks.gathered(nodes->hooks.context);
}

static void say_due_hello(struct nodes *nodes, uint64_t now_ms) {
    if (nodes->hellos_left == 0 || now_ms < nodes->hello_due_ms)
        return;
    nodes->hellos_left--;
    nodes->hello_due_ms += HELLO_STEP_MS;
    nodes->hooks.say_hello(nodes->hooks.context, NULL, false);
    nodes->spoke_ms = now_ms;
}

static void declare_dead(struct nodes *nodes, unsigned number, uint64_t now_ms) {
    struct node_id id = nodes->table[number].id;

    log_node(&nodes->table[number], "is silent: it is taken for dead");
    remember_gone_node(nodes, id, true, now_ms);
    nodes->hooks.say_dead(nodes->hooks.context, id, NULL);
    nodes->hooks.say_dead(nodes->hooks.context, id, &id);
    remove_node(nodes, number);
}

static void look_for_silent_nodes(struct nodes *nodes, uint64_t now_ms) {
    for (uint64_t left = nodes->alive; left != 0; left &= left - 1) {
        unsigned number = (unsigned)__builtin_ctzll(left);
        if (now_ms - nodes->table[number].heard_ms >= nodes->settings.timeout_ms)
            declare_dead(nodes, number, now_ms);
    }
}

/* The bus has been down for so long that what the others had is not shown any more. They may come back. */
static void forget_all_nodes(struct nodes *nodes) {
    for (uint64_t left = nodes->alive; left != 0; left &= left - 1)
        remove_node(nodes, (unsigned)__builtin_ctzll(left));
}

static void run_nodes_up(struct nodes *nodes, bool late, uint64_t now_ms) {
    if (late) {
        start_silence_anew(nodes, now_ms);
        if (now_ms - nodes->spoke_ms >= nodes->settings.timeout_ms) {
            rename_own_node(nodes, "it was silent for longer than adapter.cluster_health.node_timeout_ms");
            return;
        }
    }
    say_due_hello(nodes, now_ms);
    look_if_gathered(nodes, now_ms);
    if (now_ms - nodes->spoke_ms >= nodes->settings.heartbeat_ms) {
        nodes->hooks.say_heartbeat(nodes->hooks.context);
        nodes->spoke_ms = now_ms;
    }
    look_for_silent_nodes(nodes, now_ms);
}

static void due_earlier(uint64_t *due_ms, uint64_t at_ms) {
    if (at_ms < *due_ms)
        *due_ms = at_ms;
}

static uint64_t next_nodes_run(const struct nodes *nodes, uint64_t now_ms) {
    uint64_t due_ms = now_ms + nodes->settings.heartbeat_ms / RUNS_PER_HEARTBEAT;

    if (!nodes->up)
        return due_ms;
    if (nodes->hellos_left != 0)
        due_earlier(&due_ms, nodes->hello_due_ms);
    if (nodes->gathering)
        due_earlier(&due_ms, nodes->gather_due_ms);
    due_earlier(&due_ms, nodes->spoke_ms + nodes->settings.heartbeat_ms);
    for (uint64_t left = nodes->alive; left != 0; left &= left - 1)
        due_earlier(&due_ms, nodes->table[__builtin_ctzll(left)].heard_ms + nodes->settings.timeout_ms);
    return due_ms > now_ms ? due_ms : now_ms;
}

uint64_t nodes_run(struct nodes *nodes, uint64_t now_ms) {
    bool late = now_ms - nodes->ran_ms > nodes->settings.heartbeat_ms;

    nodes->ran_ms = now_ms;
    if (nodes->up)
        run_nodes_up(nodes, late, now_ms);
    else if (nodes->alive != 0 && now_ms - nodes->down_since_ms >= nodes->settings.outage_ms)
        forget_all_nodes(nodes);
    return next_nodes_run(nodes, now_ms);
}

/* --- what was heard --- */

/* A dead node that still speaks has not heard it. */
static void tell_gone_node(struct nodes *nodes, struct gone_node *gone, uint64_t now_ms) {
    if (!gone->dead || now_ms - gone->told_ms < GONE_TOLD_MS)
        return;
    gone->told_ms = now_ms;
    nodes->hooks.say_dead(nodes->hooks.context, gone->id, &gone->id);
}

/* What others make this node say is bounded: whoever can write to the bus can make up ids and hellos. */
static bool may_do_in_second(struct per_second *done, unsigned most, uint64_t now_ms) {
    if (now_ms - done->begin_ms >= 1000)
        *done = (struct per_second){.begin_ms = now_ms};
    return done->count++ < most;
}

enum nodes_sender nodes_heard(struct nodes *nodes, struct node_id sender, bool is_hello, unsigned *number,
                              uint64_t now_ms) {
    struct gone_node *gone;

    if (node_id_equal(sender, nodes->own) || node_id_equal(sender, nodes->replaced))
        return NODES_SELF;
    if (node_id_is_none(sender))
        return NODES_DROP;
    *number = nodes_find(nodes, sender);
    if (*number != 0) {
        nodes->table[*number].heard_ms = now_ms;
        nodes->table[*number].heard_wall_ms = clock_wall_ms();
        return NODES_KNOWN;
    }
    gone = find_gone_node(nodes, sender, now_ms);
    if (gone != NULL) {
        tell_gone_node(nodes, gone, now_ms);
        return !gone->dead && now_ms - gone->since_ms < LATE_MS ? NODES_LEFT : NODES_DROP;
    }
    if (is_hello)
        return NODES_UNKNOWN;
    if (nodes->up && may_do_in_second(&nodes->strangers, STRANGERS_PER_S, now_ms))
        nodes->hooks.say_hello(nodes->hooks.context, &sender, false);
    return NODES_UNKNOWN;
}

static void copy_node_text(char text[NODE_TEXT_MAX], struct slice from) {
    size_t length = from.length < NODE_TEXT_MAX - 1 ? from.length : NODE_TEXT_MAX - 1;

    memcpy(text, from.data, length);
    text[length] = '\0';
}

static void take_hello(struct nodes *nodes, struct node *node, const struct node_hello *hello) {
    const struct message_versions own = nodes->settings.versions;

    copy_node_text(node->name, hello->name);
    copy_node_text(node->address, hello->address);
    node->versions = hello->versions;
    node->started_ms = hello->started_ms;
    node->load = hello->load;
    node->awaited = false;
    node->no_version = !message_versions_narrow(&(struct message_versions){own.lowest, own.highest}, node->versions);
    choose_version(nodes);
}

static void refuse_node(struct nodes *nodes, const struct node_hello *hello, uint64_t now_ms) {
    if (nodes->refused_ms == 0 || now_ms - nodes->refused_ms >= nodes->settings.timeout_ms)
        log_error("cluster", "node %.*s (%.*s) is refused: %d others are the most", SLICE_ARGS(hello->name),
                  SLICE_ARGS(hello->address), NODES_MAX - 1);
    nodes->refused_ms = now_ms;
}

static void log_versions(const struct nodes *nodes, const struct node *node) {
    if (node->no_version)
        log_error("cluster",
                  "node %s (%s) speaks versions %u to %u, this one %u to %u: they cannot work together; "
                  "upgrade one of them",
                  node->name, node->address, node->versions.lowest, node->versions.highest,
                  nodes->settings.versions.lowest, nodes->settings.versions.highest);
}

/* Enters a node that says hello for the first time. */
static unsigned enter_node(struct nodes *nodes, struct node_id sender, const struct node_hello *hello,
                           uint64_t now_ms) {
    unsigned number = free_node_number(nodes), before = nodes_find(nodes, hello->replaces);
    struct node *node = &nodes->table[number];

    if (number == 0) {
        refuse_node(nodes, hello, now_ms);
        return 0;
    }
    *node = (struct node){.id = sender, .state = NODE_ALIVE, .heard_ms = now_ms};
    node->renamed = !node_id_is_none(hello->replaces);
    node->heard_wall_ms = node->came_wall_ms = clock_wall_ms();
    nodes->alive |= UINT64_C(1) << number;
    nodes->came_ms = now_ms;
    take_hello(nodes, node, hello);
    log_node(node, before != 0 ? "has a new id" : "is there");
    log_versions(nodes, node);
    if (before == 0) {
        nodes->hooks.came(nodes->hooks.context, number);
        return number;
    }
    remember_gone_node(nodes, hello->replaces, false, now_ms);
    take_node_out(nodes, before);
    nodes->hooks.replaced(nodes->hooks.context, before, number);
    nodes_release(nodes, before);
    return number;
}

unsigned nodes_hello(struct nodes *nodes, struct node_id sender, const struct node_hello *hello, bool answer,
                     uint64_t now_ms) {
    unsigned number = nodes_find(nodes, sender);

    if (number != 0)
        take_hello(nodes, &nodes->table[number], hello);
    else
        number = enter_node(nodes, sender, hello, now_ms);
    if (number != 0 && answer && nodes->up && may_do_in_second(&nodes->answers, ANSWERS_PER_S, now_ms))
        nodes->hooks.say_hello(nodes->hooks.context, &sender, true);
    look_if_gathered(nodes, now_ms);
    return number;
}

void nodes_heartbeat(struct nodes *nodes, unsigned number, const struct node_load *load) {
    nodes->table[number].load = *load;
}

void nodes_bye(struct nodes *nodes, struct node_id sender, uint64_t now_ms) {
    unsigned number = nodes_find(nodes, sender);

    if (number == 0)
        return;
    log_node(&nodes->table[number], "has said bye");
    remember_gone_node(nodes, sender, false, now_ms);
    remove_node(nodes, number);
    look_if_gathered(nodes, now_ms);
}

void nodes_dead(struct nodes *nodes, struct node_id dead, uint64_t now_ms) {
    unsigned number = nodes_find(nodes, dead);

    if (node_id_equal(dead, nodes->own))
        rename_own_node(nodes, "another node took it for dead");
    else if (number != 0 && nodes->up && now_ms - nodes->table[number].heard_ms >= nodes->settings.timeout_ms / 2)
        declare_dead(nodes, number, now_ms);
}

void nodes_expect(struct nodes *nodes, uint64_t others) {
    nodes->expects = true;
    nodes->expected = others;
}

bool nodes_settled(const struct nodes *nodes, uint64_t quiet_ms, uint64_t now_ms) {
    if (!nodes->up)
        return false;
    return nodes->expects ? nodes_alive_count(nodes) >= nodes->expected : now_ms - nodes->came_ms >= quiet_ms;
}

bool nodes_in_trouble(const struct nodes *nodes, uint64_t now_ms) {
    if (nodes->refused_ms != 0 && now_ms - nodes->refused_ms < nodes->settings.timeout_ms)
        return true;
    for (uint64_t left = nodes->alive; left != 0; left &= left - 1)
        if (nodes->table[__builtin_ctzll(left)].no_version)
            return true;
    return false;
}
