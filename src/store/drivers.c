#include "store/drivers.h"

static const struct app_store_driver *const drivers[] = {
    [CONFIG_DRIVER_MEMORY] = &memory_store_driver,     [CONFIG_DRIVER_SQLITE] = &sqlite_store_driver,
    [CONFIG_DRIVER_MYSQL] = &mysql_store_driver,       [CONFIG_DRIVER_SCYLLADB] = &scylladb_store_driver,
    [CONFIG_DRIVER_POSTGRES] = &postgres_store_driver, [CONFIG_DRIVER_DYNAMODB] = &dynamodb_store_driver,
};

const struct app_store_driver *app_store_driver_of(enum config_driver driver) {
    return drivers[driver];
}
