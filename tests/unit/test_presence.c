/* The members of a presence channel against a plain array; snapshots of the list must not change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "channel/presence.h"
#include "harness.h"

#define USERS 700
#define SNAPSHOTS 40

static struct presence_members members;
static bool present[USERS]; /* the expected members */

static struct slice user_id(unsigned user, char text[16]) {
    return (struct slice){text, (size_t)snprintf(text, 16, "user-%u", user)};
}

static void make_room(void) {
    uint32_t wanted = presence_wants_buckets(&members);

    if (wanted != 0)
        free(presence_rehash(&members, calloc(wanted, sizeof(struct presence_member *)), wanted));
    assert_int_equal(presence_wants_buckets(&members), 0);
}

static void add(unsigned user) {
    char id[16], info[48];
    int length = snprintf(info, sizeof info, "{\"n\":%u}", user);

    make_room();
    presence_add(&members, presence_member_create(user_id(user, id), (struct slice){info, (size_t)length}));
    present[user] = true;
}

static struct presence_member *find(unsigned user) {
    char text[16];
    struct slice id = user_id(user, text);

    return presence_find(&members, id, hash_bytes(id));
}

static void take_out(unsigned user) {
    struct presence_member *member = find(user);

    assert_non_null(member);
    presence_remove(&members, member);
    presence_member_unref(member);
    present[user] = false;
}

/* Reads the members of a list as a set of users; each occurs at most once. */
static unsigned read_list(const struct member_list *list, bool users[USERS]) {
    struct presence_member *member;
    unsigned count = 0;

    memset(users, 0, USERS * sizeof users[0]);
    member_list_each(list, member) {
        unsigned user = (unsigned)strtoul(presence_member_key(member).data + 5, NULL, 10);
        assert_true(user < USERS);
        assert_false(users[user]);
        users[user] = true;
        count++;
    }
    assert_int_equal(count, list != NULL ? list->count : 0);
    return count;
}

static void assert_members_are_the_model(void) {
    struct member_list *list = presence_snapshot(&members);
    bool users[USERS];
    unsigned count = read_list(list, users);

    assert_memory_equal(users, present, sizeof users);
    assert_int_equal(presence_count(&members), count);
    for (unsigned user = 0; user < USERS; user++)
        assert_int_equal(find(user) != NULL, present[user]);
    member_list_unref(list);
}

static int set_up(void **state) {
    (void)state;
    members = (struct presence_members){0};
    memset(present, 0, sizeof present);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    presence_members_dispose(&members);
    return 0;
}

struct snapshot {
    struct member_list *list;
    bool users[USERS];
    struct buffer text; /* its text when the snapshot was taken */
};

static void take_snapshot(struct snapshot *snapshot) {
    member_list_unref(snapshot->list);
    snapshot->list = presence_snapshot(&members);
    memcpy(snapshot->users, present, sizeof present);
    snapshot->text.length = 0;
    member_list_append_escaped(snapshot->list, &snapshot->text);
}

static void assert_unchanged(const struct snapshot *snapshot) {
    struct buffer text = {0};
    bool users[USERS];

    read_list(snapshot->list, users);
    assert_memory_equal(users, snapshot->users, sizeof users);
    member_list_append_escaped(snapshot->list, &text);
    assert_true(slice_equal(buffer_slice(&text), buffer_slice(&snapshot->text)));
    buffer_dispose(&text);
}

/* Grows to hundreds of members, shrinks to none and grows again, across the bounds of blocks. */
static void lists_stay_as_they_were_while_members_come_and_go(void **state) {
    static struct snapshot snapshots[SNAPSHOTS];
    uint64_t seed = 11;

    (void)state;
    memset(snapshots, 0, sizeof snapshots);
    for (unsigned i = 0; i < SNAPSHOTS; i++)
        take_snapshot(&snapshots[i]);
    for (unsigned step = 0; step < 12000; step++) {
        unsigned user = harness_random(&seed, USERS);
        bool growing = step / 2000 % 2 == 0;

        if (!present[user] && (growing || harness_random(&seed, 8) == 0))
            add(user);
        else if (present[user] && (!growing || harness_random(&seed, 8) == 0))
            take_out(user);
        if (harness_random(&seed, 10) == 0) {
            struct snapshot *snapshot = &snapshots[harness_random(&seed, SNAPSHOTS)];
            assert_unchanged(snapshot);
            take_snapshot(snapshot);
        }
        if (step % 500 == 0)
            assert_members_are_the_model();
    }
    for (unsigned user = 0; user < USERS; user++)
        if (present[user])
            take_out(user);
    assert_null(members.list);
    assert_members_are_the_model();
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        assert_unchanged(&snapshots[i]); /* snapshots outlive the members */
        member_list_unref(snapshots[i].list);
        buffer_dispose(&snapshots[i].text);
    }
}

static void a_change_copies_no_more_than_the_head_and_two_blocks(void **state) {
    struct member_list *before, *after;
    unsigned shared = 0;

    (void)state;
    for (unsigned user = 0; user < 640; user++)
        add(user);
    before = presence_snapshot(&members);
    take_out(100);
    after = presence_snapshot(&members);
    assert_ptr_not_equal(before, after);
    assert_int_equal(before->block_count, 10);
    for (unsigned i = 0; i < 10; i++)
        shared += before->blocks[i] == after->blocks[i];
    assert_int_equal(shared, 8);
    member_list_unref(before);
    member_list_unref(after);
    before = members.list; /* no other reference: the list is changed in place */
    take_out(200);
    assert_ptr_equal(members.list, before);
}

static void an_empty_channel_has_no_list(void **state) {
    struct buffer text = {0};

    (void)state;
    assert_null(presence_snapshot(&members));
    member_list_unref(NULL);
    presence_member_unref(NULL);
    member_list_append_escaped(NULL, &text);
    assert_true(
        slice_equal(buffer_slice(&text), SLICE("{\\\"presence\\\":{\\\"count\\\":0,\\\"ids\\\":[],\\\"hash\\\":{}}}")));
    buffer_dispose(&text);
    add(1);
    take_out(1);
    assert_null(presence_snapshot(&members));
}

/* Ids and infos of all kinds are unchanged after decoding both layers of JSON. */
static void the_list_is_json_inside_a_json_string_byte_for_byte(void **state) {
    static const struct {
        const char *id, *info;
    } users[] = {
        {"1", "{\"name\":\"a\"}"},
        {"with \"quotes\" and \\ backslash", "{ \"blank\" : 1.50 }"},
        {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "\"text \\u00e9 \\\\ \\\"\""},
        {"line\nbreak\ttab\x01", "null"},
        {"</script>", "[1,2,{\"deep\":[true,false]}]"},
    };
    struct buffer text = {0}, inner = {0};
    json_t *outer, *whole, *list, *hash, *ids;

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        make_room();
        presence_add(&members, presence_member_create(slice_of(users[i].id), slice_of(users[i].info)));
    }
    buffer_append_byte(&text, '"');
    member_list_append_escaped(members.list, &text);
    buffer_append_byte(&text, '"');
    outer = json_loadb(text.data, text.length, JSON_DECODE_ANY, NULL);
    assert_non_null(outer);
    buffer_append_bytes(&inner, json_string_value(outer), json_string_length(outer));
    whole = json_loadb(inner.data, inner.length, 0, NULL);
    assert_non_null(whole);
    list = json_object_get(whole, "presence");
    assert_int_equal(json_integer_value(json_object_get(list, "count")), 5);
    ids = json_object_get(list, "ids");
    hash = json_object_get(list, "hash");
    assert_int_equal(json_array_size(ids), 5);
    assert_int_equal(json_object_size(hash), 5);
    for (size_t i = 0; i < 5; i++) {
        json_t *info = json_loads(users[i].info, JSON_DECODE_ANY, NULL);
        assert_string_equal(json_string_value(json_array_get(ids, i)), users[i].id);
        assert_true(json_equal(json_object_get(hash, users[i].id), info));
        assert_non_null(memmem(inner.data, inner.length, users[i].info, strlen(users[i].info)));
        json_decref(info);
    }
    json_decref(outer);
    json_decref(whole);
    buffer_dispose(&text);
    buffer_dispose(&inner);
}

/* --- readers on other threads --- */

#define READERS 3
#define ROUNDS 400

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static bool over;
static atomic_uint mistakes; /* counted, because cmocka's assertions work only on the test's thread */

/* Takes snapshots under the mutex, as a join does, and reads them without it. */
static void *read_lists(void *argument) {
    bool last;

    (void)argument;
    do {
        struct presence_member *member;
        struct member_list *list;
        unsigned expected, count = 0;

        pthread_mutex_lock(&mutex);
        list = presence_snapshot(&members);
        expected = presence_count(&members);
        last = over;
        pthread_mutex_unlock(&mutex);
        member_list_each(list, member) count +=
            presence_member_key(member).length > 5 && memcmp(presence_member_key(member).data, "user-", 5) == 0;
        if (count != expected)
            atomic_fetch_add(&mistakes, 1);
        member_list_unref(list);
    } while (!last);
    return NULL;
}

static void lists_are_read_while_the_members_change(void **state) {
    pthread_t readers[READERS];
    uint64_t seed = 5;

    (void)state;
    over = false;
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_lists, NULL), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < 10; i++) {
            unsigned user = harness_random(&seed, USERS);
            pthread_mutex_lock(&mutex);
            if (present[user])
                take_out(user);
            else
                add(user);
            pthread_mutex_unlock(&mutex);
        }
    }
    pthread_mutex_lock(&mutex);
    over = true;
    pthread_mutex_unlock(&mutex);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&mistakes), 0);
    assert_members_are_the_model();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static void user_info_is_kept_to_the_byte(void **state) {
    static const char *const infos[] = {"{}", "{\"a\":\"\\u00e9\\\\\\\"\"}", "{ \"a\" :\n\t[1.50,-0,\"\303\251\"]}"};

    (void)state;
    for (size_t i = 0; i < sizeof infos / sizeof infos[0]; i++) {
        struct presence_member *member = presence_member_create(SLICE("a\"b"), slice_of(infos[i]));
        struct buffer info = {0};
        presence_member_append_info(member, &info);
        assert_int_equal(info.length, strlen(infos[i]));
        assert_memory_equal(info.data, infos[i], info.length);
        assert_true(slice_equal(presence_member_key(member), SLICE("a\"b")));
        assert_true(slice_equal(presence_member_id(member), SLICE("\"a\\\"b\"")));
        buffer_dispose(&info);
        presence_member_unref(member);
    }
}

/* A user with a name takes no more than 200 bytes, with the place in the list and the table. */
static void a_member_is_small(void **state) {
    struct presence_member *member = presence_member_create(SLICE("user-12345"), SLICE("{\"name\":\"User 12345\"}"));

    (void)state;
    assert_in_range(presence_member_bytes(member, false), 1, 200);
    presence_member_unref(member);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(lists_stay_as_they_were_while_members_come_and_go),
        TEST(a_change_copies_no_more_than_the_head_and_two_blocks),
        TEST(an_empty_channel_has_no_list),
        TEST(the_list_is_json_inside_a_json_string_byte_for_byte),
        TEST(user_info_is_kept_to_the_byte),
        TEST(a_member_is_small),
        TEST(lists_are_read_while_the_members_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
