/* Resuming TLS sessions: real handshakes over socket pairs, while the test turns the clock of the ticket keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/tls.h"
#include "net/tls_tickets.h"
#include "tls_fixture.h"

/* A client, which keeps the session of its last connection as programs do. */
struct resumer {
    SSL_CTX *context;
    SSL_SESSION *session;
};

static int keep_session(SSL *ssl, SSL_SESSION *session) {
    struct resumer *resumer = SSL_get_app_data(ssl);

    SSL_SESSION_free(resumer->session);
    resumer->session = session;
    return 1;
}

static struct resumer resumer_with(int version) {
    struct resumer resumer = {.context = SSL_CTX_new(TLS_client_method())};

    SSL_CTX_set_min_proto_version(resumer.context, version);
    SSL_CTX_set_max_proto_version(resumer.context, version);
    SSL_CTX_set_session_cache_mode(resumer.context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(resumer.context, keep_session);
    assert_int_equal(SSL_CTX_use_certificate_file(resumer.context, tls_fixture_cert, SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(resumer.context, tls_fixture_key, SSL_FILETYPE_PEM), 1);
    return resumer;
}

static void resumer_dispose(struct resumer *resumer) {
    SSL_SESSION_free(resumer->session);
    SSL_CTX_free(resumer->context);
}

/* Connects, exchanges a byte each way and returns whether the session was resumed. */
static bool resumes(struct resumer *resumer, struct tls_context *context) {
    int ends[2];
    struct tls_connection *server;
    SSL *client = SSL_new(resumer->context);
    bool reused, want_write, greeted = false;
    char byte;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    server = tls_connection_create(context, ends[0]);
    SSL_set_app_data(client, resumer);
    SSL_set_fd(client, ends[1]);
    SSL_set_connect_state(client);
    if (resumer->session != NULL)
        SSL_set_session(client, resumer->session);
    for (int i = 0; i < 20 && !greeted; i++) {
        SSL_write(client, "c", 1);
        greeted = tls_read(server, &byte, 1, &want_write) == 1;
    }
    assert_true(greeted);
    assert_int_equal(tls_write(server, "s", 1, &want_write), 1);
    assert_int_equal(SSL_read(client, &byte, 1), 1);
    reused = SSL_session_reused(client) != 0;
    if (reused && SSL_version(client) == TLS1_2_VERSION) /* OpenSSL does not call keep_session for a renewed ticket */
        keep_session(client, SSL_get1_session(client));
    SSL_shutdown(client);
    SSL_free(client);
    tls_connection_destroy(server);
    close(ends[0]);
    close(ends[1]);
    return reused;
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

#define EACH_VERSION(version)                                                                                          \
    for (const int *version = versions; version < versions + sizeof versions / sizeof versions[0]; version++)

static void test_a_session_is_resumed_also_in_another_context_with_the_same_tickets(void **state) {
    (void)state;
    EACH_VERSION(version) {
        struct tls_tickets *tickets = tls_tickets_create(0);
        struct tls_context *first = tls_fixture_context(tickets, NULL), *second = tls_fixture_context(tickets, NULL);
        struct resumer resumer = resumer_with(*version);

        assert_false(resumes(&resumer, first));
        assert_true(resumes(&resumer, first));
        assert_true(resumes(&resumer, second));
        resumer_dispose(&resumer);
        tls_context_destroy(first);
        tls_context_destroy(second);
        tls_tickets_destroy(tickets);
    }
}

static void test_an_old_key_is_good_for_as_long_as_its_last_ticket(void **state) {
    (void)state;
    EACH_VERSION(version) {
        struct tls_tickets *tickets = tls_tickets_create(0);
        struct tls_context *context = tls_fixture_context(tickets, NULL);
        struct resumer resumer = resumer_with(*version), late = resumer_with(*version);

        tls_tickets_rotate(tickets, TLS_TICKET_KEY_MS - 1);
        resumes(&resumer, context);
        resumes(&late, context);
        for (uint64_t hour = 1; hour <= 2; hour++)
            tls_tickets_rotate(tickets, hour * TLS_TICKET_KEY_MS);
        tls_tickets_rotate(tickets, 3 * TLS_TICKET_KEY_MS - 1);
        assert_true(resumes(&resumer, context)); /* two hours after its ticket */
        tls_tickets_rotate(tickets, 3 * TLS_TICKET_KEY_MS);
        assert_false(resumes(&late, context));
        assert_true(resumes(&resumer, context)); /* it was given a ticket of the new key */
        resumer_dispose(&resumer);
        resumer_dispose(&late);
        tls_context_destroy(context);
        tls_tickets_destroy(tickets);
    }
}

static void test_a_process_that_slept_for_a_day_has_one_key(void **state) {
    struct tls_tickets *tickets = tls_tickets_create(0);
    struct tls_ticket_key first, key;

    (void)state;
    tls_tickets_newest(tickets, &first);
    assert_int_equal(tls_tickets_find(tickets, first.name, &key), TLS_TICKET_NEWEST);
    assert_memory_equal(&first, &key, sizeof key);
    tls_tickets_rotate(tickets, 24 * TLS_TICKET_KEY_MS);
    assert_int_equal(tls_tickets_find(tickets, first.name, &key), TLS_TICKET_UNKNOWN);
    tls_tickets_newest(tickets, &key);
    assert_memory_not_equal(&first, &key, sizeof key);
    tls_tickets_destroy(tickets);
}

static void test_a_ticket_of_another_process_is_a_full_handshake(void **state) {
    (void)state;
    EACH_VERSION(version) {
        struct tls_tickets *first = tls_tickets_create(0), *second = tls_tickets_create(0);
        struct tls_context *before = tls_fixture_context(first, NULL), *after = tls_fixture_context(second, NULL);
        struct resumer resumer = resumer_with(*version);

        assert_false(resumes(&resumer, before));
        assert_false(resumes(&resumer, after));
        assert_true(resumes(&resumer, after));
        resumer_dispose(&resumer);
        tls_context_destroy(before);
        tls_context_destroy(after);
        tls_tickets_destroy(first);
        tls_tickets_destroy(second);
    }
}

/* Otherwise a client could go on after its certificate has expired, or its authority was taken away. */
static void test_a_client_that_needs_a_certificate_shows_it_each_time(void **state) {
    (void)state;
    EACH_VERSION(version) {
        struct tls_tickets *tickets = tls_tickets_create(0);
        struct tls_context *open = tls_fixture_context(tickets, NULL),
                           *closed = tls_fixture_context(tickets, tls_fixture_cert);
        struct resumer resumer = resumer_with(*version);

        assert_false(resumes(&resumer, closed));
        assert_null(resumer.session);
        assert_false(resumes(&resumer, open));
        assert_false(resumes(&resumer, closed)); /* with the ticket of the open one */
        resumer_dispose(&resumer);
        tls_context_destroy(open);
        tls_context_destroy(closed);
        tls_tickets_destroy(tickets);
    }
}

static void test_tickets_allow_no_early_data(void **state) {
    struct tls_tickets *tickets = tls_tickets_create(0);
    struct tls_context *context = tls_fixture_context(tickets, NULL);
    struct resumer resumer = resumer_with(TLS1_3_VERSION);

    (void)state;
    resumes(&resumer, context);
    assert_int_equal(SSL_SESSION_get_max_early_data(resumer.session), 0);
    assert_int_equal(SSL_SESSION_get_ticket_lifetime_hint(resumer.session), TLS_TICKET_LIFETIME_S);
    resumer_dispose(&resumer);
    tls_context_destroy(context);
    tls_tickets_destroy(tickets);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_session_is_resumed_also_in_another_context_with_the_same_tickets),
        cmocka_unit_test(test_an_old_key_is_good_for_as_long_as_its_last_ticket),
        cmocka_unit_test(test_a_process_that_slept_for_a_day_has_one_key),
        cmocka_unit_test(test_a_ticket_of_another_process_is_a_full_handshake),
        cmocka_unit_test(test_a_client_that_needs_a_certificate_shows_it_each_time),
        cmocka_unit_test(test_tickets_allow_no_early_data),
    };

    return cmocka_run_group_tests(tests, tls_fixture_write, tls_fixture_remove);
}
