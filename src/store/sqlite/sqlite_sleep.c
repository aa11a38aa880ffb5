#include "store/sqlite/sqlite_sleep.h"

#include <pthread.h>
#include <sqlite3.h>

/* SQLite calls the VFS without saying for which connection. Before the first operation the deadline has passed. */
static _Thread_local struct deadline thread_deadline;
static pthread_once_t registered = PTHREAD_ONCE_INIT;
static sqlite3_vfs vfs;

static int sleep_until_deadline(sqlite3_vfs *self, int microseconds) {
    (void)self;
    if (deadline_remaining_ms(&thread_deadline) != 0)
        deadline_sleep(&thread_deadline, ((uint32_t)microseconds + 999) / 1000);
    return microseconds;
}

static void register_vfs(void) {
    vfs = *sqlite3_vfs_find(NULL);
    vfs.pNext = NULL;
    vfs.zName = "curlew";
    vfs.xSleep = sleep_until_deadline;
    sqlite3_vfs_register(&vfs, 0);
}

const char *sqlite_sleep_vfs(void) {
    pthread_once(&registered, register_vfs);
    return vfs.zName;
}

void sqlite_sleep_within(const struct deadline *deadline) {
    thread_deadline = *deadline;
}
