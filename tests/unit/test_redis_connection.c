/* A connection to Redis: the test is the server, on a port of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/list.h"
#include "cluster/redis/redis_connection.h"

#define LOGIN "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$4\r\ntest\r\n*1\r\n$4\r\nPING\r\n"
#define LOGGED_IN "+OK\r\n+PONG\r\n"

static const struct redis_access access_plain = {.key = "database.redis", .label = "test"};

struct world {
    struct loop *loop;
    struct redis_connection *connection;
    int listener, server;
    uint16_t port;
    uint64_t timeout_ms;
    const char *host;
    bool destroy_at_value;
    sem_t told; /* posted with each event */
    char events[2000];
};

static void note_event(struct world *world, const char *event) {
    strncat(world->events, event, sizeof world->events - strlen(world->events) - 1);
    sem_post(&world->told);
}

static void note_up(void *context) {
    note_event(context, "up;");
}

static void note_lost(void *context, const char *why) {
    note_event(context, why);
}

static void note_value(void *context, struct redis_value *value) {
    struct world *world = context;
    char text[300];

    if (world->destroy_at_value) {
        redis_connection_destroy(world->connection);
        world->connection = NULL;
    }
    snprintf(text, sizeof text, "%.200s;", value->text.data);
    redis_value_free(value);
    note_event(world, text);
}

/* --- on the loop's thread --- */

struct errand {
    struct loop_message message;
    void (*run)(struct world *world);
    struct world *world;
    sem_t done;
};

static void run_errand(struct loop *loop, struct loop_message *message) {
    struct errand *errand = container_of(message, struct errand, message);

    (void)loop;
    errand->run(errand->world);
    sem_post(&errand->done);
}

static void on_loop(struct world *world, void (*run)(struct world *world)) {
    struct errand errand = {.message.handle = run_errand, .run = run, .world = world};

    sem_init(&errand.done, 0, 0);
    loop_post(world->loop, &errand.message);
    loop_wake(world->loop);
    while (sem_wait(&errand.done) != 0)
        ;
    sem_destroy(&errand.done);
}

static void open_connection(struct world *world) {
    const struct redis_connection_events events = {note_up, note_lost, note_value, NULL, NULL, world};
    struct redis_place place;

    assert_true(redis_place_set(&place, slice_of(world->host), world->port));
    world->connection = redis_connection_open(world->loop, &place, &access_plain, world->timeout_ms, &events);
}

static void close_connection(struct world *world) {
    redis_connection_destroy(world->connection);
    world->connection = NULL;
}

static void send_ten_megabytes(struct world *world) {
    struct redis_output *output = redis_connection_output(world->connection);
    char data[1000];

    memset(data, 'x', sizeof data);
    for (size_t i = 0; i < 10000; i++)
        redis_output_append(output, (struct slice){data, sizeof data});
    redis_connection_flush(world->connection);
}

/* --- the server --- */

static void receive(struct world *world, size_t length, char *data) {
    for (size_t at = 0; at < length;) {
        ssize_t count = recv(world->server, data + at, length - at, 0);
        assert_true(count > 0);
        at += (size_t)count;
    }
}

static void answer(struct world *world, const char *text) {
    assert_int_equal(send(world->server, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void accept_login(struct world *world) {
    char data[sizeof LOGIN] = {0};

    world->server = accept(world->listener, NULL, NULL);
    assert_true(world->server >= 0);
    receive(world, sizeof LOGIN - 1, data);
    assert_string_equal(data, LOGIN);
}

/* Waits until as many events have come. */
static void expect_events(struct world *world, unsigned count, const char *events) {
    for (unsigned i = 0; i < count; i++)
        while (sem_wait(&world->told) != 0)
            ;
    assert_string_equal(world->events, events);
    world->events[0] = '\0';
}

static int set_up(void **state) {
    struct world *world = alloc_zero(sizeof *world);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;

    world->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    world->server = -1;
    assert_int_equal(bind(world->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(world->listener, 5), 0);
    assert_int_equal(getsockname(world->listener, (struct sockaddr *)&address, &length), 0);
    world->port = ntohs(address.sin_port);
    world->timeout_ms = 60000;
    world->host = "127.0.0.1";
    sem_init(&world->told, 0, 0);
    world->loop = loop_create(NULL);
    assert_true(loop_start(world->loop, NULL));
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    struct world *world = *state;

    on_loop(world, close_connection);
    loop_stop(world->loop);
    loop_destroy(world->loop);
    if (world->listener >= 0)
        close(world->listener);
    if (world->server >= 0)
        close(world->server);
    sem_destroy(&world->told);
    free(world);
    return 0;
}

/* `host:port (key): text` */
static const char *said_of(const struct world *world, const char *text) {
    static char sentence[500];

    snprintf(sentence, sizeof sentence, "Redis at %s:%u (database.redis): %s", world->host, world->port, text);
    return sentence;
}

/* --- tests --- */

static void it_logs_in_and_passes_values_on(void **state) {
    struct world *world = *state;
    char expected[600];

    world->host = "localhost"; /* found by the resolver; ::1 may refuse */
    on_loop(world, open_connection);
    accept_login(world);
    answer(world, "+OK\r\n+PO");
    answer(world, "NG\r\n+one\r\n$3\r\ntwo\r\n");
    expect_events(world, 3, "up;one;two;");
    answer(world, "+three\r\n");
    close(world->server);
    world->server = -1;
    snprintf(expected, sizeof expected, "three;%s", said_of(world, "it closed the connection"));
    expect_events(world, 2, expected);
}

static void what_it_refuses_is_said(void **state) {
    struct world *world = *state;

    on_loop(world, open_connection);
    accept_login(world);
    answer(world, "-NOAUTH Authentication required.\r\n");
    expect_events(world, 1, said_of(world, "it wants a password, and database.redis has none"));
}

/* A port that wants TLS does not answer what is sent in clear text. */
static void a_port_that_may_want_tls_is_said(void **state) {
    struct world *world = *state;

    on_loop(world, open_connection);
    accept_login(world);
    close(world->server);
    world->server = -1;
    expect_events(world, 1,
                  said_of(world, "it closed the connection before it answered: if it wants TLS, write rediss://"));
}

static void another_protocol_is_said(void **state) {
    struct world *world = *state;

    on_loop(world, open_connection);
    accept_login(world);
    answer(world, "HTTP/1.1 400 Bad Request\r\n\r\n");
    expect_events(world, 1,
                  said_of(world,
                          "it sent what is not of the protocol RESP2, or too much at once: "
                          "Protocol error, got \"H\" as reply type byte"));
}

static void a_port_without_a_server_is_said(void **state) {
    struct world *world = *state;

    close(world->listener);
    world->listener = -1;
    on_loop(world, open_connection);
    expect_events(world, 1, said_of(world, "Connection refused"));
}

static void a_server_that_is_silent_is_given_up(void **state) {
    struct world *world = *state;

    world->timeout_ms = 50;
    on_loop(world, open_connection);
    expect_events(world, 1, said_of(world, "no answer within 50 ms"));
}

static void a_host_that_nobody_knows_is_said(void **state) {
    struct world *world = *state;

    world->host = "no-such-host.invalid";
    on_loop(world, open_connection);
    while (sem_wait(&world->told) != 0)
        ;
    assert_non_null(strstr(world->events, "Redis at no-such-host.invalid:"));
}

static void it_may_be_destroyed_by_its_own_event(void **state) {
    struct world *world = *state;

    world->destroy_at_value = true;
    on_loop(world, open_connection);
    accept_login(world);
    answer(world, LOGGED_IN "+one\r\n+two\r\n");
    expect_events(world, 2, "up;one;");
}

static void output_waits_for_the_server(void **state) {
    struct world *world = *state;
    char *data = alloc(10000 * 1000);

    on_loop(world, open_connection);
    accept_login(world);
    answer(world, LOGGED_IN);
    expect_events(world, 1, "up;");
    on_loop(world, send_ten_megabytes); /* more than the kernel takes */
    answer(world, "+meanwhile\r\n");
    expect_events(world, 1, "meanwhile;");
    receive(world, 10000 * 1000, data);
    for (size_t i = 0; i < 10000 * 1000; i++)
        assert_int_equal(data[i], 'x');
    free(data);
}

static void a_host_has_a_length(void **state) {
    char host[REDIS_HOST_MAX + 2];
    struct redis_place place;

    (void)state;
    memset(host, 'h', sizeof host);
    assert_true(redis_place_set(&place, (struct slice){host, REDIS_HOST_MAX}, 1));
    assert_int_equal(strlen(place.host), REDIS_HOST_MAX);
    assert_false(redis_place_set(&place, (struct slice){host, REDIS_HOST_MAX + 1}, 1));
    assert_false(redis_place_set(&place, (struct slice){"a\0b", 3}, 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_logs_in_and_passes_values_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_it_refuses_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_port_that_may_want_tls_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_protocol_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_port_without_a_server_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_server_that_is_silent_is_given_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_host_that_nobody_knows_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_may_be_destroyed_by_its_own_event, set_up, tear_down),
        cmocka_unit_test_setup_teardown(output_waits_for_the_server, set_up, tear_down),
        cmocka_unit_test(a_host_has_a_length),
    };

    return cmocka_run_group_tests_name("redis_connection", tests, NULL, NULL);
}
