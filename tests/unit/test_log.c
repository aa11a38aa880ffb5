#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"

/* The original standard error, which a pipe or a terminal replaces while the tests log. */
static int saved_stderr = -1;

static void redirect(int descriptor) {
    saved_stderr = dup(STDERR_FILENO);
    assert_int_not_equal(saved_stderr, -1);
    assert_int_equal(dup2(descriptor, STDERR_FILENO), STDERR_FILENO);
}

static void restore(void) {
    assert_int_equal(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
    close(saved_stderr);
}

/*
 * Logs one line and reads it back from a pipe in packet mode, where a read returns what one write wrote. The text is
 * given by length, as bytes of a client would be.
 */
static struct slice log_line(enum log_level level, const char *target, const char *text, size_t length) {
    static char line[8192];
    ssize_t count;
    int ends[2];

    assert_int_equal(pipe2(ends, O_DIRECT | O_NONBLOCK), 0);
    redirect(ends[1]);
    log_write(level, target, "%.*s", (int)length, text);
    restore();
    count = read(ends[0], line, sizeof line);
    if (count < 0) {
        assert_int_equal(errno, EAGAIN);
        count = 0;
    } else {
        char more;
        assert_int_equal(read(ends[0], &more, 1), -1);
    }
    close(ends[0]);
    close(ends[1]);
    return (struct slice){line, (size_t)count};
}

#define LOG_LINE(literal) log_line(LOG_INFO, "api", literal, sizeof(literal) - 1)

static void configure(enum log_format format, bool include_target) {
    struct log_settings settings = {format, LOG_INFO, true, include_target};

    log_configure(&settings);
}

/* Checks the format of the time stamp and returns the rest of the line. */
static struct slice skip_time(struct slice line) {
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ";

    assert_true(line.length >= sizeof shape - 1);
    for (size_t i = 0; i < sizeof shape - 1; i++)
        if (shape[i] == 'd' ? line.data[i] < '0' || line.data[i] > '9' : line.data[i] != shape[i])
            fail_msg("not a time stamp: %.*s", 24, line.data);
    return slice_skip(line, sizeof shape - 1);
}

static void assert_text(struct slice text, struct slice wanted) {
    if (!slice_equal(text, wanted))
        fail_msg("\"%.*s\", not \"%.*s\"", SLICE_ARGS(text), SLICE_ARGS(wanted));
}

/* Returns the decoded message of a JSON line, and checks that the line is one strict object. */
static struct slice json_message(struct slice line, struct buffer *storage) {
    static const struct slice names[] = {{"time", 4}, {"level", 5}, {"target", 6}, {"message", 7}};
    struct json_value values[4];
    struct error error = {0};

    assert_true(line.length > 1 && line.data[line.length - 1] == '\n');
    assert_null(memchr(line.data, '\n', line.length - 1));
    assert_true(utf8_valid(line));
    if (!json_scan_object(line, names, values, 4, &error))
        fail_msg("%s: %.*s", error.text, SLICE_ARGS(line));
    assert_int_equal(skip_time(json_decode_string(values[0], storage)).length, 0);
    assert_text(values[1].token, SLICE("\"info\""));
    assert_text(values[2].token, SLICE("\"api\""));
    assert_int_equal(values[3].type, JSON_TYPE_STRING);
    return json_decode_string(values[3], storage);
}

static void a_line_for_people_has_time_level_target_and_text(void **state) {
    (void)state;
    configure(LOG_HUMAN, true);
    assert_text(skip_time(LOG_LINE("listening on http://127.0.0.1:6001")),
                SLICE("  INFO api: listening on http://127.0.0.1:6001\n"));
    assert_text(skip_time(log_line(LOG_WARNING, "net", "x", 1)), SLICE("  WARN net: x\n"));
    assert_text(skip_time(log_line(LOG_ERROR, "config", "x", 1)), SLICE(" ERROR config: x\n"));
}

static void a_line_for_machines_is_one_json_object(void **state) {
    struct buffer storage = {0};
    struct slice line;

    (void)state;
    configure(LOG_JSON, true);
    line = LOG_LINE("ready");
    assert_true(slice_starts_with(line, SLICE("{\"time\":\"")));
    assert_text(skip_time(slice_skip(line, 9)),
                SLICE("\",\"level\":\"info\",\"target\":\"api\",\"message\":\"ready\"}\n"));
    assert_text(json_message(line, &storage), SLICE("ready"));
    line = log_line(LOG_WARNING, "app", "x", 1);
    assert_text(skip_time(slice_skip(line, 9)), SLICE("\",\"level\":\"warn\",\"target\":\"app\",\"message\":\"x\"}\n"));
    line = log_line(LOG_ERROR, "app", "x", 1);
    assert_text(skip_time(slice_skip(line, 9)),
                SLICE("\",\"level\":\"error\",\"target\":\"app\",\"message\":\"x\"}\n"));
    buffer_dispose(&storage);
}

static void the_target_can_be_left_out(void **state) {
    (void)state;
    configure(LOG_HUMAN, false);
    assert_text(skip_time(LOG_LINE("ready")), SLICE("  INFO ready\n"));
    configure(LOG_JSON, false);
    assert_text(skip_time(slice_skip(LOG_LINE("ready"), 9)), SLICE("\",\"level\":\"info\",\"message\":\"ready\"}\n"));
}

static void lines_above_the_level_are_dropped(void **state) {
    (void)state;
    for (int limit = LOG_ERROR; limit <= LOG_DEBUG; limit++) {
        struct log_settings settings = {LOG_HUMAN, (enum log_level)limit, false, true};
        log_configure(&settings);
        for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
            assert_int_equal(log_enabled((enum log_level)level), level <= limit);
            assert_int_equal(log_line((enum log_level)level, "net", "x", 1).length != 0, level <= limit);
        }
    }
}

static void bytes_of_a_client_cannot_forge_a_line_or_drive_a_terminal(void **state) {
    (void)state;
    configure(LOG_HUMAN, true);
    assert_text(skip_time(LOG_LINE("a\nb\r\tc\x1b[31m\x7F\b")), SLICE("  INFO api: a\\nb\\r\\tc\\x1b[31m\\x7f\\x08\n"));
    assert_text(skip_time(LOG_LINE("\xC2\x9B"
                                   "31m \xC2\xA0 \xC2\x85")),
                SLICE("  INFO api: \\x9b31m \xC2\xA0 \\x85\n"));
    assert_text(skip_time(LOG_LINE("\x80 \xC3 \xED\xA0\x80 \xFF")),
                SLICE("  INFO api: \\x80 \\xc3 \\xed\\xa0\\x80 \\xff\n"));
    assert_text(skip_time(LOG_LINE("caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 \"q\" \\")),
                SLICE("  INFO api: caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 \"q\" \\\n"));
}

static void json_carries_every_text_back_to_the_reader(void **state) {
    struct buffer storage = {0};

    (void)state;
    configure(LOG_JSON, true);
    assert_text(
        json_message(LOG_LINE("a\nb\r\tc\x1b[31m\x7F\b \"q\" \\ \xC2\x9B caf\xC3\xA9 \xF0\x9F\x98\x80"), &storage),
        SLICE("a\nb\r\tc\x1b[31m\x7F\b \"q\" \\ \xC2\x9B caf\xC3\xA9 \xF0\x9F\x98\x80"));
    assert_text(json_message(LOG_LINE("\x80 \xC3 \xED\xA0\x80 \xFF"), &storage),
                SLICE("\xEF\xBF\xBD \xEF\xBF\xBD \xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD \xEF\xBF\xBD"));
    buffer_dispose(&storage);
}

static void no_byte_breaks_a_line(void **state) {
    struct buffer storage = {0};

    (void)state;
    for (int byte = 1; byte < 256; byte++) {
        char text[3] = {'<', (char)byte, '>'};
        struct slice line;
        configure(LOG_HUMAN, true);
        line = log_line(LOG_INFO, "api", text, 3);
        assert_true(utf8_valid(line));
        for (size_t i = 0; i < line.length; i++)
            assert_int_equal((unsigned char)line.data[i] < 0x20 || line.data[i] == 0x7F, i == line.length - 1);
        configure(LOG_JSON, true);
        line = json_message(log_line(LOG_INFO, "api", text, 3), &storage);
        assert_text(line, byte < 0x80 ? (struct slice){text, 3} : SLICE("<\xEF\xBF\xBD>"));
    }
    buffer_dispose(&storage);
}

static void a_long_line_is_cut_at_a_whole_character_with_an_ellipsis(void **state) {
    static const char *const units[] = {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\x01", "\"", "\xFF"};
    struct buffer storage = {0};
    char text[20000];

    (void)state;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        for (size_t shift = 0; shift < 8; shift++) {
            size_t length = shift, unit = strlen(units[i]);
            struct slice line;
            memset(text, 'a', shift);
            for (; length + unit <= sizeof text; length += unit)
                memcpy(text + length, units[i], unit);
            configure(LOG_HUMAN, true);
            line = log_line(LOG_INFO, "api", text, length);
            assert_in_range(line.length, 4070, 4096);
            assert_true(utf8_valid(line));
            assert_true(slice_ends_with(line, SLICE("\xE2\x80\xA6\n")));
            configure(LOG_JSON, true);
            line = log_line(LOG_INFO, "api", text, length);
            assert_in_range(line.length, 4070, 4096);
            assert_true(slice_ends_with(json_message(line, &storage), SLICE("\xE2\x80\xA6")));
        }
    buffer_dispose(&storage);
}

static void a_line_of_just_under_4_kb_is_whole(void **state) {
    char text[4030];

    (void)state;
    configure(LOG_HUMAN, true);
    memset(text, 'x', sizeof text);
    assert_int_equal(log_line(LOG_INFO, "api", text, sizeof text).length,
                     24 + strlen("  INFO api: ") + sizeof text + 1);
}

static void colors_are_for_terminals_only(void **state) {
    char line[256];
    int terminal, other;
    ssize_t count;

    (void)state;
    configure(LOG_HUMAN, true);
    assert_null(memchr(LOG_LINE("x").data, '\x1b', LOG_LINE("x").length));
    assert_int_equal(openpty(&terminal, &other, NULL, NULL, NULL), 0);
    redirect(other);
    log_info("api", "in color");
    restore();
    count = read(terminal, line, sizeof line - 1);
    assert_true(count > 0);
    line[count] = '\0';
    assert_non_null(strstr(line, "\x1b[32m INFO\x1b[0m api: in color"));
    log_configure(&(struct log_settings){LOG_HUMAN, LOG_INFO, false, true});
    redirect(other);
    log_info("api", "plain");
    restore();
    count = read(terminal, line, sizeof line - 1);
    assert_true(count > 0);
    line[count] = '\0';
    assert_null(strchr(line, '\x1b'));
    assert_non_null(strstr(line, "plain"));
    close(terminal);
    close(other);
}

static void logging_leaves_errno_as_it_was(void **state) {
    (void)state;
    configure(LOG_HUMAN, true);
    errno = ENOSPC;
    redirect(open("/dev/full", O_WRONLY));
    errno = EBADMSG;
    log_error("api", "cannot be written");
    int after = errno;
    restore();
    assert_int_equal(after, EBADMSG);
}

enum { WRITERS = 4, LINES = 500 };

static void *write_lines(void *argument) {
    char text[200];

    memset(text, *(const char *)argument, sizeof text);
    for (int i = 0; i < LINES; i++)
        log_info("net", "%.*s", (int)sizeof text, text);
    return NULL;
}

static void lines_of_several_threads_do_not_mix(void **state) {
    static const char letters[WRITERS] = {'a', 'b', 'c', 'd'};
    char path[] = "/tmp/curlew-log-XXXXXX";
    pthread_t threads[WRITERS];
    char *line = NULL;
    size_t capacity = 0, lines = 0;
    int file = mkostemp(path, O_APPEND);
    FILE *written;

    (void)state;
    assert_int_not_equal(file, -1);
    configure(LOG_HUMAN, true);
    redirect(file);
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, (void *)(uintptr_t)&letters[i]), 0);
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    restore();
    written = fopen(path, "r");
    assert_non_null(written);
    for (ssize_t length; (length = getline(&line, &capacity, written)) > 0; lines++) {
        struct slice text = skip_time((struct slice){line, (size_t)length});
        assert_int_equal(text.length, strlen("  INFO net: ") + 200 + 1);
        for (size_t i = strlen("  INFO net: "); i + 1 < text.length; i++)
            assert_int_equal(text.data[i], text.data[text.length - 2]);
    }
    assert_int_equal(lines, WRITERS * LINES);
    free(line);
    fclose(written);
    close(file);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_for_people_has_time_level_target_and_text),
        cmocka_unit_test(a_line_for_machines_is_one_json_object),
        cmocka_unit_test(the_target_can_be_left_out),
        cmocka_unit_test(lines_above_the_level_are_dropped),
        cmocka_unit_test(bytes_of_a_client_cannot_forge_a_line_or_drive_a_terminal),
        cmocka_unit_test(json_carries_every_text_back_to_the_reader),
        cmocka_unit_test(no_byte_breaks_a_line),
        cmocka_unit_test(a_long_line_is_cut_at_a_whole_character_with_an_ellipsis),
        cmocka_unit_test(a_line_of_just_under_4_kb_is_whole),
        cmocka_unit_test(colors_are_for_terminals_only),
        cmocka_unit_test(logging_leaves_errno_as_it_was),
        cmocka_unit_test(lines_of_several_threads_do_not_mix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
