#include "base/core_dump.h"

#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static struct rlimit before;
static bool forbidden;

void core_dump_forbid(void) {
    forbidden = getrlimit(RLIMIT_CORE, &before) == 0;
    if (forbidden)
        setrlimit(RLIMIT_CORE, &(struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max});
    prctl(PR_SET_DUMPABLE, 0);
}

__attribute__((no_sanitize("address", "thread", "undefined"))) void core_dump_restore_limit(void) {
    if (forbidden)
        setrlimit(RLIMIT_CORE, &before);
}

void core_dump_allow(void) {
    core_dump_restore_limit();
    prctl(PR_SET_DUMPABLE, 1);
}
