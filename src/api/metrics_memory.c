#include "api/metrics.h"
#include "base/budget.h"
#include "base/memory_usage.h"

static void append_usage(struct metrics_page *page, struct slice labels) {
    struct memory_usage usage;

    if (!memory_usage(&usage))
        return;
    metrics_family(page, "memory_total_bytes", "gauge", "Memory of the machine or control group.");
    metrics_sample(page, labels, usage.total_bytes);
    metrics_family(page, "memory_used_bytes", "gauge", "Memory in use there; what the kernel can reclaim is not.");
    metrics_sample(page, labels, usage.used_bytes);
}

void metrics_append_memory(struct metrics_page *page, struct slice labels) {
    append_usage(page, labels);
    metrics_family(page, "memory_limit_bytes", "gauge", "Memory that clients may make the server hold; 0: no limit.");
    metrics_sample(page, labels, budget_limit());
    metrics_family(page, "memory_held_bytes", "gauge", "Memory that clients make the server hold.");
    for (enum budget_kind kind = 0; kind < BUDGET_KIND_COUNT; kind++)
        metrics_sample_of(page, labels, "kind", budget_kind_names[kind], budget_used(kind));
    metrics_family(page, "memory_refusals_total", "counter", "What was refused because there was no room for it.");
    for (enum budget_kind kind = 0; kind < BUDGET_KIND_COUNT; kind++)
        metrics_sample_of(page, labels, "kind", budget_kind_names[kind], budget_refusals(kind));
}
