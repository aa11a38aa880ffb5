/*
 * curlew-bench: puts load on a server of the Pusher protocol and prints the cost of each operation.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "fail.h"
#include "floor.h"
#include "process.h"
#include "reference.h"
#include "report.h"
#include "scenario.h"

static const struct {
    const char *name;
    void (*run)(struct bench *bench);
    bool by_default;
    unsigned files; /* maximum number of open files */
    const char *does;
} scenarios[] = {
    /* Idle memory comes first: memory that earlier clients left allocated would be reused and not counted. */
    {"idle", scenario_idle, true, 16000, "memory of 15,000 idle subscribed connections"},
    {"floor", scenario_floor, false, 1200, "send() alone, 1, 8 and 32 frames a call"},
    {"fanout", scenario_fanout, true, 1200, "500 subscribers, 1, 8 and 32 publishers, 100-byte events"},
    {"latency", scenario_latency, true, 1200, "500 subscribers, one event every 20 ms"},
    {"fanout-10k", scenario_fanout_10k, true, 12000, "10,000 subscribers, 1 and 8 publishers"},
    {"publish-only", scenario_publish_only, true, 100, "signed publishes that nobody receives, 1 and 32 connections"},
    {"storm", scenario_storm, true, 17000, "8,000 connections subscribing, to 100 channels and to one"},
    {"first-connects", scenario_first_connects, false, 12000, "10,000 connections ask for the app at the same moment"},
    {"unknown-keys", scenario_unknown_keys, false, 1200, "1,000 keys that no app has, asked 20 times each"},
    {"steady", scenario_steady, false, 1200, "500 connects a second, to each of --keys apps in turn"},
    {"outage", scenario_outage, false, 1200, "200 connected clients and 50 connects a second"},
    {"metrics", scenario_metrics, false, 6000, "scrapes of /metrics with 5,000 connections and 105,000 channels"},
    {"compare", scenario_compare, false, 1200, "fan-out on --url and --against-url in turns, and the ratios"},
};
#define SCENARIOS (sizeof scenarios / sizeof scenarios[0])

static void print_help(void) {
    puts(
        "usage: curlew-bench --url http[s]://HOST:PORT --app-id ID --app-key KEY --app-secret SECRET [options]\n"
        "\n"
        "Drives a server of the Pusher protocol and prints what each thing costs it.\n"
        "\n"
        "  --pid PID            the server's process, for CPU and memory from /proc; without it they are '-'\n"
        "  --metrics-url URL    the server's port for /metrics, for metrics\n"
        "  --scenario LIST      names from below, with commas between; default: those with a *\n"
        "  --keys N             the app key is only the beginning of N keys, which have numbers from 1 to N behind it\n"
        "  --seconds N          length of one measurement, default 3\n"
        "  --cpu N              run on this CPU only\n"
        "  --against-url URL    a second server, for compare\n"
        "  --against-pid PID    its process\n"
        "  --against-compress   clients of the second server compress; its events are as large on the wire\n"
        "  --json FILE          write the results there too\n"
        "  --help               this text\n"
        "\n"
        "scenarios:");
    for (size_t i = 0; i < SCENARIOS; i++)
        printf("  %c %-15s %s\n", scenarios[i].by_default ? '*' : ' ', scenarios[i].name, scenarios[i].does);
    puts(
        "\nThe floor and the reference are measured in the same run, in processes on the server's CPU. The app must "
        "allow as many\n"
        "connections and events as it gets: max_connections 0, max_backend_events_per_second 0.\n"
        "Status: 0; 1 if the server refused something or lost events; 2 for a mistake in the command.");
}

static long number_option(const char *name, const char *text, long min, long max) {
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < min || value > max)
        fail_usage("--%s %s: it must be a number from %ld to %ld", name, text, min, max);
    return value;
}

/* Marks the named scenarios; modifies `list`. */
static void select_scenarios(char *list, bool *selected) {
    char *rest;

    memset(selected, 0, SCENARIOS * sizeof selected[0]);
    for (char *name = strtok_r(list, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
        size_t i = 0;
        while (i < SCENARIOS && strcmp(scenarios[i].name, name) != 0)
            i++;
        if (i == SCENARIOS)
            fail_usage("--scenario %s: there is no such scenario", name);
        selected[i] = true;
    }
}

/* Raises the limit of open files to the need of the selected scenarios. */
static void raise_file_limit(const bool *selected) {
    struct rlimit limit;
    unsigned needed = 0;

    for (size_t i = 0; i < SCENARIOS; i++)
        if (selected[i] && scenarios[i].files > needed)
            needed = scenarios[i].files;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < needed)
        fail(
            "%u open files are needed and %llu allowed: raise the hard limit (ulimit -Hn), or choose scenarios with "
            "fewer connections",
            needed, (unsigned long long)limit.rlim_max);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

struct floor *bench_floor(struct bench *bench) {
    if (bench->floor == NULL)
        bench->floor = floor_start(&bench->poller, bench->server_cpu);
    return bench->floor;
}

const struct target *bench_reference(struct bench *bench) {
    if (bench->reference == NULL)
        bench->reference = reference_start(&bench->target, bench->server_cpu);
    return bench->reference;
}

/* Returns the CPU of the floor and the reference: that of a pinned server, else one beside a pinned generator;
 * negative: any. */
static int floor_cpu(const struct target *target, int own_cpu) {
    int cpu = target->pid != 0 ? process_only_cpu(target->pid) : -1;

    if (cpu >= 0 || own_cpu < 0 || sysconf(_SC_NPROCESSORS_ONLN) < 2)
        return cpu;
    return own_cpu == 0 ? 1 : 0;
}

/* Rejects selected scenarios whose second URL is missing. */
static void check_urls(const struct bench *bench, const bool *selected) {
    for (size_t i = 0; i < SCENARIOS; i++) {
        if (selected[i] && scenarios[i].run == scenario_compare && bench->against.url == NULL)
            fail_usage("--scenario compare: --against-url is needed for it");
        if (selected[i] && scenarios[i].run == scenario_metrics && bench->metrics.url == NULL)
            fail_usage("--scenario metrics: --metrics-url is needed for it");
    }
}

enum {
    URL,
    APP_ID,
    APP_KEY,
    APP_SECRET,
    PID,
    METRICS_URL,
    SCENARIO,
    KEYS,
    SECONDS,
    CPU,
    AGAINST_URL,
    AGAINST_PID,
    AGAINST_COMPRESS,
    JSON,
    HELP
};

static const struct option options[] = {
    {"url", required_argument, NULL, URL},
    {"app-id", required_argument, NULL, APP_ID},
    {"app-key", required_argument, NULL, APP_KEY},
    {"app-secret", required_argument, NULL, APP_SECRET},
    {"pid", required_argument, NULL, PID},
    {"metrics-url", required_argument, NULL, METRICS_URL},
    {"scenario", required_argument, NULL, SCENARIO},
    {"keys", required_argument, NULL, KEYS},
    {"seconds", required_argument, NULL, SECONDS},
    {"cpu", required_argument, NULL, CPU},
    {"against-url", required_argument, NULL, AGAINST_URL},
    {"against-pid", required_argument, NULL, AGAINST_PID},
    {"against-compress", no_argument, NULL, AGAINST_COMPRESS},
    {"json", required_argument, NULL, JSON},
    {"help", no_argument, NULL, HELP},
    {NULL, 0, NULL, 0},
};

/* Options of the command line that are not in struct bench. */
struct run_options {
    bool selected[SCENARIOS];
    const char *json; /* path of the results file; NULL: none */
    int cpu;          /* CPU of the generator; negative: any */
};

static void apply_option(int option, char *value, struct bench *bench, struct run_options *run) {
    switch (option) {
    case URL:
        target_set_url(&bench->target, value);
        break;
    case APP_ID:
        bench->target.app_id = value;
        break;
    case APP_KEY:
        bench->target.app_key = value;
        break;
    case APP_SECRET:
        hmac_key_init(&bench->target.secret, slice_of(value));
        bench->has_secret = true;
        break;
    case PID:
        bench->target.pid = (pid_t)number_option("pid", value, 1, 1 << 22);
        break;
    case METRICS_URL:
        target_set_url(&bench->metrics, value);
        break;
    case SCENARIO:
        select_scenarios(value, run->selected);
        break;
    case KEYS:
        bench->keys = (unsigned)number_option("keys", value, 1, 1000000);
        break;
    case SECONDS:
        bench->duration_ns = (uint64_t)number_option("seconds", value, 1, 600) * 1000000000u;
        break;
    case CPU:
        run->cpu = (int)number_option("cpu", value, 0, 1023);
        break;
    case AGAINST_URL:
        target_set_url(&bench->against, value);
        break;
    case AGAINST_PID:
        bench->against.pid = (pid_t)number_option("against-pid", value, 1, 1 << 22);
        break;
    case AGAINST_COMPRESS:
        bench->against.compress = true;
        break;
    case JSON:
        run->json = value;
        break;
    case HELP:
        print_help();
        exit(0);
    default:
        fputs("Try curlew-bench --help.\n", stderr);
        exit(2);
    }
}

static void parse_options(int argc, char **argv, struct bench *bench, struct run_options *run) {
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        apply_option(option, optarg, bench, run);
    if (optind < argc)
        fail_usage("%s: only options are expected", argv[optind]);
    if (bench->target.url == NULL || bench->target.app_id == NULL || bench->target.app_key == NULL ||
        !bench->has_secret)
        fail_usage("--url, --app-id, --app-key and --app-secret are needed");
    check_urls(bench, run->selected);
}

/* Returns the CPU time of all processes of the run, in ns. */
static uint64_t participants_cpu_ns(const struct bench *bench) {
    uint64_t used = process_own_cpu_ns() + process_children_cpu_ns();

    if (bench->target.pid != 0)
        used += process_cpu_ns(bench->target.pid);
    if (bench->against.pid != 0)
        used += process_cpu_ns(bench->against.pid);
    return used;
}

/* Returns the share of the machine used by processes outside the run, which limits the value of the figures. */
static double others_share(const struct bench *bench, uint64_t started_ns, uint64_t busy_ns, uint64_t used_ns) {
    double capacity = (double)(clock_monotonic_ns() - started_ns) * (double)sysconf(_SC_NPROCESSORS_ONLN);
    double others = (double)(process_machine_busy_ns() - busy_ns) - (double)(participants_cpu_ns(bench) - used_ns);

    return others > 0 ? others / capacity : 0;
}

int main(int argc, char **argv) {
    static struct bench bench = {.duration_ns = 3000000000u};
    struct run_options run = {.cpu = -1};
    uint64_t started_ns, busy_ns, used_ns;

    for (size_t i = 0; i < SCENARIOS; i++)
        run.selected[i] = scenarios[i].by_default;
    parse_options(argc, argv, &bench, &run);
    bench.against.app_id = bench.target.app_id;
    bench.against.app_key = bench.target.app_key;
    bench.against.secret = bench.target.secret;
    raise_file_limit(run.selected);
    if (run.cpu >= 0 && !process_pin(run.cpu))
        fail("--cpu %d: %s", run.cpu, strerror(errno));
    bench.server_cpu = floor_cpu(&bench.target, run.cpu);
    poller_init(&bench.poller);

    started_ns = clock_monotonic_ns();
    busy_ns = process_machine_busy_ns();
    used_ns = participants_cpu_ns(&bench);
    report_begin(bench.target.url, run.json);
    for (size_t i = 0; i < SCENARIOS; i++)
        if (run.selected[i])
            scenarios[i].run(&bench);
    if (bench.floor != NULL)
        floor_stop(bench.floor);
    if (bench.reference != NULL)
        reference_stop(bench.reference);
    return report_end(bench.target.pid != 0 ? others_share(&bench, started_ns, busy_ns, used_ns) : -1) ? 0 : 1;
}
