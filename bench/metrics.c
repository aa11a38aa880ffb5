/*
 * Effect of GET /metrics on other clients: the longest turn of a worker while it builds and sends the page, with many
 * idle connections and channels.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "fail.h"
#include "http_answer.h"
#include "load_clients.h"
#include "measure.h"
#include "report.h"
#include "scenario.h"

#define CONNECTIONS 5000
#define MORE_CHANNELS 20 /* additional channels per connection */
#define IN_FLIGHT 256
#define SCRAPES 20
#define SETTLE_NS 1000000000u
#define READ_BYTES 65536
/* The goal is 2 ms. The histogram has bounds at 1 ms and 5 ms, so only turns over 5 ms fail the row. */
#define LIMIT_SECONDS 0.005
#define BUCKETS 32

/* Closed-loop scraper with one keep-alive connection. */
struct scraper {
    struct source source;
    const struct target *target;
    struct buffer request, answer;
    bool answered;
};

/* Histogram of the turns of all workers: number of turns of at most `bounds[i]` seconds; the last has no bound. */
struct turns {
    char bounds[BUCKETS][24];
    uint64_t counts[BUCKETS];
    size_t count;
};

static void scraper_ready(struct source *source, uint32_t events) {
    struct scraper *scraper = (struct scraper *)source;
    struct buffer *answer = &scraper->answer;
    struct http_answer parsed;
    ssize_t count;

    (void)events;
    buffer_reserve(answer, READ_BYTES);
    count = recv(source->fd, answer->data + answer->length, answer->capacity - answer->length, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count <= 0)
        fail("GET /metrics at %s: %s", scraper->target->url, count == 0 ? "the server closed" : strerror(errno));
    answer->length += (size_t)count;
    if (http_answer_parse(buffer_slice(answer), &parsed) == 0)
        return;
    if (parsed.status != 200)
        fail("GET /metrics at %s is answered with %u: name the port of the metrics in --metrics-url",
             scraper->target->url, parsed.status);
    scraper->answered = true;
}

static void scraper_open(struct scraper *scraper, struct bench *bench) {
    *scraper = (struct scraper){.source = {.ready = scraper_ready, .fd = target_connect(&bench->metrics)},
                                .target = &bench->metrics};
    /* no-cache: the server builds a new page for each scrape, which is the most expensive case. */
    buffer_appendf(&scraper->request, "GET /metrics HTTP/1.1\r\nHost: %s\r\nCache-Control: no-cache\r\n\r\n",
                   bench->metrics.host);
    poller_add(&bench->poller, &scraper->source, POLLER_PROMPT);
}

static void scraper_close(struct scraper *scraper) {
    close(scraper->source.fd);
    buffer_dispose(&scraper->request);
    buffer_dispose(&scraper->answer);
}

/* Scrapes once and stores the response in scraper->answer. */
static void scrape_page(struct scraper *scraper, struct poller *poller) {
    size_t sent = 0;

    scraper->answer.length = 0;
    scraper->answered = false;
    while (sent < scraper->request.length) { /* the socket may still be connecting */
        ssize_t count =
            send(scraper->source.fd, scraper->request.data + sent, scraper->request.length - sent, MSG_NOSIGNAL);
        if (count < 0 && errno != EAGAIN && errno != EINTR && errno != ENOTCONN)
            fail("GET /metrics at %s: %s", scraper->target->url, strerror(errno));
        if (count > 0)
            sent += (size_t)count;
    }
    while (!scraper->answered)
        poller_turn(poller);
}

/* Reads the histogram loop_lag_seconds of the page and adds up the counts of all workers. */
static void read_turns(struct scraper *scraper, struct turns *turns) {
    static const char name[] = "loop_lag_seconds_bucket{";
    const char *line;

    *turns = (struct turns){0};
    buffer_append_byte(&scraper->answer, '\0');
    for (line = strstr(scraper->answer.data, name); line != NULL; line = strstr(line + 1, name)) {
        const char *bound = strstr(line, "le=\""), *value = strchr(line, '}');
        char text[24];
        size_t at = 0;

        if (bound == NULL || value == NULL || sscanf(bound, "le=\"%23[^\"]", text) != 1)
            continue;
        while (at < turns->count && strcmp(turns->bounds[at], text) != 0)
            at++;
        if (at == BUCKETS)
            continue;
        if (at == turns->count)
            memcpy(turns->bounds[turns->count++], text, sizeof text);
        turns->counts[at] += strtoull(value + 1, NULL, 10);
    }
    if (turns->count == 0)
        fail("the page of %s has no loop_lag_seconds: this scenario measures Curlew only", scraper->target->url);
}

/* Returns the bound of the longest turn between two pages. Counts of a Prometheus histogram are cumulative. */
static const char *longest_turn(const struct turns *before, const struct turns *after) {
    const char *bound = "0";
    uint64_t below = 0;

    for (size_t i = 0; i < after->count; i++) {
        uint64_t turns = after->counts[i] - before->counts[i];
        if (turns > below)
            bound = after->bounds[i];
        below = turns;
    }
    return bound;
}

static void measure_scrapes(struct bench *bench, struct row *row) {
    struct turns idle_from, from, to;
    const char *idle, *scraping;
    struct scraper scraper;

    scraper_open(&scraper, bench);
    scrape_page(&scraper, &bench->poller);
    read_turns(&scraper, &idle_from);
    measure_pause(SETTLE_NS);
    scrape_page(&scraper, &bench->poller);
    read_turns(&scraper, &from);
    for (unsigned i = 0; i < SCRAPES; i++) {
        uint64_t began_ns = clock_monotonic_ns();
        scrape_page(&scraper, &bench->poller);
        histogram_add((struct histogram *)row->latencies, clock_monotonic_ns() - began_ns);
    }
    snprintf(row->load, sizeof row->load, "%d connections, %d channels", CONNECTIONS,
             CONNECTIONS * (1 + MORE_CHANNELS));
    read_turns(&scraper, &to);
    idle = longest_turn(&idle_from, &from);
    scraping = longest_turn(&from, &to);
    row->failed = strcmp(scraping, "+Inf") == 0 || strtod(scraping, NULL) > LIMIT_SECONDS;
    snprintf(row->note, sizeof row->note, "longest turn of a worker: at most %s s, without scrapes %s s; page %.0f KB",
             scraping, idle, (double)scraper.answer.length / 1024);
    scraper_close(&scraper);
}

void scenario_metrics(struct bench *bench) {
    struct row row = row_init("metrics", "scrape");
    struct histogram *latencies = alloc_zero(sizeof *latencies);
    struct load_clients clients;

    row.latencies = latencies;
    load_clients_init(&clients, &bench->target, &bench->poller, "bench-metrics", CONNECTIONS, CONNECTIONS);
    load_clients_open(&clients, IN_FLIGHT);
    load_clients_subscribe_more(&clients, MORE_CHANNELS);
    measure_scrapes(bench, &row);
    report_row(&row);
    load_clients_close(&clients, IN_FLIGHT);
    load_clients_dispose(&clients);
    free(latencies);
}
