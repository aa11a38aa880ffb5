/*
 * The id of a node's run: 128 random bits. Pure functions for any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* All zero: none. */
struct node_id {
    uint64_t high, low;
};

#define NODE_ID_HEX 32

struct node_id node_id_draw(void);

static inline bool node_id_equal(struct node_id a, struct node_id b) {
    return a.high == b.high && a.low == b.low;
}

/* Less than, equal to or greater than 0, as memcmp of the 16 bytes. */
static inline int node_id_compare(struct node_id a, struct node_id b) {
    if (a.high != b.high)
        return a.high < b.high ? -1 : 1;
    return a.low == b.low ? 0 : a.low < b.low ? -1 : 1;
}

static inline bool node_id_is_none(struct node_id id) {
    return (id.high | id.low) == 0;
}

/* Writes 32 lower-case hexadecimal digits and a zero byte. */
void node_id_format(struct node_id id, char hex[NODE_ID_HEX + 1]);
