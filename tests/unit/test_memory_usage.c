/* Memory figures from files in the format of Linux, which the tests write to a folder of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/memory_usage.h"

#define KB UINT64_C(1024)

static char root[64];

static int make_root(void **state) {
    (void)state;
    snprintf(root, sizeof root, "/tmp/curlew-memory-XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_root(void **state) {
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

/* Writes a file below the root, and creates its parent folders. */
static void put(const char *path, const char *text) {
    char full[256];
    FILE *file;

    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
        *slash = '\0';
        mkdir(full, 0700);
    }
    file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void put_machine(void) {
    put("/proc/meminfo", "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    600 kB\n");
}

static void assert_usage(uint64_t total_bytes, uint64_t used_bytes) {
    struct memory_usage usage;

    assert_true(memory_usage_under(root, &usage));
    assert_int_equal(usage.total_bytes, total_bytes);
    assert_int_equal(usage.used_bytes, used_bytes);
}

static void of_a_machine_what_is_not_available_is_used(void **state) {
    (void)state;
    put_machine();
    assert_usage(1000 * KB, 400 * KB);
}

static void without_meminfo_nothing_is_known(void **state) {
    struct memory_usage usage;

    (void)state;
    assert_false(memory_usage_under(root, &usage));
}

static void a_group_of_version_2_with_a_limit_counts_for_itself(void **state) {
    (void)state;
    put_machine();
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/fs/cgroup/a/b/memory.max", "512000\n");
    put("/sys/fs/cgroup/a/b/memory.current", "300000\n");
    put("/sys/fs/cgroup/a/b/memory.stat", "anon 1\nfile 5\ninactive_anon 7\ninactive_file 100000\n");
    assert_usage(512000, 200000);
}

static void the_tightest_group_on_the_way_up_holds(void **state) {
    (void)state;
    put_machine();
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/fs/cgroup/a/b/memory.max", "max\n");
    put("/sys/fs/cgroup/a/b/memory.current", "1\n");
    put("/sys/fs/cgroup/a/memory.max", "400000\n");
    put("/sys/fs/cgroup/a/memory.current", "500000\n");
    put("/sys/fs/cgroup/memory.max", "900000\n");
    put("/sys/fs/cgroup/memory.current", "5\n");
    assert_usage(400000, 400000);
}

static void a_limit_above_the_machine_is_none(void **state) {
    (void)state;
    put_machine();
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/memory.max", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory.current", "5\n");
    assert_usage(1000 * KB, 400 * KB);
}

/* In a container, /proc/self/cgroup has the host's path, while the group's files are at the mount point. */
static void a_group_of_version_1_is_found_at_the_top_too(void **state) {
    (void)state;
    put_machine();
    put("/proc/self/cgroup", "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "600000\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "500000\n");
    put("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 200000\n");
    assert_usage(600000, 300000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(of_a_machine_what_is_not_available_is_used, make_root, remove_root),
        cmocka_unit_test_setup_teardown(without_meminfo_nothing_is_known, make_root, remove_root),
        cmocka_unit_test_setup_teardown(a_group_of_version_2_with_a_limit_counts_for_itself, make_root, remove_root),
        cmocka_unit_test_setup_teardown(the_tightest_group_on_the_way_up_holds, make_root, remove_root),
        cmocka_unit_test_setup_teardown(a_limit_above_the_machine_is_none, make_root, remove_root),
        cmocka_unit_test_setup_teardown(a_group_of_version_1_is_found_at_the_top_too, make_root, remove_root),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
