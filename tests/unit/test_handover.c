/* The connection of an upgrade: frames, who may connect, descriptors, and a link that several threads use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/budget.h"
#include "base/thread.h"
#include "handover/handover_link.h"

#define WAIT_MS 30000

static struct error error;

static struct deadline soon(void) {
    return deadline_after(WAIT_MS, -1);
}

/* Two ends of a connection. */
static void connect_ends(struct handover_socket *a, struct handover_socket *b) {
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    handover_socket_init(a, ends[0]);
    handover_socket_init(b, ends[1]);
}

static void messages_of_all_lengths_arrive_as_they_were_sent(void **state) {
    static const size_t lengths[] = {0, 1, 65535, 300000, 5, HANDOVER_PAYLOAD_MAX};
    struct handover_socket a, b;
    struct handover_message message;

    (void)state;
    connect_ends(&a, &b);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct buffer frame = {0};
        char *payload = calloc(1, lengths[i] + 1);
        enum handover_received received = HANDOVER_GOT_NOTHING;
        size_t sent = 0;

        memset(payload, 'a' + (int)i, lengths[i]);
        handover_append(&frame, (uint8_t)(HANDOVER_RELAY_FIRST + i), (struct slice){payload, lengths[i]});
        while (received == HANDOVER_GOT_NOTHING) {
            if (sent != frame.length)
                sent += (size_t)handover_socket_send(&a, slice_skip(buffer_slice(&frame), sent), -1, &error);
            received = handover_socket_receive(&b, &message, &error);
        }
        assert_int_equal(received, HANDOVER_GOT_MESSAGE);
        assert_int_equal(message.type, HANDOVER_RELAY_FIRST + i);
        assert_true(slice_equal(message.payload, (struct slice){payload, lengths[i]}));
        free(payload);
        buffer_dispose(&frame);
    }
    handover_socket_dispose(&a);
    assert_int_equal(handover_socket_receive(&b, &message, &error), HANDOVER_ENDED);
    handover_socket_dispose(&b);
}

static void expect_broken(const char *bytes, size_t length, const char *why) {
    struct handover_socket a, b;
    struct handover_message message;

    connect_ends(&a, &b);
    assert_int_equal(handover_socket_send(&a, (struct slice){bytes, length}, -1, &error), length);
    handover_socket_dispose(&a);
    assert_int_equal(handover_socket_receive(&b, &message, &error), HANDOVER_BROKEN);
    assert_non_null(strstr(error.text, why));
    handover_socket_dispose(&b);
}

static void broken_messages_end_the_connection(void **state) {
    (void)state;
    expect_broken("\x01\x00\x00\x01\x40", 5, "16777217 bytes");
    expect_broken("\xff\xff\xff\xff\x40", 5, "4294967295 bytes");
    expect_broken("\x00\x00\x00\x00\x00", 5, "unknown type 0");
    expect_broken("\x00\x00\x00\x00\x07", 5, "unknown type 7");
    expect_broken("\x00\x00\x00\x00\x80", 5, "unknown type 128");
    expect_broken("\x00\x00\x00\x02\x40x", 6, "in the middle");
}

static void descriptors_arrive_with_their_messages(void **state) {
    const struct deadline deadline = soon();
    struct handover_socket a, b;
    struct handover_message message;
    struct stat expected, got;

    (void)state;
    connect_ends(&a, &b);
    for (int i = 0; i < 67; i++) { /* 64 workers, and three other ports */
        int pipe_ends[2], fd;
        assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
        assert_int_equal(fstat(pipe_ends[0], &expected), 0);
        assert_true(handover_socket_write(&a, HANDOVER_RELAY_FIRST, SLICE("none"), -1, &deadline, &error));
        assert_true(handover_socket_write(&a, HANDOVER_LISTENER, SLICE("\0main"), pipe_ends[0], &deadline, &error));
        assert_true(handover_socket_await(&b, HANDOVER_RELAY_FIRST, &message, &deadline, &error));
        assert_true(handover_socket_await(&b, HANDOVER_LISTENER, &message, &deadline, &error));
        fd = handover_socket_take_fd(&b);
        assert_int_equal(fstat(fd, &got), 0);
        assert_int_equal(got.st_ino, expected.st_ino);
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        close(fd);
        close(pipe_ends[0]);
        close(pipe_ends[1]);
    }
    assert_int_equal(handover_socket_take_fd(&b), -1);
    handover_socket_dispose(&a);
    handover_socket_dispose(&b);
}

/* What is sent with a message that never needed it is closed with the connection. */
static void descriptors_that_nobody_takes_are_closed(void **state) {
    struct handover_socket a, b;
    struct handover_message message;
    int pipe_ends[2];
    char byte;

    (void)state;
    connect_ends(&a, &b);
    assert_int_equal(pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK), 0);
    for (int i = 0; i <= HANDOVER_FDS_MAX; i++)
        assert_int_equal(handover_socket_send(&a, SLICE("\0\0\0\0\x40"), pipe_ends[1], &error), 5);
    for (int i = 0; i < HANDOVER_FDS_MAX; i++)
        assert_int_equal(handover_socket_receive(&b, &message, &error), HANDOVER_GOT_MESSAGE);
    assert_int_equal(handover_socket_receive(&b, &message, &error), HANDOVER_BROKEN);
    assert_non_null(strstr(error.text, "more descriptors"));
    handover_socket_dispose(&a);
    handover_socket_dispose(&b);
    close(pipe_ends[1]);
    assert_int_equal(read(pipe_ends[0], &byte, 1), 0);
    close(pipe_ends[0]);
}

/* --- who may connect --- */

/* Runs in a child process: connects to the place and greets. Its exit code is 0 after a greeting. */
static void run_new_process(const struct handover_place *place, pid_t old) {
    const struct deadline deadline = soon();
    struct handover_socket socket;
    char program[80];
    int fd = handover_connect(place->path, old, &error);

    if (fd < 0)
        _exit(1);
    handover_socket_init(&socket, fd);
    _exit(handover_socket_greet(&socket, "2.0", program, sizeof program, &deadline, &error) ? 0 : 2);
}

static int exit_code_of(pid_t pid) {
    int status = -1;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void only_the_process_that_was_started_is_accepted(void **state) {
    const struct deadline deadline = soon();
    struct handover_place place;
    struct handover_socket socket;
    struct stat folder, file;
    char path[sizeof place.path], program[80];
    pid_t stranger, child;
    int gate[2], fd;

    (void)state;
    assert_true(handover_place_open(&place, "/tmp", &error));
    assert_int_equal(stat(place.folder, &folder), 0);
    assert_int_equal(stat(place.path, &file), 0);
    assert_int_equal(folder.st_mode, S_IFDIR | 0700);
    assert_int_equal(file.st_mode, S_IFSOCK | 0600);
    strcpy(path, place.path);
    stranger = fork();
    if (stranger == 0)
        run_new_process(&place, getppid());
    assert_int_equal(pipe(gate), 0);
    child = fork();
    if (child == 0) { /* connects when the stranger was turned away */
        close(gate[1]);
        (void)!read(gate[0], &fd, 1);
        run_new_process(&place, getppid());
    }
    close(gate[0]);
    {
        struct deadline short_deadline = deadline_after(500, -1);
        assert_int_equal(handover_place_accept(&place, child, &short_deadline, &error), -1);
    }
    close(gate[1]);
    fd = handover_place_accept(&place, child, &deadline, &error);
    assert_true(fd >= 0);
    assert_int_equal(exit_code_of(stranger), 2);
    handover_socket_init(&socket, fd);
    assert_true(handover_socket_greet(&socket, "1.0", program, sizeof program, &deadline, &error));
    assert_string_equal(program, "2.0");
    assert_int_equal(exit_code_of(child), 0);
    handover_socket_dispose(&socket);
    handover_place_close(&place);
    handover_place_close(&place);
    assert_int_equal(access(path, F_OK), -1);
}

static void the_new_process_checks_who_listens(void **state) {
    struct handover_place place;
    pid_t child;

    (void)state;
    assert_true(handover_place_open(&place, "/tmp", &error));
    child = fork();
    if (child == 0)
        run_new_process(&place, 1);
    assert_int_equal(exit_code_of(child), 1);
    handover_place_close(&place);
}

static void a_folder_that_cannot_be_made_is_an_error(void **state) {
    struct handover_place place;
    char longest[200];

    (void)state;
    assert_false(handover_place_open(&place, "/does-not-exist", &error));
    assert_non_null(strstr(error.text, "below /does-not-exist: No such file"));
    memset(longest, 'a', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    assert_false(handover_place_open(&place, longest, &error));
    assert_non_null(strstr(error.text, "too long"));
}

static void another_version_of_the_messages_is_refused(void **state) {
    const struct deadline deadline = soon();
    struct handover_socket a, b;
    char program[80];

    (void)state;
    connect_ends(&a, &b);
    assert_true(handover_socket_write(&b, HANDOVER_HELLO,
                                      SLICE("\0\0\0\x63"
                                            "9.9"),
                                      -1, &deadline, &error));
    assert_false(handover_socket_greet(&a, "1.0", program, sizeof program, &deadline, &error));
    assert_non_null(strstr(error.text, "curlew 9.9 with version 99"));
    handover_socket_dispose(&a);
    handover_socket_dispose(&b);
}

/* --- the link --- */

#define SENDERS 4
#define EACH 5000

struct party {
    struct handover_link link;
    uint32_t next[SENDERS]; /* the number that is expected from each sender */
    unsigned received;
    bool good;
};

static bool on_number(struct handover_link *link, const struct handover_message *message, void *context,
                      struct error *reason) {
    struct party *party = context;
    uint32_t number;

    (void)link;
    memcpy(&number, message->payload.data, sizeof number);
    if (number != party->next[message->type - HANDOVER_RELAY_FIRST]++)
        return error_set(reason, "out of order");
    party->received++;
    return true;
}

static void *run_party(void *context) {
    struct party *party = context;
    struct error reason = {0};

    party->good = handover_link_run(&party->link, &reason);
    return NULL;
}

struct sender {
    struct party *party;
    uint8_t type;
    pthread_t thread;
};

static void *send_numbers(void *context) {
    struct sender *sender = context;
    static const char padding[3000];

    for (uint32_t i = 0; i < EACH; i++) {
        struct slice parts[] = {{(const char *)&i, sizeof i}, {padding, i % sizeof padding}};
        while (!handover_link_send(&sender->party->link, sender->type, parts, 2))
            sched_yield();
    }
    return NULL;
}

static void threads_send_in_order_and_all_arrives_before_the_end(void **state) {
    static struct party old, new;
    const struct handover_handler old_handler = {.on_message = on_number, .context = &old},
                                  new_handler = {.on_message = on_number, .context = &new};
    struct handover_socket a, b;
    struct sender senders[SENDERS];
    pthread_t old_thread, new_thread;

    (void)state;
    connect_ends(&a, &b);
    assert_true(handover_link_init(&old.link, &a, &old_handler, &error));
    assert_true(handover_link_init(&new.link, &b, &new_handler, &error));
    assert_true(thread_start(&old_thread, "old", run_party, &old, &error));
    assert_true(thread_start(&new_thread, "new", run_party, &new, &error));
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.party = &old, .type = (uint8_t)(HANDOVER_RELAY_FIRST + i)};
        assert_true(thread_start(&senders[i].thread, "sender", send_numbers, &senders[i], &error));
    }
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    handover_link_finish(&old.link);
    pthread_join(old_thread, NULL);
    assert_true(old.good);
    assert_false(handover_link_send(&old.link, HANDOVER_RELAY_FIRST, NULL, 0));
    handover_link_dispose(&old.link);
    pthread_join(new_thread, NULL);
    assert_true(new.good);
    assert_int_equal(new.received, SENDERS * EACH);
    handover_link_dispose(&new.link);
}

/* Queues blocks of 1 MB as events of an app, or as orders, until the link refuses one. */
static unsigned fill_link(struct handover_link *link, const char *app_id) {
    static const char block[1 << 20];
    const struct slice part = {block, sizeof block};
    unsigned sent = 0;

    while (sent < 1000 && (app_id != NULL ? handover_link_send_event(link, HANDOVER_RELAY_FIRST, slice_of(app_id), part)
                                          : handover_link_send(link, HANDOVER_RELAY_FIRST, &part, 1)))
        sent++;
    return sent;
}

/* One app gets half of what is free, and orders have room of their own. All of it is in the account. */
static void a_process_that_does_not_read_stops_nobody(void **state) {
    const struct handover_handler handler = {.on_message = on_number};
    struct handover_socket a, b;
    struct handover_link link;

    (void)state;
    connect_ends(&a, &b);
    assert_true(handover_link_init(&link, &a, &handler, &error));
    assert_true(handover_link_has_room(&link, SLICE("one"), 1 << 30)); /* nothing of it waits */
    assert_true(handover_link_send_event(&link, HANDOVER_RELAY_FIRST, SLICE("one"), SLICE("event")));
    assert_true(handover_link_has_room(&link, SLICE("one"), 31 << 20));
    assert_false(handover_link_has_room(&link, SLICE("one"), 32 << 20));
    assert_int_equal(fill_link(&link, "one"), 32);
    assert_false(handover_link_has_room(&link, SLICE("one"), 1));
    assert_int_equal(fill_link(&link, "another"), 16);
    assert_true(handover_link_send_event(&link, HANDOVER_RELAY_FIRST, SLICE("third"), SLICE("event")));
    assert_int_equal(fill_link(&link, NULL), 16 + 15); /* the heads of the messages count, too */
    assert_false(handover_link_send_event(&link, HANDOVER_RELAY_FIRST, SLICE("third"), SLICE("event")));
    assert_in_range(budget_used(BUDGET_HANDOVER), LINK_QUEUE_BYTES, LINK_QUEUE_BYTES + LINK_ORDER_BYTES);
    link.deadline = deadline_after(10, -1);
    assert_false(handover_link_run(&link, &error));
    assert_string_equal(error.text, "no answer in time");
    handover_link_dispose(&link);
    handover_socket_dispose(&b);
    assert_int_equal(budget_used(BUDGET_HANDOVER), 0);
}

static void the_queue_has_a_share_of_the_account(void **state) {
    const struct handover_handler handler = {.on_message = on_number};
    struct handover_socket a, b;
    struct handover_link link;

    (void)state;
    connect_ends(&a, &b);
    assert_true(handover_link_init(&link, &a, &handler, &error));
    budget_set_limit(40u << 20);
    assert_int_equal(fill_link(&link, "one"), 5); /* of a quarter of 40 MB */
    assert_true(handover_link_send(&link, HANDOVER_RELAY_FIRST, NULL, 0));
    budget_set_limit(0);
    handover_link_dispose(&link);
    handover_socket_dispose(&b);
    assert_int_equal(budget_used(BUDGET_HANDOVER), 0);
}

/* What a slow receiver keeps. */
static atomic_size_t kept;
static atomic_uint kept_messages;

static bool keep_message(struct handover_link *link, const struct handover_message *message, void *context,
                         struct error *reason) {
    (void)link;
    (void)context;
    (void)reason;
    atomic_fetch_add(&kept, message->payload.length);
    atomic_fetch_add(&kept_messages, 1);
    return true;
}

#define FLOOD 40

/* The link takes no more than its bound and what one message is over it; the rest arrives, in parts, as the receiver
 * gets through with it. */
static void what_a_receiver_has_not_handled_is_bounded(void **state) {
    static struct party old, new;
    const struct handover_handler old_handler = {.on_message = on_number},
                                  new_handler = {.on_message = keep_message, .held = &kept};
    static const char block[1 << 20];
    const struct slice part = {block, sizeof block};
    struct handover_socket a, b;
    pthread_t old_thread, new_thread;
    unsigned handled = 0;

    (void)state;
    connect_ends(&a, &b);
    assert_true(handover_link_init(&old.link, &a, &old_handler, &error));
    assert_true(handover_link_init(&new.link, &b, &new_handler, &error));
    for (int i = 0; i < FLOOD; i++)
        assert_true(handover_link_send(&old.link, HANDOVER_RELAY_FIRST, &part, 1));
    assert_true(thread_start(&old_thread, "old", run_party, &old, &error));
    assert_true(thread_start(&new_thread, "new", run_party, &new, &error));
    while (handled < FLOOD) {
        while (atomic_load(&kept) <= LINK_HELD_BYTES && atomic_load(&kept_messages) < FLOOD)
            sched_yield();
        assert_in_range(atomic_load(&kept), 1, LINK_HELD_BYTES + sizeof block);
        handled = atomic_load(&kept_messages);
        atomic_fetch_sub(&kept, atomic_load(&kept));
        handover_link_wake(&new.link);
    }
    handover_link_finish(&old.link);
    pthread_join(old_thread, NULL);
    handover_link_dispose(&old.link);
    pthread_join(new_thread, NULL);
    assert_true(new.good);
    handover_link_dispose(&new.link);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_all_lengths_arrive_as_they_were_sent),
        cmocka_unit_test(broken_messages_end_the_connection),
        cmocka_unit_test(descriptors_arrive_with_their_messages),
        cmocka_unit_test(descriptors_that_nobody_takes_are_closed),
        cmocka_unit_test(only_the_process_that_was_started_is_accepted),
        cmocka_unit_test(the_new_process_checks_who_listens),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_an_error),
        cmocka_unit_test(another_version_of_the_messages_is_refused),
        cmocka_unit_test(threads_send_in_order_and_all_arrives_before_the_end),
        cmocka_unit_test(a_process_that_does_not_read_stops_nobody),
        cmocka_unit_test(the_queue_has_a_share_of_the_account),
        cmocka_unit_test(what_a_receiver_has_not_handled_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
