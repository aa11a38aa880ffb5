#include "server/memory_limit.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "base/memory_usage.h"

#define MB UINT64_C(1048576)
/* Without `memory.limit_mb`. The rest is for what is not counted: the server itself, and the gaps that freed memory
 * leaves. */
#define DEFAULT_PERCENT 75
#define LEAST_BYTES (16 * MB)

static void apply_setting(uint64_t limit, const struct memory_usage *usage) {
    budget_set_limit(limit);
    if (limit > usage->total_bytes && usage->total_bytes != 0)
        log_warning("server",
                    "memory.limit_mb is %llu, but there are only %llu MB of memory: it does not protect the server",
                    (unsigned long long)(limit / MB), (unsigned long long)(usage->total_bytes / MB));
    else
        log_info("server", "clients may take up to %llu MB of memory (memory.limit_mb)",
                 (unsigned long long)(limit / MB));
}

void memory_limit_apply(const struct config *config) {
    struct memory_usage usage = {0};
    uint64_t virtual_bytes = 0, resident_bytes = 0, limit;
    bool known = memory_usage(&usage) && memory_of_process(&virtual_bytes, &resident_bytes);

    if (config->memory.limit_mb.set) {
        apply_setting(config->memory.limit_mb.value * MB, &usage);
        return;
    }
    if (!known) {
        log_warning("server",
                    "the size of the memory is unknown: set memory.limit_mb, so that clients cannot take all");
        return;
    }
    limit = usage.total_bytes / 100 * DEFAULT_PERCENT;
    limit = limit > resident_bytes + LEAST_BYTES ? limit - resident_bytes : LEAST_BYTES;
    budget_set_limit(limit);
    log_info("server", "clients may take up to %llu MB of memory: %d %% of %llu MB, less the %llu MB of the server",
             (unsigned long long)(limit / MB), DEFAULT_PERCENT, (unsigned long long)(usage.total_bytes / MB),
             (unsigned long long)(resident_bytes / MB));
}

bool memory_refusals_due(struct memory_refusals *refusals, uint64_t now_ms, char text[MEMORY_REFUSALS_TEXT]) {
    char kinds[448] = "";
    uint64_t sum = 0;
    size_t length = 0;

    if (now_ms < refusals->next_ms)
        return false;
    for (enum budget_kind kind = 0; kind < BUDGET_KIND_COUNT; kind++) {
        uint64_t total = budget_refusals(kind), count = total - refusals->told[kind];
        refusals->told[kind] = total;
        sum += count;
        if (count != 0 && length < sizeof kinds)
            length += (size_t)snprintf(kinds + length, sizeof kinds - length, "%s%s %" PRIu64, length != 0 ? ", " : "",
                                       budget_kind_names[kind], count);
    }
    if (sum == 0)
        return false;
    refusals->next_ms = now_ms + MEMORY_REFUSALS_MS;
    snprintf(text, MEMORY_REFUSALS_TEXT,
             "no room for what clients ask for: %" PRIu64 " times since the last such line (%s); %" PRIu64
             " of %" PRIu64 " MB are held (memory.limit_mb)",
             sum, kinds, budget_total() / MB, budget_limit() / MB);
    return true;
}
