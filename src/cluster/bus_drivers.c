#include "cluster/bus.h"
#include "cluster/nats/nats_bus.h"
#include "cluster/redis/redis_bus.h"

static const struct bus_driver *const bus_drivers[] = {
    &redis_bus_driver,
    &redis_cluster_bus_driver,
    &nats_bus_driver,
    NULL,
};

const struct bus_driver *bus_driver_find(struct slice name) {
    for (size_t i = 0; bus_drivers[i] != NULL; i++)
        if (slice_equal(slice_of(bus_drivers[i]->name), name))
            return bus_drivers[i];
    return NULL;
}

const char *bus_driver_name(size_t index) {
    return bus_drivers[index] != NULL ? bus_drivers[index]->name : NULL;
}
