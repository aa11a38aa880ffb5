/*
 * Other nodes of the world of fuzz_world.c, if an input wants them: they have members of presence channels. What
 * channels say through their hooks is answered at the end of the turn, and who waits for that goes on in it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "channel/remote.h"

#define WORLD_NODES 2 /* with the numbers 1 and 2 */

/* Begins an input; nobody is connected. `present`: there are other nodes. */
void world_nodes_begin(struct channel_hub *hub, struct workers *workers, bool present);

/* Answers notices; true if somebody goes on. */
bool world_nodes_answer(void);

/* The users that other nodes have in a presence channel: a bit for each. */
unsigned world_nodes_members(unsigned app, const char *channel);

/* A user comes to a node or leaves it; or the node tells its whole set; or it is gone. */
enum world_node_event { NODE_CHANGES, NODE_TELLS_ALL, NODE_GOES };
void world_nodes_happen(enum world_node_event event, struct app_slot *slot, unsigned app, unsigned node,
                        const char *channel, unsigned user);
