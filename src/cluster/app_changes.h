/*
 * Changes of apps in the store, from the node that made one or heard of it to all others, which read the app again at
 * once.
 *
 * A write through the admin API is told at once. A notice of the store may reach every node by itself, so it is told
 * after a short time that differs between nodes, unless another node has told it meanwhile. Changes wait in the queue
 * of an outage, and after one all apps that are held are read again. With the app manager `memory` nothing is told:
 * each node reads its own file.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"
#include "cluster/cluster_core.h"
#include "cluster/publisher.h"

struct app_changes_part;

/* Adds the part to the core, which frees it. */
struct app_changes_part *app_changes_create(struct cluster_core *core, struct publisher *publisher);

/* An app was changed; a key may be empty. `meant`: by a person through this node; else a notice of the store. Any
 * thread. */
void app_changes_note(struct app_changes_part *changes, struct slice id, struct slice old_key, struct slice new_key,
                      bool meant);
