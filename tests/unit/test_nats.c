/*
 * What the driver `nats` reads: addresses of servers, their INFO lines, seeds of NKeys; and its table of subjects.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "cluster/nats/nats_address.h"
#include "cluster/nats/nats_info.h"
#include "cluster/nats/nats_key.h"
#include "cluster/nats/nats_subjects.h"

static void assert_address(const char *url, const char *host, unsigned port, bool tls, const char *user,
                           const char *password) {
    struct nats_address address;
    struct error error;

    assert_true(nats_address_parse(&address, slice_of(url), &error));
    assert_string_equal(address.host, host);
    assert_int_equal(address.port, port);
    assert_int_equal(address.tls, tls);
    assert_true((user == NULL) == (address.user == NULL) && (user == NULL || strcmp(user, address.user) == 0));
    assert_true((password == NULL) == (address.password == NULL) &&
                (password == NULL || strcmp(password, address.password) == 0));
    nats_address_dispose(&address);
}

static void an_address_has_a_host_and_may_have_a_scheme_a_port_and_a_user(void **state) {
    (void)state;
    assert_address("nats://localhost:4222", "localhost", 4222, false, NULL, NULL);
    assert_address("localhost", "localhost", 4222, false, NULL, NULL);
    assert_address(" 10.0.0.1:9 ", "10.0.0.1", 9, false, NULL, NULL);
    assert_address("TLS://nats.example.com", "nats.example.com", 4222, true, NULL, NULL);
    assert_address("nats://host:4223/", "host", 4223, false, NULL, NULL);
    assert_address("nats://[::1]:4223", "::1", 4223, false, NULL, NULL);
    assert_address("tls://[fe80::1]", "fe80::1", 4222, true, NULL, NULL);
    assert_address("nats://ann:p%40ss:word@host", "host", 4222, false, "ann", "p@ss:word");
    assert_address("nats://token@host:1", "host", 1, false, "token", NULL);
}

static void what_is_no_address_is_refused_without_quoting_it(void **state) {
    static const char *const wrong[] = {"",
                                        "   ",
                                        "nats://",
                                        "http://host",
                                        "://host",
                                        "nats://host:0",
                                        "nats://host:65536",
                                        "nats://host:port",
                                        "nats://a:secret@",
                                        "nats://ho st",
                                        "nats://[::1",
                                        "nats://[::1]4222",
                                        "nats://[]:1"};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct nats_address address;
        struct error error = {{0}};
        assert_false(nats_address_parse(&address, slice_of(wrong[i]), &error));
        assert_non_null(strstr(error.text, "adapter.nats.servers"));
        assert_null(strstr(error.text, "secret"));
    }
}

/* The line of a server of NATS 2.9 as https://docs.nats.io/reference/reference-protocols/nats-protocol describes it. */
static void an_info_line_names_the_cluster_and_its_servers(void **state) {
    struct nats_info info;

    (void)state;
    assert_true(nats_info_parse(
        &info, SLICE("INFO {\"server_id\":\"NB\",\"version\":\"2.9.10\",\"proto\":1,\"host\":\"0.0.0.0\",\"port\":4222,"
                     "\"headers\":true,\"auth_required\":true,\"tls_required\":true,\"max_payload\":1048576,"
                     "\"cluster\":\"east\",\"connect_urls\":[\"10.0.0.1:4222\",\"[::1]:4222\",7]}")));
    assert_true(info.in_cluster && info.tls_required && info.auth_required);
    assert_int_equal(info.max_payload, 1048576);
    assert_int_equal(info.others_count, 2);
    assert_string_equal(info.others[1], "[::1]:4222");
    nats_info_dispose(&info);

    assert_true(nats_info_parse(&info, SLICE("INFO {\"max_payload\":-5,\"cluster\":\"\",\"connect_urls\":{}}")));
    assert_false(info.in_cluster || info.tls_required || info.auth_required);
    assert_int_equal(info.max_payload, 0);
    assert_int_equal(info.others_count, 0);
    nats_info_dispose(&info);
}

static void no_more_servers_than_there_is_room_for_are_taken_over(void **state) {
    char line[8192] = "INFO {\"connect_urls\":[\"a:1\"";
    struct nats_info info;

    (void)state;
    for (int i = 0; i < 500; i++)
        strcat(line, ",\"a:1\"");
    strcat(line, "]}");
    assert_true(nats_info_parse(&info, slice_of(line)));
    assert_int_equal(info.others_count, NATS_OTHERS_MAX);
    nats_info_dispose(&info);
}

static void what_is_no_info_line_is_refused(void **state) {
    static const char *const wrong[] = {"",       "INFO",     "INFO ",    "INFO []",
                                        "INFO {", "INFO {}x", "-ERR 'x'", "HTTP/1.1 400"};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct nats_info info;
        assert_false(nats_info_parse(&info, slice_of(wrong[i])));
    }
}

/* The pair of https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth */
#define SEED "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
#define PUBLIC_KEY "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"

static void a_seed_leads_to_its_public_key(void **state) {
    char key[NATS_KEY_LENGTH + 1];

    (void)state;
    assert_true(nats_key_from_seed(SLICE(SEED), key));
    assert_string_equal(key, PUBLIC_KEY);
}

static void a_seed_with_a_wrong_letter_is_none(void **state) {
    char key[NATS_KEY_LENGTH + 1];

    (void)state;
    for (size_t i = 0; i < sizeof SEED - 1; i++) {
        char seed[] = SEED;
        seed[i] = seed[i] == 'A' ? 'B' : 'A';
        assert_false(nats_key_from_seed(slice_of(seed), key));
    }
    assert_false(nats_key_from_seed(SLICE(""), key));
    assert_false(nats_key_from_seed(SLICE(PUBLIC_KEY), key));
    assert_false(nats_key_from_seed((struct slice){SEED, sizeof SEED - 2}, key));
}

static void a_seed_is_found_between_the_lines_of_a_file(void **state) {
    char path[] = "/tmp/curlew-nkey-XXXXXX", key[NATS_KEY_LENGTH + 1];
    struct error error;
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");

    (void)state;
    assert_non_null(file);
    fputs("-----BEGIN USER NKEY SEED-----\n" SEED "\n------END USER NKEY SEED------\n", file);
    fclose(file);
    assert_true(nats_key_from_file(path, key, &error));
    assert_string_equal(key, PUBLIC_KEY);
    remove(path);
    assert_false(nats_key_from_file(path, key, &error));
    assert_non_null(strstr(error.text, "adapter.nats.nkey_seed_path"));
}

/* --- subjects --- */

#define MANY 100000

static void count_visit(struct nats_subject *subject, void *context) {
    (void)subject;
    (*(size_t *)context)++;
}

static void free_test_subject(struct nats_subject *subject, void *context) {
    (void)context;
    free(subject);
}

static void few_subjects_are_visited_in_one_call(void **state) {
    struct nats_subjects *subjects = nats_subjects_create();
    size_t at = 0, visited = 0;
    char text[32];

    (void)state;
    for (int i = 0; i < 99; i++) {
        snprintf(text, sizeof text, "s.%d", i);
        nats_subjects_add(subjects, slice_of(text));
    }
    assert_false(nats_subjects_visit(subjects, &at, 100, count_visit, &visited));
    assert_int_equal(visited, 99);
    nats_subjects_destroy(subjects, free_test_subject, NULL);
}

static void each_subject_is_found_visited_once_and_removed(void **state) {
    struct nats_subjects *subjects = nats_subjects_create();
    size_t at = 0, visited = 0, slices = 0;
    char text[32];

    (void)state;
    for (int i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "s.%d", i);
        nats_subjects_add(subjects, slice_of(text));
    }
    for (bool more = true; more; slices++) {
        size_t before = visited;
        more = nats_subjects_visit(subjects, &at, 100, count_visit, &visited);
        assert_true(visited - before < 200);
    }
    assert_int_equal(visited, MANY);
    assert_true(slices >= MANY / 200);
    for (int i = 0; i < MANY; i += 2) {
        struct nats_subject *subject;
        snprintf(text, sizeof text, "s.%d", i);
        subject = nats_subjects_find(subjects, slice_of(text));
        assert_string_equal(subject->interest.subject, text);
        nats_subjects_remove(subjects, subject);
        free(subject);
        assert_null(nats_subjects_find(subjects, slice_of(text)));
    }
    at = visited = 0;
    assert_false(nats_subjects_visit(subjects, &at, MANY, count_visit, &visited));
    assert_int_equal(visited, MANY / 2);
    nats_subjects_destroy(subjects, free_test_subject, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_has_a_host_and_may_have_a_scheme_a_port_and_a_user),
        cmocka_unit_test(what_is_no_address_is_refused_without_quoting_it),
        cmocka_unit_test(an_info_line_names_the_cluster_and_its_servers),
        cmocka_unit_test(no_more_servers_than_there_is_room_for_are_taken_over),
        cmocka_unit_test(what_is_no_info_line_is_refused),
        cmocka_unit_test(a_seed_leads_to_its_public_key),
        cmocka_unit_test(a_seed_with_a_wrong_letter_is_none),
        cmocka_unit_test(a_seed_is_found_between_the_lines_of_a_file),
        cmocka_unit_test(few_subjects_are_visited_in_one_call),
        cmocka_unit_test(each_subject_is_found_visited_once_and_removed),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
