#include "server/check_adapter.h"

#include "base/buffer.h"
#include "cluster/bus.h"

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
