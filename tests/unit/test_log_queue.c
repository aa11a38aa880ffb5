/* The log between log_start and log_stop: nobody waits for its reader, and warnings that repeat are counted. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/log_queue.h"
#include "base/log_repeats.h"

#define PADDING 3000
#define THREADS 4
#define LINES 500

static int saved_stderr = -1, reading_end = -1;

/* The log goes to a pipe from here on. */
static void begin(void) {
    const struct log_settings settings = {LOG_HUMAN, LOG_INFO, false, true};
    struct error error;
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    saved_stderr = dup(STDERR_FILENO);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    reading_end = ends[0];
    log_configure(&settings);
    assert_true(log_start(&error));
}

/* Standard error is what it was: after this the pipe has an end, if the log has ended. */
static void restore(void) {
    assert_int_equal(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
    close(saved_stderr);
}

/* Reads to the end; the text is to be disposed of. */
static struct buffer read_rest(void) {
    struct buffer text = {0};
    char piece[65536];
    ssize_t count;

    while ((count = read(reading_end, piece, sizeof piece)) > 0)
        buffer_append(&text, (struct slice){piece, (size_t)count});
    close(reading_end);
    buffer_append_byte(&text, '\0');
    return text;
}

static void log_numbered(unsigned thread, unsigned number) {
    log_info("test", "thread %u line %u %*s.", thread, number, PADDING, "");
}

/* --- a reader that does not read --- */

static void *log_many(void *context) {
    for (unsigned i = 0; i < LINES; i++)
        log_numbered((unsigned)(uintptr_t)context, i);
    return NULL;
}

static void *read_all(void *context) {
    struct buffer *text = context;

    *text = read_rest();
    return NULL;
}

/* The lines of a thread are in order; what is missing is told where it is missing, and the sum is right. */
static void check_lines(char *text, uint64_t lost) {
    unsigned next[THREADS] = {0}, lines = 0, thread, number;
    unsigned long long missing = 0, count;

    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL && *line != '\0';) {
        const char *message = strstr(line, "test: ");
        if (message == NULL) {
            assert_non_null(strstr(line, " WARN log: "));
            assert_int_equal(sscanf(strstr(line, "log: "), "log: %llu lines are missing here", &count), 1);
            missing += count;
            continue;
        }
        assert_int_equal(sscanf(message, "test: thread %u line %u", &thread, &number), 2);
        assert_int_equal(line[strlen(line) - 1], '.');
        assert_true(thread < THREADS && number >= next[thread]);
        next[thread] = number + 1;
        lines++;
    }
    assert_int_equal(missing, lost);
    assert_int_equal(lines + missing, THREADS * LINES + 1);
}

static void threads_go_on_though_nobody_reads_and_the_log_says_what_is_missing(void **state) {
    uint64_t before = log_lost_lines(), lost;
    pthread_t threads[THREADS], reader;
    struct buffer text;

    (void)state;
    begin();
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, (void *)i), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL); /* 6 MB, of which the pipe and the queue take 1.1 */
    lost = log_lost_lines() - before;
    assert_true(lost > THREADS * LINES / 2 && lost < THREADS * LINES);
    assert_int_equal(pthread_create(&reader, NULL, read_all, &text), 0);
    log_info("test", "thread 0 line %u.", LINES); /* may be lost, too */
    log_stop();
    restore();
    pthread_join(reader, NULL);
    check_lines(text.data, log_lost_lines() - before);
    buffer_dispose(&text);
}

static void the_end_does_not_wait_for_a_reader_that_is_gone_for_good(void **state) {
    uint64_t began_ms = clock_monotonic_ms();
    struct buffer text;

    (void)state;
    begin();
    for (unsigned i = 0; i < 100; i++)
        log_numbered(0, i);
    log_stop();
    assert_true(clock_monotonic_ms() - began_ms >= 2000); /* it is given a chance */
    log_info("test", "after the end");
    restore();
    text = read_rest();
    assert_null(strstr(text.data, "after the end"));
    buffer_dispose(&text);
}

static void everything_is_written_before_the_end_and_directly_after_it(void **state) {
    struct buffer text;
    char line[64];

    (void)state;
    begin();
    for (unsigned i = 0; i < 300; i++)
        log_info("test", "short line %u.", i);
    log_stop();
    log_info("test", "after the end.");
    restore();
    text = read_rest();
    for (unsigned i = 0; i < 300; i++) {
        snprintf(line, sizeof line, "short line %u.\n", i);
        assert_non_null(strstr(text.data, line));
    }
    assert_non_null(strstr(text.data, "after the end."));
    buffer_dispose(&text);
}

/* In a process of its own. The pipe is full until the reader begins, so the lines are in the queue. */
static void abort_and_check(bool by_signal) {
    struct buffer text;
    pid_t child;
    int status;

    fflush(NULL);
    begin();
    log_stop(); /* no thread while the process divides */
    child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL); /* cmocka's */
        log_start(&(struct error){0});
        for (unsigned i = 0; i < 100; i++)
            log_numbered(0, i);
        log_error("test", "the last words");
        if (by_signal)
            kill(getpid(), SIGABRT);
        else
            abort();
        _exit(0);
    }
    restore();
    text = read_rest();
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text.data, "line 99 "));
    assert_non_null(strstr(text.data, "the last words"));
    buffer_dispose(&text);
}

static void what_was_logged_before_an_abort_is_written(void **state) {
    (void)state;
    abort_and_check(false);
    abort_and_check(true);
}

/* --- repeats --- */

static unsigned count_of(const char *text, const char *part) {
    unsigned count = 0;

    while ((text = strstr(text, part)) != NULL) {
        text += strlen(part);
        count++;
    }
    return count;
}

static void a_warning_that_repeats_is_written_once_and_counted(void **state) {
    struct buffer text;

    (void)state;
    begin();
    for (unsigned i = 0; i < 50; i++) {
        log_warning("test", "the disk is full");
        log_warning("other", "the disk is full");
        log_info("test", "an info");
        log_error("test", "an error");
        log_write_each(LOG_WARNING, "test", "one of many");
    }
    log_stop();
    log_warning("test", "the disk is full"); /* not counted any more */
    restore();
    text = read_rest();
    assert_int_equal(count_of(text.data, " test: the disk is full\n"), 2);
    assert_int_equal(count_of(text.data, " WARN test: the disk is full (49 times more within 10 s)\n"), 1);
    assert_int_equal(count_of(text.data, " WARN other: the disk is full (49 times more within 10 s)\n"), 1);
    assert_int_equal(count_of(text.data, "an info\n"), 50);
    assert_int_equal(count_of(text.data, "an error\n"), 50);
    assert_int_equal(count_of(text.data, "one of many\n"), 50);
    buffer_dispose(&text);
}

static bool admit(struct log_repeats *repeats, const char *text, uint64_t now_ms) {
    return log_repeats_admit(repeats, "test", slice_of(text), now_ms);
}

static void a_text_that_goes_on_is_one_line_in_ten_seconds(void **state) {
    static struct log_repeats repeats;
    struct log_repeat taken;
    unsigned lines = 0;

    (void)state;
    for (uint64_t now_ms = 1000; now_ms < 61000; now_ms += 100) { /* ten times a second for a minute */
        lines += admit(&repeats, "again", now_ms);
        while (log_repeats_take(&repeats, now_ms, false, &taken)) {
            assert_int_equal(taken.count, 100);
            lines++;
        }
    }
    assert_int_equal(lines, 6);
    assert_true(log_repeats_take(&repeats, 61000, true, &taken));
    assert_int_equal(taken.count, 99);
    assert_false(log_repeats_take(&repeats, 61000, true, &taken));
    assert_false(admit(&repeats, "again", 70000));
    assert_true(admit(&repeats, "now and then", 70000));
    assert_true(admit(&repeats, "now and then", 80000));
    assert_true(admit(&repeats, "now and then", 90000));
}

static void a_table_full_of_repeats_lets_others_through(void **state) {
    static struct log_repeats repeats;
    char text[32];

    (void)state;
    for (unsigned i = 0; i < LOG_REPEATS; i++) {
        snprintf(text, sizeof text, "text %u", i);
        assert_true(admit(&repeats, text, 1000));
        assert_false(admit(&repeats, text, 1000));
    }
    assert_true(admit(&repeats, "one more", 2000));
    assert_true(admit(&repeats, "one more", 2000));
    assert_false(admit(&repeats, "text 7", 2000));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_written_before_the_end_and_directly_after_it),
        cmocka_unit_test(threads_go_on_though_nobody_reads_and_the_log_says_what_is_missing),
        cmocka_unit_test(what_was_logged_before_an_abort_is_written),
        cmocka_unit_test(a_warning_that_repeats_is_written_once_and_counted),
        cmocka_unit_test(a_text_that_goes_on_is_one_line_in_ten_seconds),
        cmocka_unit_test(a_table_full_of_repeats_lets_others_through),
        cmocka_unit_test(the_end_does_not_wait_for_a_reader_that_is_gone_for_good),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
