#include "server/check_adapter.h"

#include "base/buffer.h"
#include "cluster/bus.h"
#include "cluster/key_store.h"
#include "cluster/loop.h"

bool check_adapter(const struct config *config, struct config_report *report) {
    struct buffer names = {0};

    if (!config_has_adapter(config) || bus_driver_find(slice_of(config->adapter.driver)) != NULL)
        return true;
    buffer_append_string(&names, "local");
    for (size_t i = 0; bus_driver_name(i) != NULL; i++)
        buffer_appendf(&names, ", %s", bus_driver_name(i));
    config_report_error(
        report,
        "%s%sadapter.driver (ADAPTER_DRIVER) must be one of the adapters of this build: %.*s. Nodes that "
        "do not see each other lose events, so no other one is taken in its place; set it to \"local\" "
        "to run one node",
        config->file != NULL ? config->file : "", config->file != NULL ? ": " : "", SLICE_ARGS(buffer_slice(&names)));
    buffer_dispose(&names);
    return false;
}

static bool check_cache_settings(const struct config *config, struct loop *loop, struct error *error) {
    const struct key_store_driver *driver = key_store_driver_of(config);
    const struct key_store_events events = {0};
    struct key_store *store = driver != NULL ? driver->create(loop, config, NULL, &events, error) : NULL;

    if (store != NULL)
        store->driver->destroy(store);
    return driver == NULL || store != NULL;
}

static bool check_bus_settings(const struct config *config, const struct bus_driver *driver, struct loop *loop,
                               struct error *error) {
    const struct bus_events events = {0};
    struct bus *bus = driver->create(loop, config, &events, error);

    if (bus == NULL)
        return false;
    bus->driver->destroy(bus); /* with sharded channels it has another one */
    return check_cache_settings(config, loop, error);
}

bool check_adapter_drivers(const struct config *config, struct config_report *report) {
    const struct bus_driver *driver = bus_driver_find(slice_of(config->adapter.driver));
    struct error error;
    struct loop *loop;
    bool good;

    if (!config_has_adapter(config) || driver == NULL)
        return true;
    loop = loop_create(&error);
    good = loop != NULL && check_bus_settings(config, driver, loop, &error);
    if (!good)
        config_report_error(report, "%s", error.text);
    loop_destroy(loop);
    return good;
}
