#include "cluster/redis/redis_topology.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void redis_topology_dispose(struct redis_topology *topology) {
    free(topology->masters);
    *topology = (struct redis_topology){0};
}

/* The index of the master, which is added if it is new; REDIS_NO_MASTER: there are too many. */
static uint16_t find_master(struct redis_topology *topology, const struct redis_place *place) {
    for (size_t i = 0; i < topology->master_count; i++)
        if (redis_place_equal(&topology->masters[i], place))
            return (uint16_t)i;
    if (topology->master_count == REDIS_MASTERS_MAX)
        return REDIS_NO_MASTER;
    topology->masters = alloc_array(topology->masters, topology->master_count + 1, sizeof *topology->masters);
    topology->masters[topology->master_count] = *place;
    return (uint16_t)topology->master_count++;
}

static bool is_number_up_to(const struct redis_value *value, long long max) {
    return value->type == REDIS_INTEGER && value->integer >= 0 && value->integer <= max;
}

/* Reads [host, port, ...]. Without a host it is the one that was asked. */
static bool read_node_place(const struct redis_value *node, const struct redis_place *asked,
                            struct redis_place *place) {
    struct slice host;

    if (node->type != REDIS_ARRAY || node->item_count < 2 || !is_number_up_to(node->items[1], UINT16_MAX))
        return false;
    host = redis_value_item_text(node, 0);
    if (host.length == 0 || slice_equal(host, SLICE("?")))
        host = slice_of(asked->host);
    return redis_place_set(place, host, (uint16_t)node->items[1]->integer) && place->port != 0;
}

/* Reads [first, last, master, replica...]. */
static bool read_slot_range(struct redis_topology *topology, const struct redis_value *range,
                            const struct redis_place *asked) {
    struct redis_place place;
    uint16_t owner;

    if (range->type != REDIS_ARRAY || range->item_count < 3 || !is_number_up_to(range->items[0], REDIS_SLOTS - 1) ||
        !is_number_up_to(range->items[1], REDIS_SLOTS - 1) || !read_node_place(range->items[2], asked, &place))
        return false;
    owner = find_master(topology, &place);
    for (long long slot = range->items[0]->integer; owner != REDIS_NO_MASTER && slot <= range->items[1]->integer;
         slot++)
        topology->owners[slot] = owner;
    return owner != REDIS_NO_MASTER;
}

/* Takes the next word of a line; empty: there is none. */
static struct slice take_node_word(struct slice *line) {
    const char *end = line->length > 0 ? memchr(line->data, ' ', line->length) : NULL;
    struct slice word = {line->data, end != NULL ? (size_t)(end - line->data) : line->length};

    *line = slice_skip(*line, word.length + (end != NULL));
    return word;
}

/* Looks for a flag in the text "myself,master". */
static bool node_has_flag(struct slice flags, struct slice flag) {
    while (flags.length > 0) {
        const char *end = memchr(flags.data, ',', flags.length);
        struct slice first = {flags.data, end != NULL ? (size_t)(end - flags.data) : flags.length};

        if (slice_equal(first, flag))
            return true;
        flags = slice_skip(flags, first.length + (end != NULL));
    }
    return false;
}

/* A line is: id address flags master ping pong epoch link slot... */
static void count_node_line(struct slice line, size_t *masters, size_t *reached) {
    struct slice words[9];

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        words[i] = take_node_word(&line);
    if (!node_has_flag(words[2], SLICE("master")) || words[8].length == 0)
        return;
    ++*masters;
    *reached += !node_has_flag(words[2], SLICE("fail")) && !node_has_flag(words[2], SLICE("fail?"));
}

bool redis_nodes_reach_most(const struct redis_value *value) {
    struct slice text = value->text;
    size_t masters = 0, reached = 0;

    if (value->type != REDIS_TEXT)
        return true;
    while (text.length > 0) {
        const char *end = memchr(text.data, '\n', text.length);
        struct slice line = {text.data, end != NULL ? (size_t)(end - text.data) : text.length};

        count_node_line(line, &masters, &reached);
        text = slice_skip(text, line.length + (end != NULL));
    }
    return reached > masters / 2;
}

static bool is_owned(const struct redis_topology *topology, bool partly, struct error *error) {
    if (topology->unowned == 0 || (partly && topology->master_count > 0))
        return true;
    return error_set(error, "%zu of the %d slots of the cluster have no master", topology->unowned, REDIS_SLOTS);
}

static bool read_topology(struct redis_topology *topology, const struct redis_value *value,
                          const struct redis_place *asked, bool partly, struct error *error) {
    struct redis_topology read = {0};
    bool good = value->type == REDIS_ARRAY;

    memset(read.owners, 0xff, sizeof read.owners);
    for (size_t i = 0; good && i < value->item_count; i++)
        good = read_slot_range(&read, value->items[i], asked);
    for (size_t slot = 0; slot < REDIS_SLOTS; slot++)
        read.unowned += read.owners[slot] == REDIS_NO_MASTER;
    if (value->type == REDIS_ERROR)
        error_set(error, "it does not answer CLUSTER SLOTS: %.200s", value->text.data);
    else if (!good)
        error_set(error, "its answer to CLUSTER SLOTS is none");
    if (!good || !is_owned(&read, partly, error)) {
        redis_topology_dispose(&read);
        return false;
    }
    redis_topology_dispose(topology);
    *topology = read;
    return true;
}

bool redis_topology_read(struct redis_topology *topology, const struct redis_value *value,
                         const struct redis_place *asked, struct error *error) {
    return read_topology(topology, value, asked, false, error);
}

bool redis_topology_read_partly(struct redis_topology *topology, const struct redis_value *value,
                                const struct redis_place *asked, struct error *error) {
    return read_topology(topology, value, asked, true, error);
}
