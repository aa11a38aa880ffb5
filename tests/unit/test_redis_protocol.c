/* What is said to Redis, and what its answers mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "cluster/redis/redis_login.h"
#include "cluster/redis/redis_output.h"
#include "cluster/redis/redis_value.h"

#define MAX_BYTES 4096

/* --- values --- */

static struct redis_value *read_value(const char *text) {
    struct redis_reader *reader = redis_reader_create(MAX_BYTES);
    struct redis_value *value = NULL;

    assert_true(redis_reader_feed(reader, slice_of(text), NULL));
    assert_true(redis_reader_next(reader, &value, NULL));
    assert_non_null(value);
    redis_reader_destroy(reader);
    return value;
}

static void each_type_is_read(void **state) {
    struct redis_value *value = read_value("*5\r\n$3\r\na\r\n\r\n+OK\r\n-ERR no\r\n:-7\r\n$-1\r\n");

    (void)state;
    assert_int_equal(value->type, REDIS_ARRAY);
    assert_int_equal(value->item_count, 5);
    assert_int_equal(value->items[0]->type, REDIS_TEXT);
    assert_true(slice_equal(value->items[0]->text, SLICE("a\r\n")));
    assert_true(slice_equal(redis_value_item_text(value, 0), SLICE("a\r\n")));
    assert_int_equal(value->items[1]->type, REDIS_STATUS);
    assert_true(redis_value_begins_with(value->items[1], "ok"));
    assert_int_equal(value->items[2]->type, REDIS_ERROR);
    assert_string_equal(value->items[2]->text.data, "ERR no");
    assert_true(redis_value_begins_with(value->items[2], "ERR"));
    assert_false(redis_value_begins_with(value->items[2], "ERR not"));
    assert_int_equal(value->items[3]->integer, -7);
    assert_int_equal(value->items[4]->type, REDIS_NIL);
    assert_int_equal(redis_value_item_text(value, 4).length, 0);
    assert_int_equal(redis_value_item_text(value, 5).length, 0);
    assert_int_equal(redis_value_item_text(value->items[0], 0).length, 0);
    redis_value_free(value);
}

static void values_may_come_byte_by_byte(void **state) {
    static const char text[] = "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n:1\r\n";
    struct redis_reader *reader = redis_reader_create(MAX_BYTES);
    struct redis_value *value;
    unsigned count = 0;

    (void)state;
    for (size_t i = 0; i < sizeof text - 1; i++) {
        assert_true(redis_reader_feed(reader, (struct slice){text + i, 1}, NULL));
        assert_true(redis_reader_next(reader, &value, NULL));
        if (value != NULL)
            assert_int_equal(value->type, count++ == 0 ? REDIS_ARRAY : REDIS_INTEGER);
        redis_value_free(value);
    }
    assert_int_equal(count, 2);
    redis_reader_destroy(reader);
}

/* Feeds the text until the reader refuses it, with an error. */
static void assert_refused(const char *text, size_t times) {
    struct redis_reader *reader = redis_reader_create(MAX_BYTES);
    struct redis_value *value = NULL;
    struct error error = {0};
    bool refused = false;

    for (size_t i = 0; i < times && !refused; i++) {
        assert_true(redis_reader_feed(reader, slice_of(text), &error));
        refused = !redis_reader_next(reader, &value, &error);
        assert_null(value);
    }
    assert_true(refused);
    assert_true(error.text[0] != '\0');
    redis_reader_destroy(reader);
}

static void no_length_is_believed(void **state) {
    (void)state;
    assert_refused("HTTP/1.1 400 Bad Request\r\n", 1);
    assert_refused("*65537\r\n", 1);
    assert_refused("*2147483648\r\n", 1);
    assert_refused("*60000\r\n", 1);                                                   /* more than a value may take */
    assert_refused("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", 1); /* too deep */
    assert_refused("$9223372036854775807\r\n0123456789012345678901234567890123456789", 1000);
    assert_refused("+0123456789012345678901234567890123456789", 1000); /* never ends */
}

static void what_was_read_of_a_broken_value_is_freed(void **state) {
    struct redis_reader *reader = redis_reader_create(MAX_BYTES);
    struct redis_value *value;

    (void)state;
    assert_true(redis_reader_feed(reader, SLICE("*3\r\n$1\r\na\r\n*2\r\n:1\r\n"), NULL));
    assert_true(redis_reader_next(reader, &value, NULL));
    assert_null(value);
    redis_reader_destroy(reader);
    assert_refused("*3\r\n$1\r\na\r\n*2\r\n:1\r\n!", 1);
}

/* --- output --- */

/* Takes `step` bytes at a time out of the output. */
static struct slice drain_output(struct redis_output *output, size_t step, struct buffer *all) {
    struct iovec parts[3];
    size_t count;

    while ((count = redis_output_parts(output, parts, 3)) > 0) {
        size_t length = 0;
        for (size_t i = 0; i < count && length < step; i++) {
            size_t taken = parts[i].iov_len < step - length ? parts[i].iov_len : step - length;
            buffer_append_bytes(all, parts[i].iov_base, taken);
            length += taken;
        }
        redis_output_written(output, length);
    }
    assert_int_equal(output->waiting, 0);
    return buffer_slice(all);
}

static void commands_leave_in_order_at_any_pace(void **state) {
    static const size_t lengths[] = {0, 1, 2048, 2049, 40000, 3};
    struct buffer expected = {0};

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        buffer_appendf(&expected, "*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$%zu\r\n", lengths[i]);
        for (size_t at = 0; at < lengths[i]; at++)
            buffer_append_byte(&expected, (char)('a' + at % 26));
        buffer_append_string(&expected, "\r\n");
    }
    for (size_t step = 1; step < 100000; step = step * 7 + 1) {
        struct redis_output output = {0};
        struct buffer all = {0};
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            struct bus_bytes *bytes = bus_bytes_create(lengths[i]);
            for (size_t at = 0; at < lengths[i]; at++)
                bytes->data[at] = (char)('a' + at % 26);
            redis_output_command(&output, 3);
            redis_output_word(&output, SLICE("PUBLISH"));
            redis_output_word(&output, SLICE("c"));
            redis_output_shared_word(&output, bytes);
            bus_bytes_unref(bytes);
        }
        assert_int_equal(output.waiting, expected.length);
        assert_true(slice_equal(drain_output(&output, step, &all), buffer_slice(&expected)));
        assert_int_equal(output.sent_total, expected.length);
        buffer_dispose(&all);
    }
    buffer_dispose(&expected);
}

static void output_that_is_thrown_away_gives_messages_back(void **state) {
    struct bus_bytes *bytes = bus_bytes_create(5000);
    struct redis_output output = {0};

    (void)state;
    memset(bytes->data, 'x', bytes->length);
    redis_output_append_shared(&output, bytes);
    redis_output_append(&output, SLICE("rest"));
    assert_int_equal(atomic_load(&bytes->references), 2);
    redis_output_dispose(&output);
    assert_int_equal(atomic_load(&bytes->references), 1);
    bus_bytes_unref(bytes);
}

/* --- logging in --- */

struct login_case {
    struct redis_access access;
    const char *commands;
    const char *answers;
    const char *error; /* NULL: it is logged in */
};

#define OLD "-ERR wrong number of arguments for 'auth' command\r\n"
#define NO_USER "-WRONGPASS invalid username-password pair or user is disabled.\r\n"

static const struct login_case login_cases[] = {
    {{.key = "k", .label = "l"}, "CLIENT SETNAME l PING ", "+OK\r\n+PONG\r\n", NULL},
    {{.key = "k", .label = "l", .password = "p"}, "AUTH p CLIENT SETNAME l PING ", "+OK\r\n+OK\r\n+PONG\r\n", NULL},
    {{.key = "k", .label = "l", .password = "p", .username = "u", .db = 7, .master_only = true},
     "AUTH u p SELECT 7 CLIENT SETNAME l ROLE PING ",
     "+OK\r\n+OK\r\n+OK\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n+PONG\r\n",
     NULL},
    /* A user who may do little. */
    {{.key = "k", .label = "l", .master_only = true},
     "CLIENT SETNAME l ROLE PING ",
     "-NOPERM no\r\n-NOPERM no\r\n-NOPERM no\r\n",
     NULL},
    {{.key = "k", .label = "l"}, NULL, "-NOAUTH Authentication required.\r\n", "it wants a password, and k has none"},
    {{.key = "k", .label = "l", .password = "p"},
     NULL,
     NO_USER,
     "it refuses the password in k: WRONGPASS invalid username-password pair or user is disabled."},
    {{.key = "k", .label = "l", .password = "p", .username = "u"},
     NULL,
     NO_USER,
     "it refuses the user or the password in k: WRONGPASS invalid username-password pair or user is disabled."},
    {{.key = "k", .label = "l", .username_key = "s.u", .password_key = "s.p"},
     NULL,
     "-NOAUTH Authentication required.\r\n",
     "it wants a password: set s.p"},
    {{.key = "k", .label = "l", .password = "p", .username_key = "s.u", .password_key = "s.p"},
     NULL,
     NO_USER,
     "it refuses s.p: WRONGPASS invalid username-password pair or user is disabled."},
    {{.key = "k", .label = "l", .password = "p", .username = "u", .username_key = "s.u", .password_key = "s.p"},
     NULL,
     NO_USER,
     "it refuses s.u or s.p: WRONGPASS invalid username-password pair or user is disabled."},
    {{.key = "k", .label = "l", .password = "p", .username = "u", .username_key = "s.u", .password_key = "s.p"},
     NULL,
     OLD,
     "it is older than Redis 6 and has no users: leave s.u out"},
    {{.key = "k", .label = "l", .db = 99, .password_key = "s.p"},
     NULL,
     "-ERR DB index is out of range\r\n",
     "it has no database 99, which database.redis.db names: ERR DB index is out of range"},
    {{.key = "k", .label = "l", .password = "p", .username = "u"},
     NULL,
     OLD,
     "it is older than Redis 6 and has no users: leave the user in k out"},
    {{.key = "k", .label = "l", .db = 99},
     NULL,
     "-ERR DB index is out of range\r\n",
     "it has no database 99, which k names: ERR DB index is out of range"},
    {{.key = "k", .label = "l", .master_only = true},
     NULL,
     "+OK\r\n*1\r\n$5\r\nslave\r\n",
     "it is a replica, not a master: messages to it do not reach all nodes"},
    {{.key = "k", .label = "l", .master_only = true},
     NULL,
     "+OK\r\n*1\r\n$8\r\nsentinel\r\n",
     "it is a sentinel, not a master: messages to it do not reach all nodes"},
    {{.key = "k", .label = "l"}, NULL, "+OK\r\n-LOADING data\r\n", "LOADING data"},
    {{.key = "k", .label = "l"}, NULL, "+OK\r\n-MASTERDOWN gone\r\n", "MASTERDOWN gone"},
};

/* Writes the words of all commands, each with a blank behind it. */
static void append_words(struct buffer *out, struct slice commands) {
    struct redis_reader *reader = redis_reader_create(MAX_BYTES);
    struct redis_value *value;

    assert_true(redis_reader_feed(reader, commands, NULL));
    while (redis_reader_next(reader, &value, NULL) && value != NULL) {
        for (size_t i = 0; i < value->item_count; i++) {
            buffer_append(out, redis_value_item_text(value, i));
            buffer_append_byte(out, ' ');
        }
        redis_value_free(value);
    }
    redis_reader_destroy(reader);
}

static void run_login_case(const struct login_case *one) {
    struct redis_reader *reader = redis_reader_create(MAX_BYTES);
    enum redis_login_result result = REDIS_LOGIN_GOES_ON;
    struct buffer all = {0}, words = {0};
    struct redis_output output = {0};
    struct redis_login login = {0};
    struct redis_value *value;
    struct error error = {0};

    redis_login_begin(&login, &one->access, &output);
    append_words(&words, drain_output(&output, 1000, &all));
    if (one->commands != NULL)
        assert_string_equal(buffer_string(&words), one->commands);
    assert_true(redis_reader_feed(reader, slice_of(one->answers), NULL));
    while (result == REDIS_LOGIN_GOES_ON) {
        assert_true(redis_reader_next(reader, &value, NULL));
        assert_non_null(value);
        result = redis_login_answer(&login, &one->access, value, &error);
        redis_value_free(value);
    }
    assert_int_equal(result, one->error == NULL ? REDIS_LOGIN_DONE : REDIS_LOGIN_FAILED);
    assert_string_equal(error.text, one->error != NULL ? one->error : "");
    redis_reader_destroy(reader);
    buffer_dispose(&all);
    buffer_dispose(&words);
}

static void logging_in_says_what_is_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof login_cases / sizeof login_cases[0]; i++)
        run_login_case(&login_cases[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_is_read),
        cmocka_unit_test(values_may_come_byte_by_byte),
        cmocka_unit_test(no_length_is_believed),
        cmocka_unit_test(what_was_read_of_a_broken_value_is_freed),
        cmocka_unit_test(commands_leave_in_order_at_any_pace),
        cmocka_unit_test(output_that_is_thrown_away_gives_messages_back),
        cmocka_unit_test(logging_in_says_what_is_refused),
    };

    return cmocka_run_group_tests_name("redis_protocol", tests, NULL, NULL);
}
