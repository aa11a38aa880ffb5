/* The spool: what is read back, and the bound of its files. The tests close it as a kill would: pending units stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "webhook/spool.h"

#define MB (UINT64_C(1) << 20)

static char folder[64];
static struct error error;

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/curlew-spool-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state) {
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static struct spool *open_spool(uint64_t max_bytes) {
    struct spool *spool = spool_open(folder, max_bytes, NULL, &error);

    if (spool == NULL)
        fail_msg("%s", error.text);
    return spool;
}

static struct spool_unit put(struct spool *spool, const char *app_id, const char *text) {
    struct spool_record record = {.type = SPOOL_EVENT, .app_id = slice_of(app_id), .text = slice_of(text)};
    struct spool_unit unit;

    spool_put(spool, &unit, &record);
    return unit;
}

/* The texts of what an earlier process left of the app, with a blank behind each. */
static const char *restored_texts(struct spool *spool, const char *expected_app) {
    static char texts[4096];
    const struct spool_restored *units;
    struct slice app_id;
    size_t count;

    texts[0] = '\0';
    if (!spool_next_app(spool, &app_id, &units, &count))
        return texts;
    assert_int_equal(slice_compare(app_id, slice_of(expected_app)), 0);
    for (size_t i = 0; i < count; i++)
        snprintf(texts + strlen(texts), sizeof texts - strlen(texts), "%.*s ", SLICE_ARGS(units[i].record.text));
    spool_app_taken(spool);
    return texts;
}

static uint64_t folder_bytes(void) {
    DIR *directory = opendir(folder);
    const struct dirent *entry;
    uint64_t bytes = 0;

    while ((entry = readdir(directory)) != NULL) {
        char path[400];
        struct stat status;

        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (stat(path, &status) == 0 && S_ISREG(status.st_mode))
            bytes += (uint64_t)status.st_size;
    }
    closedir(directory);
    return bytes;
}

static void what_is_pending_is_read_back_by_app_and_in_order(void **state) {
    struct spool *spool = open_spool(16 * MB);
    struct spool_unit done, unit = put(spool, "b", "1");

    (void)state;
    put(spool, "a", "2");
    done = put(spool, "b", "3");
    put(spool, "b", "4");
    spool_done(spool, &done);
    assert_null(done.segment);
    spool_close(spool);
    for (int i = 0; i < 2; i++) { /* reading changes nothing */
        spool = open_spool(16 * MB);
        assert_string_equal(restored_texts(spool, "a"), "2 ");
        assert_string_equal(restored_texts(spool, "b"), "1 4 ");
        assert_string_equal(restored_texts(spool, ""), "");
        spool_close(spool);
    }
    (void)unit;
}

static void an_app_that_is_left_for_later_comes_after_the_others(void **state) {
    struct spool *spool = open_spool(16 * MB);

    (void)state;
    put(spool, "a", "1");
    put(spool, "b", "2");
    put(spool, "c", "3");
    put(spool, "c", "4");
    spool_close(spool);
    spool = open_spool(16 * MB);
    assert_string_equal(restored_texts(spool, "a"), "1 ");
    assert_false(spool_app_later(spool));
    assert_true(spool_app_later(spool)); /* the round is over */
    assert_false(spool_app_later(spool));
    assert_string_equal(restored_texts(spool, "c"), "3 4 ");
    assert_string_equal(restored_texts(spool, "b"), "2 ");
    assert_string_equal(restored_texts(spool, ""), "");
    spool_close(spool);
}

static void a_batch_stands_for_its_events(void **state) {
    struct spool *spool = open_spool(16 * MB);
    struct spool_unit events[2] = {put(spool, "a", "1"), put(spool, "a", "2")}, unit;
    struct buffer numbers = {0};
    struct spool_record record = {.type = SPOOL_BATCH, .app_id = SLICE("a"), .lanes = 5, .text = SLICE("body")};

    (void)state;
    put(spool, "a", "3");
    spool_append_number(&numbers, events[0].number);
    spool_append_number(&numbers, events[1].number);
    record.event_numbers = buffer_slice(&numbers);
    spool_put(spool, &unit, &record);
    spool_absorbed(&events[0]);
    spool_absorbed(&events[1]);
    spool_close(spool);
    spool = open_spool(16 * MB);
    assert_string_equal(restored_texts(spool, "a"), "3 body ");
    spool_close(spool);
    buffer_dispose(&numbers);
}

static void files_go_when_nothing_in_them_is_pending(void **state) {
    struct spool *spool = open_spool(16 * MB);
    char *text = alloc_zero(100001);

    (void)state;
    memset(text, 'x', 100000);
    for (uint64_t i = 0; i < 1000; i++) {
        struct spool_unit unit = put(spool, "a", text);

        assert_non_null(unit.segment);
        spool_flush(spool, i);
        spool_done(spool, &unit);
    }
    assert_true(folder_bytes() < 3 * MB);
    spool_close(spool);
    free(text);
}

static void a_unit_that_is_pending_for_long_does_not_let_the_files_grow(void **state) {
    struct spool *spool = open_spool(16 * MB);
    struct spool_unit old = put(spool, "a", "old");
    char *text = alloc_zero(100001);

    (void)state;
    memset(text, 'x', 100000);
    for (uint64_t i = 0; i < 1000; i++) {
        struct spool_unit unit = put(spool, "a", text);
        const struct spool_segment *crowded;

        assert_non_null(unit.segment);
        spool_flush(spool, i);
        spool_done(spool, &unit);
        crowded = spool_crowded(spool);
        if (crowded != NULL) {
            struct spool_record record = {.type = SPOOL_EVENT, .app_id = SLICE("a"), .text = SLICE("old")};

            assert_ptr_equal(old.segment, crowded);
            spool_put_again(spool, &old, &record);
            spool_flush(spool, i);
        }
    }
    assert_true(folder_bytes() < 16 * MB);
    spool_close(spool);
    spool = open_spool(16 * MB);
    assert_string_equal(restored_texts(spool, "a"), "old ");
    spool_close(spool);
    free(text);
}

static void a_full_spool_refuses_what_is_new(void **state) {
    struct spool *spool = open_spool(1 * MB);
    char *text = alloc_zero(100001);
    unsigned kept = 0;

    (void)state;
    memset(text, 'x', 100000);
    for (uint64_t i = 0; i < 20; i++) {
        kept += put(spool, "a", text).segment != NULL;
        spool_flush(spool, i);
    }
    assert_int_equal(kept, 10);
    assert_true(folder_bytes() <= 1 * MB + 1000);
    spool_close(spool);
    free(text);
}

static const char *path_of(const char *name) {
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Lets files have at most this many bytes, as a disk does that is full. */
static void limit_files(rlim_t bytes) {
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void what_follows_a_full_disk_is_read_back(void **state) {
    char text[200] = "";

    (void)state;
    memset(text, 'x', sizeof text - 1);
    /* Within the magic, and within the second record. */
    for (rlim_t bytes = 10; bytes <= 410; bytes += 400) {
        struct spool *spool = open_spool(16 * MB);
        char before[80], after[300];

        snprintf(before, sizeof before, "%u-before", (unsigned)bytes);
        assert_int_equal(mkdir(path_of("000000000002.spool"), 0700), 0); /* another file cannot be begun */
        put(spool, "a", before);
        put(spool, "b", text);
        put(spool, "b", text);
        limit_files(bytes);
        spool_flush(spool, 1);
        limit_files(RLIM_INFINITY);
        put(spool, "a", "after");
        spool_close(spool);
        assert_int_equal(rmdir(path_of("000000000002.spool")), 0);
        spool = open_spool(16 * MB);
        snprintf(after, sizeof after, "%s%s", bytes > 100 ? "410-before " : "", "after ");
        assert_string_equal(restored_texts(spool, "a"), after);
        spool_close(spool);
        assert_int_equal(remove_folder(NULL), 0);
        assert_int_equal(mkdir(folder, 0700), 0);
    }
}

/* What others could have forged. */
static void only_own_regular_files_are_read(void **state) {
    struct spool *spool = open_spool(16 * MB);
    char elsewhere[80];

    (void)state;
    put(spool, "a", "1");
    spool_close(spool); /* file 1 */
    snprintf(elsewhere, sizeof elsewhere, "%s-elsewhere", folder);
    assert_int_equal(rename(path_of("000000000001.spool"), elsewhere), 0);
    assert_int_equal(symlink(elsewhere, path_of("000000000001.spool")), 0);
    assert_int_equal(mkfifo(path_of("000000000002.spool"), 0600), 0);
    assert_int_equal(mkdir(path_of("000000000003.spool"), 0700), 0);
    spool = open_spool(16 * MB); /* file 4 */
    assert_string_equal(restored_texts(spool, "a"), "");
    put(spool, "a", "2");
    spool_close(spool);
    assert_int_equal(chmod(path_of("000000000004.spool"), 0620), 0);
    spool = open_spool(16 * MB); /* file 5 */
    assert_string_equal(restored_texts(spool, "a"), "");
    put(spool, "a", "3");
    spool_close(spool);
    spool = open_spool(16 * MB);
    assert_string_equal(restored_texts(spool, "a"), "3 ");
    spool_close(spool);
    assert_int_equal(unlink(elsewhere), 0);
}

static void a_folder_that_others_can_write_is_refused(void **state) {
    (void)state;
    assert_int_equal(chmod(folder, 0720), 0);
    assert_null(spool_open(folder, MB, NULL, &error));
    assert_non_null(strstr(error.text, "webhooks.spool_path"));
    assert_int_equal(chmod(folder, 0702), 0);
    assert_null(spool_open(folder, MB, NULL, &error));
    assert_int_equal(chmod(folder, 0755), 0);
    spool_close(open_spool(16 * MB));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(what_is_pending_is_read_back_by_app_and_in_order),
        CASE(an_app_that_is_left_for_later_comes_after_the_others),
        CASE(a_batch_stands_for_its_events),
        CASE(files_go_when_nothing_in_them_is_pending),
        CASE(a_unit_that_is_pending_for_long_does_not_let_the_files_grow),
        CASE(a_full_spool_refuses_what_is_new),
        CASE(what_follows_a_full_disk_is_read_back),
        CASE(only_own_regular_files_are_read),
        CASE(a_folder_that_others_can_write_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
