/*
 * usage: bus_shell CONFIG
 *
 * A bus for tests in JavaScript (tests/lib/bus-shell.js): commands come on standard input, and what the bus tells goes
 * to standard output, a line each.
 *
 *   subscribe SUBJECT, unsubscribe SUBJECT    in_force SUBJECT
 *   publish SUBJECT TEXT                      published yes|no
 *   publish-bytes SUBJECT LENGTH              published yes|no
 *   flood SUBJECT COUNT LENGTH                flooded ACCEPTED: numbered messages, as many as are accepted
 *   subscribe-many PREFIX COUNT               many COUNT: all are in force, told once for each time that the bus is up
 *   wait MS                                   waited: the thread of the bus stands still
 *   hold, go                                  held: the thread of the bus stands still from `hold` to `go`
 *   state                                     state up=0|1 waiting=BYTES max=BYTES needs_answers=0|1
 *   counts                                    counts MESSAGES WRONG_ORDER BYTES: of numbered messages, since the start
 *   turn                                      turn MICROSECONDS: the longest so far
 *   close MS                                  closed
 *
 * On its own it tells: up; down WHY; interrupted SUBJECT; message SUBJECT TEXT (not of numbered ones).
 */
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/list.h"
#include "cluster/bus.h"
#include "config/config.h"

/* The beginning of a numbered message. */
#define NUMBER_FORMAT "#%020llu"
#define NUMBER_LENGTH 21

struct shell {
    struct loop *loop;
    struct bus *bus;
    sem_t go;
    char many_prefix[256];
    unsigned many, many_in_force;
    unsigned long long messages, wrong_order, bytes, last_number, next_number;
};

static struct shell shell;

struct command {
    struct loop_message message;
    char text[4096];
};

/* --- what the bus tells --- */

static void on_shell_up(void *context) {
    (void)context;
    shell.many_in_force = 0;
    puts("up");
}

static void on_shell_down(void *context, const char *why) {
    (void)context;
    printf("down %s\n", why);
}

static void on_shell_in_force(void *context, struct slice subject) {
    (void)context;
    if (shell.many == 0 || !slice_starts_with(subject, slice_of(shell.many_prefix)))
        printf("in_force %.*s\n", SLICE_ARGS(subject));
    else if (++shell.many_in_force == shell.many)
        printf("many %u\n", shell.many);
}

static void on_shell_interrupted(void *context, struct slice subject) {
    (void)context;
    printf("interrupted %.*s\n", SLICE_ARGS(subject));
}

static void on_shell_message(void *context, struct bus_message *message) {
    unsigned long long number;

    (void)context;
    if (message->payload.length >= NUMBER_LENGTH && message->payload.data[0] == '#') {
        number = strtoull(message->payload.data + 1, NULL, 10);
        shell.messages++;
        shell.bytes += message->payload.length;
        shell.wrong_order += number <= shell.last_number;
        shell.last_number = number;
    } else {
        printf("message %.*s %.*s\n", SLICE_ARGS(message->subject),
               (int)(message->payload.length < 200 ? message->payload.length : 200), message->payload.data);
    }
    message->release(message);
}

static void on_shell_closed(void *context) {
    (void)context;
    puts("closed");
}

/* --- commands --- */

static bool publish_text(const char *subject, const void *text, size_t length) {
    struct bus_bytes *bytes = bus_bytes_create(length);
    bool accepted;

    memcpy(bytes->data, text, length);
    accepted = shell.bus->driver->publish(shell.bus, slice_of(subject), bytes);
    bus_bytes_unref(bytes);
    return accepted;
}

static void flood(const char *subject, unsigned count, size_t length) {
    char *text = alloc(length + 1);
    unsigned accepted = 0;

    memset(text, 'x', length);
    for (; accepted < count; accepted++) {
        char number[NUMBER_LENGTH + 1];
        snprintf(number, sizeof number, NUMBER_FORMAT, ++shell.next_number);
        memcpy(text, number, NUMBER_LENGTH);
        if (!publish_text(subject, text, length))
            break;
    }
    free(text);
    printf("flooded %u\n", accepted);
}

static void subscribe_many(const char *prefix, unsigned count) {
    snprintf(shell.many_prefix, sizeof shell.many_prefix, "%s", prefix);
    shell.many = count;
    for (unsigned i = 0; i < count; i++) {
        char subject[300];
        snprintf(subject, sizeof subject, "%s.%u", prefix, i);
        shell.bus->driver->subscribe(shell.bus, slice_of(subject));
    }
}

static void tell_state(void) {
    struct bus_state state;

    shell.bus->driver->state(shell.bus, &state);
    printf("state up=%d waiting=%zu max=%zu needs_answers=%d\n", state.up, state.waiting_bytes, state.max_message_bytes,
           state.needs_answers);
}

static void stand_still(unsigned ms) {
    nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
    puts("waited");
}

static void hold_thread(void) {
    while (sem_wait(&shell.go) != 0) {
    }
    puts("held");
}

static void run_command(struct loop *loop, struct loop_message *message) {
    struct command *command = container_of(message, struct command, message);
    char *rest = command->text;
    const char *verb = strsep(&rest, " "), *subject = "";
    unsigned long count = 0, length = 0;

    if (rest != NULL && strcmp(verb, "wait") != 0 && strcmp(verb, "close") != 0)
        subject = strsep(&rest, " ");
    if (rest != NULL && strcmp(verb, "publish") != 0)
        count = strtoul(rest, &rest, 10), length = strtoul(rest, NULL, 10);
    if (strcmp(verb, "subscribe") == 0)
        shell.bus->driver->subscribe(shell.bus, slice_of(subject));
    else if (strcmp(verb, "unsubscribe") == 0)
        shell.bus->driver->unsubscribe(shell.bus, slice_of(subject));
    else if (strcmp(verb, "publish") == 0)
        printf("published %s\n", publish_text(subject, rest, strlen(rest)) ? "yes" : "no");
    else if (strcmp(verb, "publish-bytes") == 0) {
        char *bytes = alloc_zero(count + 1);
        printf("published %s\n", publish_text(subject, bytes, count) ? "yes" : "no");
        free(bytes);
    } else if (strcmp(verb, "flood") == 0)
        flood(subject, (unsigned)count, length);
    else if (strcmp(verb, "subscribe-many") == 0)
        subscribe_many(subject, (unsigned)count);
    else if (strcmp(verb, "wait") == 0)
        stand_still((unsigned)count);
    else if (strcmp(verb, "hold") == 0)
        hold_thread();
    else if (strcmp(verb, "state") == 0)
        tell_state();
    else if (strcmp(verb, "counts") == 0)
        printf("counts %llu %llu %llu\n", shell.messages, shell.wrong_order, shell.bytes);
    else if (strcmp(verb, "turn") == 0)
        printf("turn %llu\n", (unsigned long long)loop_longest_turn_us(loop));
    else if (strcmp(verb, "close") == 0)
        shell.bus->driver->close(shell.bus, count, on_shell_closed, NULL);
    else
        printf("unknown %s\n", verb);
    free(command);
}

static void start_shell_bus(struct loop *loop, struct loop_message *message) {
    (void)loop;
    (void)message;
    shell.bus->driver->start(shell.bus);
}

static void flush_shell_bus(void *context) {
    (void)context;
    shell.bus->driver->flush(shell.bus);
}

static void read_commands(void) {
    struct command *command = alloc_zero(sizeof *command);

    while (fgets(command->text, sizeof command->text, stdin) != NULL) {
        command->text[strcspn(command->text, "\n")] = '\0';
        if (strcmp(command->text, "go") == 0) { /* the thread that is held takes no command */
            sem_post(&shell.go);
            continue;
        }
        command->message.handle = run_command;
        loop_post(shell.loop, &command->message);
        loop_wake(shell.loop);
        command = alloc_zero(sizeof *command);
    }
    free(command);
}

static int fail_shell(const struct error *error) {
    fprintf(stderr, "bus_shell: %s\n", error->text);
    return 2;
}

int main(int argc, char **argv) {
    static const struct bus_events events = {on_shell_up,          on_shell_down,    on_shell_in_force,
                                             on_shell_interrupted, on_shell_message, NULL};
    static struct loop_message start = {.handle = start_shell_bus};
    struct config_report report = {0};
    struct config config;
    struct error error = {{0}};
    const struct bus_driver *driver;

    hash_seed();
    sem_init(&shell.go, 0, 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 2 || !config_load(&config, argv[1], &report, &error))
        return fail_shell(&error);
    config_report_dispose(&report);
    driver = bus_driver_find(slice_of(config.adapter.driver));
    shell.loop = loop_create(&error);
    if (driver == NULL || shell.loop == NULL)
        return fail_shell(&error);
    shell.bus = driver->create(shell.loop, &config, &events, &error);
    if (shell.bus == NULL)
        return fail_shell(&error);
    loop_set_end_of_turn(shell.loop, flush_shell_bus, NULL);
    if (!loop_start(shell.loop, &error))
        return fail_shell(&error);
    loop_post(shell.loop, &start);
    loop_wake(shell.loop);
    read_commands();
    loop_stop(shell.loop);
    shell.bus->driver->destroy(shell.bus);
    loop_destroy(shell.loop);
    config_dispose(&config);
    return 0;
}
