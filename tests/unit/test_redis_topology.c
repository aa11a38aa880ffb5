/* Redis Cluster: the slot of a name, and the masters of the slots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "cluster/redis/redis_topology.h"

/* --- slots --- */

/* The reference value is in appendix A of the Redis Cluster specification; the slots are of CLUSTER KEYSLOT. */
static void a_name_has_the_slot_of_its_crc(void **state) {
    (void)state;
    assert_int_equal(redis_crc16(SLICE("123456789")), 0x31c3);
    assert_int_equal(redis_crc16(SLICE("")), 0);
    assert_int_equal(redis_slot_of(SLICE("")), 0);
    assert_int_equal(redis_slot_of(SLICE("foo")), 12182);
    assert_int_equal(redis_slot_of(SLICE("bar")), 5061);
    assert_int_equal(redis_slot_of(SLICE("hello")), 866);
    assert_int_equal(redis_slot_of(SLICE("\xff\x00\x80")), redis_crc16(SLICE("\xff\x00\x80")) % REDIS_SLOTS);
}

/* The examples of the section "Hash tags" there. */
static void a_hash_tag_decides_alone(void **state) {
    static const struct {
        struct slice name, tag;
    } cases[] = {
        {SLICE_INIT("{user1000}.following"), SLICE_INIT("user1000")},
        {SLICE_INIT("{user1000}.followers"), SLICE_INIT("user1000")},
        {SLICE_INIT("foo{{bar}}zap"), SLICE_INIT("{bar")},
        {SLICE_INIT("foo{bar}{zap}"), SLICE_INIT("bar")},
    };
    static const struct slice whole[] = {SLICE_INIT("foo{}{bar}"), SLICE_INIT("foo{bar"), SLICE_INIT("foo}bar{"),
                                         SLICE_INIT("{"), SLICE_INIT("{}")};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(redis_slot_of(cases[i].name), redis_crc16(cases[i].tag) % REDIS_SLOTS);
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        assert_int_equal(redis_slot_of(whole[i]), redis_crc16(whole[i]) % REDIS_SLOTS);
}

/* --- masters --- */

static struct redis_topology topology;
static struct error error;

static int dispose_topology(void **state) {
    (void)state;
    redis_topology_dispose(&topology);
    return 0;
}

static bool (*read_with)(struct redis_topology *topology, const struct redis_value *value,
                         const struct redis_place *asked, struct error *error) = redis_topology_read;

/* Reads an answer in RESP. */
static bool read_answer(const char *text) {
    const struct redis_place asked = {"10.0.0.9", 7009};
    struct redis_reader *reader = redis_reader_create(64 << 20);
    struct redis_value *value;
    bool good;

    assert_true(redis_reader_feed(reader, slice_of(text), &error));
    assert_true(redis_reader_next(reader, &value, &error));
    assert_non_null(value);
    good = read_with(&topology, value, &asked, &error);
    redis_value_free(value);
    redis_reader_destroy(reader);
    return good;
}

#define RANGE(first, last, node) "*3\r\n:" #first "\r\n:" #last "\r\n" node
#define NODE(host, port) "*3\r\n+" host "\r\n:" #port "\r\n+id\r\n"

static void assert_owner(unsigned slot, const char *host, unsigned port) {
    const struct redis_place *place = &topology.masters[topology.owners[slot]];

    assert_string_equal(place->host, host);
    assert_int_equal(place->port, port);
}

static void each_slot_has_the_master_of_its_range(void **state) {
    (void)state;
    assert_true(read_answer("*3\r\n" RANGE(0, 5460, NODE("10.0.0.1", 7001)) RANGE(5461, 5461, NODE("h2", 7001))
                                RANGE(5462, 16383, NODE("10.0.0.1", 7001))));
    assert_int_equal(topology.master_count, 2);
    assert_owner(0, "10.0.0.1", 7001);
    assert_owner(5460, "10.0.0.1", 7001);
    assert_owner(5461, "h2", 7001);
    assert_owner(16383, "10.0.0.1", 7001);
}

/* Redis 7 has a list of names and addresses behind the id, and gives no host if it does not know its own. */
static void what_else_a_node_says_of_itself_does_not_matter(void **state) {
    (void)state;
    assert_true(
        read_answer("*1\r\n*4\r\n:0\r\n:16383\r\n*4\r\n$-1\r\n:7001\r\n+id\r\n*2\r\n+hostname\r\n+h\r\n"
                    "*4\r\n+10.0.0.2\r\n:7002\r\n+id\r\n*0\r\n"));
    assert_int_equal(topology.master_count, 1);
    assert_owner(7, "10.0.0.9", 7001);
    assert_true(read_answer("*1\r\n" RANGE(0, 16383, NODE("", 7003))));
    assert_owner(7, "10.0.0.9", 7003);
    assert_true(read_answer("*1\r\n" RANGE(0, 16383, NODE("?", 7004))));
    assert_owner(7, "10.0.0.9", 7004);
}

static void an_answer_that_is_none_changes_nothing(void **state) {
    static const struct {
        const char *answer, *why;
    } cases[] = {
        {"-ERR This instance has cluster support disabled\r\n", "cluster support disabled"},
        {"+OK\r\n", "its answer to CLUSTER SLOTS is none"},
        {"*0\r\n", "16384 of the 16384 slots of the cluster have no master"},
        {"*1\r\n" RANGE(0, 16382, NODE("h", 7001)), "1 of the 16384 slots"},
        {"*1\r\n+x\r\n", "is none"},
        {"*1\r\n*2\r\n:0\r\n:1\r\n", "is none"},
        {"*1\r\n" RANGE(0, 16384, NODE("h", 7001)), "is none"},
        {"*1\r\n" RANGE(-1, 16383, NODE("h", 7001)), "is none"},
        {"*1\r\n" RANGE(0, 16383, NODE("h", 65536)), "is none"},
        {"*1\r\n" RANGE(0, 16383, NODE("h", 0)), "is none"},
        {"*1\r\n" RANGE(0, 16383, "*1\r\n+h\r\n"), "is none"},
        {"*1\r\n" RANGE(0, 16383, "*2\r\n+h\r\n+7001\r\n"), "is none"},
        {"*1\r\n" RANGE(0, 16383, "+h\r\n"), "is none"},
        {"*1\r\n*3\r\n+0\r\n:16383\r\n" NODE("h", 7001), "is none"},
    };

    (void)state;
    assert_true(read_answer("*1\r\n" RANGE(0, 16383, NODE("h1", 7001))));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (read_answer(cases[i].answer))
            fail_msg("accepted: %s", cases[i].answer);
        if (strstr(error.text, cases[i].why) == NULL)
            fail_msg("%s: %s", cases[i].answer, error.text);
        assert_int_equal(topology.master_count, 1);
        assert_owner(0, "h1", 7001);
    }
}

static void slots_may_have_no_master_if_the_reader_allows_it(void **state) {
    (void)state;
    read_with = redis_topology_read_partly;
    assert_true(read_answer("*2\r\n" RANGE(0, 9, NODE("h1", 7001)) RANGE(12, 16383, NODE("h2", 7001))));
    assert_int_equal(topology.unowned, 2);
    assert_owner(9, "h1", 7001);
    assert_int_equal(topology.owners[10], REDIS_NO_MASTER);
    assert_int_equal(topology.owners[11], REDIS_NO_MASTER);
    assert_owner(12, "h2", 7001);
    assert_false(read_answer("*0\r\n")); /* of a node that is in no cluster */
    assert_int_equal(topology.master_count, 2);
    read_with = redis_topology_read;
}

static void more_masters_than_a_cluster_has_are_refused(void **state) {
    struct buffer answer = {0};

    (void)state;
    buffer_appendf(&answer, "*%d\r\n", REDIS_SLOTS);
    for (unsigned slot = 0; slot < REDIS_SLOTS; slot++)
        buffer_appendf(&answer, "*3\r\n:%u\r\n:%u\r\n*2\r\n+h\r\n:%u\r\n", slot, slot, 1 + slot % 1001);
    buffer_append_byte(&answer, '\0');
    assert_false(read_answer(answer.data));
    buffer_dispose(&answer);
}

static bool reach_most(const char *text) {
    struct redis_value value = {.type = REDIS_TEXT, .text = slice_of(text)};

    return redis_nodes_reach_most(&value);
}

#define MASTER(flags, slots) "id 10.0.0.1:7001@17001 " flags " - 0 1426238316232 2 connected" slots "\n"
#define REPLICA(flags) "id 10.0.0.2:7002@17002 " flags " id 0 1426238316232 2 connected\n"

static void a_node_that_does_not_reach_most_masters_is_cut_off(void **state) {
    const struct redis_value refused = {.type = REDIS_ERROR, .text = SLICE("NOPERM no")};

    (void)state;
    assert_true(reach_most(MASTER("myself,master", " 0-16383")));
    assert_true(reach_most(MASTER("myself,master", " 0-9") MASTER("master", " 10-99") MASTER("master,fail", " 100")));
    assert_true(reach_most(MASTER("master", " 0-9") MASTER("master", " 10") REPLICA("myself,slave")));
    assert_false(reach_most(MASTER("myself,master", " 0") MASTER("master,fail?", " 1") MASTER("master,fail", " 2")));
    assert_false(reach_most(MASTER("myself,master", " 0-9") MASTER("master,fail?", " 10-99")));
    /* Replicas and masters without slots have no say. */
    assert_false(reach_most(MASTER("myself,master", " 0") MASTER("master,fail", " 1") MASTER("master", "")
                                REPLICA("slave") REPLICA("slave")));
    assert_true(reach_most(MASTER("myself,master", " 0") MASTER("master,fail", "") REPLICA("slave,fail")));
    assert_false(reach_most(""));
    assert_false(reach_most("\n \n,, ,, ,,\nmaster"));
    assert_true(redis_nodes_reach_most(&refused));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_has_the_slot_of_its_crc),
        cmocka_unit_test(a_hash_tag_decides_alone),
        cmocka_unit_test_teardown(each_slot_has_the_master_of_its_range, dispose_topology),
        cmocka_unit_test_teardown(what_else_a_node_says_of_itself_does_not_matter, dispose_topology),
        cmocka_unit_test_teardown(an_answer_that_is_none_changes_nothing, dispose_topology),
        cmocka_unit_test(a_node_that_does_not_reach_most_masters_is_cut_off),
        cmocka_unit_test_teardown(slots_may_have_no_master_if_the_reader_allows_it, dispose_topology),
        cmocka_unit_test_teardown(more_masters_than_a_cluster_has_are_refused, dispose_topology),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
