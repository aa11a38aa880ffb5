#include "cluster/cluster_core.h"

#include <assert.h>

void cluster_core_add_part(struct cluster_core *core, const struct cluster_part *part) {
    assert(core->part_count < CLUSTER_PARTS_MAX);
    core->parts[core->part_count++] = *part;
}

void cluster_core_handle(struct cluster_core *core, unsigned kind, cluster_handler *handle, bool strangers,
                         void *context) {
    assert(kind < CLUSTER_KINDS && core->kinds[kind].handle == NULL);
    core->kinds[kind].handle = handle;
    core->kinds[kind].strangers = strangers;
    core->kinds[kind].context = context;
}

bool cluster_core_publish(struct cluster_core *core, struct slice subject, struct bus_bytes *bytes) {
    if (!core->up || !core->bus->driver->publish(core->bus, subject, bytes)) {
        counter_add(&core->unsent, 1);
        return false;
    }
    return true;
}

void cluster_core_left(struct cluster_core *core) {
    assert(core->leaving > 0);
    if (--core->leaving == 0)
        core->all_left(core->all_left_context);
}
