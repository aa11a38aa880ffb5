#include "store/sqlite/sqlite_sleep.h"

#include <pthread.h>
#include <sqlite3.h>

static _Thread_local struct deadline deadline; /* ended, until there is one */
static pthread_once_t registered = PTHREAD_ONCE_INIT;
static sqlite3_vfs vfs;

static int sleep_patiently(sqlite3_vfs *own, int microseconds) {
    (void)own;
    if (deadline_remaining_ms(&deadline) != 0)
        deadline_sleep(&deadline, ((uint32_t)microseconds + 999) / 1000);
    return microseconds;
}

static void register_vfs(void) {
    vfs = *sqlite3_vfs_find(NULL);
    vfs.pNext = NULL;
    vfs.zName = "curlew";
    vfs.xSleep = sleep_patiently;
    sqlite3_vfs_register(&vfs, 0);
}

const char *sqlite_sleep_vfs(void) {
    pthread_once(&registered, register_vfs);
    return vfs.zName;
}

void sqlite_sleep_within(const struct deadline *of_operation) {
    deadline = *of_operation;
}
