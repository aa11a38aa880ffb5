#include "cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/interrupt.h"

#define PLAIN_EVERY 100 /* apps */
#define REDRAW_NS 250000000u
#define SECOND_NS 1000000000u

struct progress progress_begin(bool json) {
    return (struct progress){
        .json = json, .terminal = !json && isatty(STDERR_FILENO) == 1, .began_ns = clock_monotonic_ns()};
}

static bool count_record(void *context, struct slice id, struct app *app, const struct error *broken) {
    size_t *count = context;

    (void)id;
    (void)app;
    (void)broken;
    ++*count;
    return !interrupt_seen();
}

void progress_count(struct progress *progress, struct cli_store *store) {
    struct error ignored;

    if (!progress->terminal)
        return;
    if (!cli_store_walk(store, count_record, &progress->total, &ignored) || interrupt_seen())
        progress->total = 0;
    progress->began_ns = clock_monotonic_ns();
}

static void print_count(const struct progress *progress, size_t count) {
    if (progress->total != 0)
        fprintf(stderr, "%zu of %zu apps", count, progress->total);
    else
        fprintf(stderr, "%zu app%s", count, count == 1 ? "" : "s");
}

/* The rate and the time left, from what was done since the beginning. */
static void print_rate(const struct progress *progress, size_t count, uint64_t now) {
    double seconds = (double)(now - progress->began_ns) / SECOND_NS;
    double rate = seconds > 0 ? (double)count / seconds : 0;
    uint64_t left;

    if (rate <= 0)
        return;
    fprintf(stderr, rate < 10 ? ", %.1f a second" : ", %.0f a second", rate);
    if (progress->total <= count)
        return;
    left = (uint64_t)((double)(progress->total - count) / rate) + 1;
    if (left < 120)
        fprintf(stderr, ", %u s left", (unsigned)left);
    else
        fprintf(stderr, ", %u min left", (unsigned)(left / 60));
}

void progress_show(struct progress *progress, size_t count) {
    uint64_t now;

    if (progress->json)
        return;
    if (!progress->terminal) {
        if (count % PLAIN_EVERY != 0)
            return;
        print_count(progress, count);
        fputc('\n', stderr);
        return;
    }
    now = clock_monotonic_ns();
    if (progress->drawn_ns != 0 && now - progress->drawn_ns < REDRAW_NS)
        return;
    progress->drawn_ns = now;
    progress->drawn = true;
    fputc('\r', stderr);
    print_count(progress, count);
    print_rate(progress, count, now);
    fputs("\033[K", stderr);
}

void progress_clear(struct progress *progress) {
    if (progress->drawn)
        fputs("\r\033[K", stderr);
    progress->drawn = false;
}
