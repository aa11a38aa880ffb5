/* Listening sockets: errors for a second server, stale sockets of a dead server, and no free descriptors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "harness.h"
#include "net/listener.h"

static struct workers workers;
static struct error error;
static char folder[64], path[96];
static unsigned accepted;

static void on_accept(struct worker *worker, int fd, void *context) {
    assert_ptr_equal(context, &accepted);
    assert_non_null(worker);
    assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    accepted++;
    close(fd);
}

static int set_up(void **state) {
    (void)state;
    harness_create(&workers, 2);
    snprintf(folder, sizeof folder, "/tmp/curlew-listener-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/deep/down/curlew.sock", folder);
    error.text[0] = '\0';
    accepted = 0;
    return 0;
}

static int tear_down(void **state) {
    char parent[96];

    (void)state;
    harness_destroy(&workers);
    unlink(path);
    snprintf(parent, sizeof parent, "%s/deep/down", folder);
    rmdir(parent);
    snprintf(parent, sizeof parent, "%s/deep", folder);
    rmdir(parent);
    assert_int_equal(rmdir(folder), 0);
    return 0;
}

static int connect_tcp(uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

static int connect_unix(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

static bool says(const char *part) {
    return strstr(error.text, part) != NULL;
}

static void start(struct listener *listener, unsigned worker, int fd, bool shared) {
    *listener = (struct listener){.on_accept = on_accept, .context = &accepted};
    assert_true(fd >= 0);
    if (!listener_start(listener, workers.list[worker], fd, shared, &error))
        fail_msg("%s", error.text);
}

/* --- TCP --- */

static void the_kernel_chooses_a_port_that_is_told(void **state) {
    struct listener listener;
    uint16_t port = 0;
    int on = 0, fd = listen_tcp("127.0.0.1", &port, &error), client;
    socklen_t length = sizeof on;

    (void)state;
    assert_true(fd >= 0);
    assert_int_not_equal(port, 0);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &length), 0);
    assert_int_equal(on, 1);
    start(&listener, 0, fd, false);
    client = connect_tcp(port);
    assert_true(client >= 0);
    harness_settle(workers.list[0]);
    assert_int_equal(accepted, 1);
    listener_stop(&listener);
    listener_stop(&listener);
    assert_int_equal(connect_tcp(port), -1);
    close(client);
}

static void a_second_worker_listens_on_the_same_port(void **state) {
    uint16_t port = 0, same;
    int first = listen_tcp("127.0.0.1", &port, &error), second;

    (void)state;
    same = port;
    second = listen_tcp("127.0.0.1", &same, &error);
    assert_true(first >= 0 && second >= 0);
    assert_int_equal(port, same);
    close(first);
    close(second);
}

static void the_first_socket_is_alone_and_then_shared_by_the_workers(void **state) {
    uint16_t port = 0, same;
    int first = listen_tcp_alone("127.0.0.1", &port, &error), second, clients[200];
    unsigned counts[2] = {0};

    (void)state;
    assert_true(first >= 0);
    same = port;
    assert_int_equal(listen_tcp_alone("127.0.0.1", &same, &error), -1); /* another server */
    assert_true(says("in use"));
    second = listen_tcp("127.0.0.1", &same, &error);
    assert_true(second >= 0);
    assert_int_equal(listen_tcp_alone("127.0.0.1", &same, &error), -1);
    for (unsigned i = 0; i < 200; i++) {
        clients[i] = connect_tcp(port);
        assert_true(clients[i] >= 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        int fd;
        while ((fd = accept(i == 0 ? first : second, NULL, NULL)) >= 0) {
            counts[i]++;
            close(fd);
        }
    }
    assert_int_equal(counts[0] + counts[1], 200);
    assert_true(counts[0] > 20 && counts[1] > 20); /* the kernel spreads them */
    for (unsigned i = 0; i < 200; i++)
        close(clients[i]);
    close(first);
    close(second);
    first = listen_tcp_alone("127.0.0.1", &port, &error); /* connections that have closed do not keep it */
    assert_true(first >= 0);
    close(first);
}

static void a_port_in_use_is_named_with_what_to_do(void **state) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char expected[64];
    uint16_t port;

    (void)state;
    assert_int_equal(bind(other, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(other, 1), 0);
    assert_int_equal(getsockname(other, (struct sockaddr *)&address, &length), 0);
    port = ntohs(address.sin_port);
    assert_int_equal(listen_tcp("127.0.0.1", &port, &error), -1);
    snprintf(expected, sizeof expected, "cannot listen on 127.0.0.1 port %u: ", port);
    assert_true(says(expected));
    assert_true(says("in use"));
    assert_true(says("another port"));
    close(other);
}

static void a_port_for_root_only_is_named_with_what_it_takes(void **state) {
    uid_t user = geteuid();
    uint16_t port = 1;

    (void)state;
    assert_int_equal(seteuid(user != 0 ? user : 65534), 0);
    assert_int_equal(listen_tcp("127.0.0.1", &port, &error), -1);
    assert_int_equal(seteuid(user), 0);
    assert_true(says("cannot listen on 127.0.0.1 port 1: Permission denied"));
    assert_true(says("CAP_NET_BIND_SERVICE"));
}

static void an_address_that_is_none_is_named(void **state) {
    uint16_t port = 0;

    (void)state;
    assert_int_equal(listen_tcp("no.such.host.invalid", &port, &error), -1);
    assert_true(says("cannot listen on no.such.host.invalid port 0: the address does not resolve"));
    assert_int_equal(listen_tcp("192.0.2.1", &port, &error),
                     -1); /* a documentation address (RFC 5737), which no interface has */
    assert_true(says("cannot listen on 192.0.2.1 port 0: "));
}

/* --- unix sockets --- */

static void a_unix_socket_gets_its_folder_and_its_mode(void **state) {
    struct listener listener;
    struct stat status;
    int client;

    (void)state;
    start(&listener, 0, listen_unix(path, 0640, &error), false);
    assert_int_equal(stat(path, &status), 0);
    assert_true(S_ISSOCK(status.st_mode));
    assert_int_equal(status.st_mode & 0777, 0640);
    client = connect_unix();
    assert_true(client >= 0);
    harness_settle(workers.list[0]);
    assert_int_equal(accepted, 1);
    close(client);
    listener_stop(&listener);
}

static void a_socket_that_a_dead_server_left_is_replaced(void **state) {
    int fd = listen_unix(path, 0600, &error);

    (void)state;
    assert_true(fd >= 0);
    close(fd); /* without removing the file, as after kill -9 */
    assert_int_equal(access(path, F_OK), 0);
    fd = listen_unix(path, 0600, &error);
    assert_true(fd >= 0);
    close(fd);
}

static void a_socket_of_a_living_server_is_left_alone(void **state) {
    int fd = listen_unix(path, 0600, &error), client;

    (void)state;
    assert_int_equal(listen_unix(path, 0600, &error), -1);
    assert_true(says(path) && says("another server is running there"));
    client = connect_unix();
    assert_true(client >= 0);
    close(client);
    close(fd);
}

static void a_file_that_is_no_socket_is_left_alone(void **state) {
    int fd = listen_unix(path, 0600, &error);
    struct stat status;

    (void)state;
    close(fd);
    unlink(path);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(fd);
    assert_int_equal(listen_unix(path, 0600, &error), -1);
    assert_true(says(path) && says("not a socket"));
    assert_int_equal(stat(path, &status), 0);
    assert_true(S_ISREG(status.st_mode));
}

static void a_path_that_does_not_fit_is_refused(void **state) {
    char longer[200];

    (void)state;
    memset(longer, 'p', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    longer[0] = '/';
    assert_int_equal(listen_unix(longer, 0600, &error), -1);
    assert_true(says("107 bytes"));
}

static void a_path_that_cannot_be_made_is_named(void **state) {
    (void)state;
    assert_int_equal(listen_unix("/proc/no-such-folder/curlew.sock", 0600, &error), -1);
    assert_true(says("cannot listen on /proc/no-such-folder/curlew.sock: "));
}

static void all_workers_accept_from_a_shared_socket(void **state) {
    struct listener listeners[2];
    int fd = listen_unix(path, 0600, &error), clients[2];

    (void)state;
    start(&listeners[0], 0, fd, true);
    start(&listeners[1], 1, dup(fd), true);
    for (unsigned i = 0; i < 2; i++) {
        clients[i] = connect_unix();
        assert_true(clients[i] >= 0);
        harness_settle(workers.list[i]);
        assert_int_equal(accepted, i + 1);
    }
    for (unsigned i = 0; i < 2; i++) {
        close(clients[i]);
        listener_stop(&listeners[i]);
    }
}

/* --- no descriptors left --- */

static void without_descriptors_a_listener_rests_and_tries_again(void **state) {
    const struct log_settings quiet = {.level = LOG_ERROR};

    (void)state;
    log_configure(&quiet); /* suppresses the warning of the listener */
    for (unsigned shared = 0; shared < 2; shared++) {
        static struct listener listener;
        struct rlimit limit, none;
        int client, copies[100];
        size_t count = 0;

        accepted = 0;
        start(&listener, 0, listen_unix(path, 0600, &error), shared);
        client = connect_unix();
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        none = limit;
        none.rlim_cur = (rlim_t)client + 20;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        while ((copies[count] = dup(client)) >= 0) /* uses all free descriptors */
            count++;
        harness_settle(workers.list[0]); /* fails by itself if the loop spins */
        assert_int_equal(accepted, 0);
        assert_true(listener.resting);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        harness_settle(workers.list[0]);
        assert_int_equal(accepted, 0);
        harness_advance(workers.list[0], 2000);
        assert_int_equal(accepted, 1);
        while (count != 0)
            close(copies[--count]);
        close(client);
        listener_stop(&listener);
    }
}

static void close_a_stream(void) {
    int client;

    stream_close(harness_open(workers.list[0], NULL, &client));
    harness_turn(workers.list[0]); /* the pause ends with this turn */
    harness_turn(workers.list[0]);
    close(client);
}

static void at_its_bound_a_listener_pauses_until_a_connection_has_closed(void **state) {
    static const atomic_int bound = 0; /* every descriptor is above */
    struct listener listener = {0};
    uint16_t port = 0;
    int fd = listen_tcp("127.0.0.1", &port, &error), clients[3];

    (void)state;
    start(&listener, 0, fd, false);
    listener.bound = &bound;
    for (unsigned i = 0; i < 3; i++)
        clients[i] = connect_tcp(port);
    harness_settle(workers.list[0]);
    assert_int_equal(accepted, 1);
    harness_advance(workers.list[0], 1000);
    assert_int_equal(accepted, 2);
    close_a_stream();
    assert_int_equal(accepted, 3);
    for (unsigned i = 0; i < 3; i++)
        close(clients[i]);
    listener_stop(&listener);
}

static void a_listener_that_rests_can_be_stopped(void **state) {
    struct listener listener;

    (void)state;
    start(&listener, 0, listen_unix(path, 0600, &error), true);
    listener.resting = true;
    worker_pause(workers.list[0], &listener.pause, 100);
    listener_stop(&listener);
    harness_advance(workers.list[0], 3000);
    assert_int_equal(listener.fd, -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_kernel_chooses_a_port_that_is_told),
        TEST(a_second_worker_listens_on_the_same_port),
        TEST(the_first_socket_is_alone_and_then_shared_by_the_workers),
        TEST(a_port_in_use_is_named_with_what_to_do),
        TEST(a_port_for_root_only_is_named_with_what_it_takes),
        TEST(an_address_that_is_none_is_named),
        TEST(a_unix_socket_gets_its_folder_and_its_mode),
        TEST(a_socket_that_a_dead_server_left_is_replaced),
        TEST(a_socket_of_a_living_server_is_left_alone),
        TEST(a_file_that_is_no_socket_is_left_alone),
        TEST(a_path_that_does_not_fit_is_refused),
        TEST(a_path_that_cannot_be_made_is_named),
        TEST(all_workers_accept_from_a_shared_socket),
        TEST(without_descriptors_a_listener_rests_and_tries_again),
        TEST(at_its_bound_a_listener_pauses_until_a_connection_has_closed),
        TEST(a_listener_that_rests_can_be_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
