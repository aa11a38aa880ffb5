/*
 * What nodes say of themselves: hello, heartbeat, bye, dead. It turns messages of the bus into calls of nodes.h, which
 * decides, and says what that asks for. It owns the table of nodes and its timer.
 *
 * On the cluster's thread, but for the functions that say otherwise.
 */
#pragma once

#include "cluster/cluster_core.h"

struct node_messages;

/* Makes core->nodes. The part is added to the core, which disposes of it. `address` is what people know the node by.
 */
struct node_messages *node_messages_create(struct cluster_core *core, struct slice address);

/* True when clients may be listened for: the others have answered, as far as it is known which there are. */
bool node_messages_are_settled(const struct node_messages *messages);

/* Says `bye`, after which this node says nothing more. */
void node_messages_say_bye(struct node_messages *messages);

/* A node of the list that people see. */
struct node_entry {
    struct node_id id;
    bool self;
    uint8_t version;     /* the highest that it speaks */
    uint64_t started_ms; /* wall clock, as for the next; 0: not known */
    uint64_t heard_ms;
    struct node_load load;
    char name[NODE_TEXT_MAX], address[NODE_TEXT_MAX];
};

/* Fills `list` as of at most a second ago, this node first, and returns the number of nodes. Any thread. */
unsigned node_messages_list(struct node_messages *messages, struct node_entry list[NODES_MAX]);
/* True if a node was refused lately, or speaks no version of this one's. Any thread. */
bool node_messages_in_trouble(const struct node_messages *messages);
