#include "config_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/check.h"

struct config_fixture config_fixture;

static char fixture_folder[32];
static char start_folder[4096];
static char *check_output;

int config_fixture_enter(void **state) {
    (void)state;
    clearenv();
    strcpy(fixture_folder, "/tmp/curlew-config-XXXXXX");
    if (getcwd(start_folder, sizeof start_folder) == NULL)
        return -1;
    return mkdtemp(fixture_folder) != NULL ? chdir(fixture_folder) : -1;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place) {
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

int config_fixture_leave(void **state) {
    (void)state;
    config_dispose(&config_fixture.config);
    config_report_dispose(&config_fixture.report);
    free(check_output);
    check_output = NULL;
    if (chdir(start_folder) != 0)
        return -1;
    return nftw(fixture_folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

void config_fixture_write(const char *name, const char *text) {
    const char *slash = strrchr(name, '/');
    FILE *file;

    if (slash != NULL) {
        char folder[200];

        snprintf(folder, sizeof folder, "%.*s", (int)(slash - name), name);
        mkdir(folder, 0700);
    }
    file = fopen(name, "w");
    assert_non_null(file);
    assert_int_equal(chmod(name, 0600), 0); /* it may hold a secret */
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

bool config_fixture_load(const char *name, const char *text) {
    config_dispose(&config_fixture.config);
    config_report_dispose(&config_fixture.report);
    if (text != NULL)
        config_fixture_write(name, text);
    return config_load(&config_fixture.config, name, &config_fixture.report, &config_fixture.error);
}

const char *config_fixture_check(const char *name, bool strict, int *code) {
    size_t size;
    FILE *out;

    free(check_output);
    out = open_memstream(&check_output, &size);
    assert_non_null(out);
    *code = check_configuration(name, false, strict, out);
    assert_int_equal(fclose(out), 0);
    return check_output;
}

void config_fixture_assert_apps(const char *expected) {
    json_t *wanted = json_loads(expected, 0, NULL);
    char *found = json_dumps(config_fixture.config.app_manager.array_apps, JSON_COMPACT);

    assert_non_null(wanted);
    if (!json_equal(config_fixture.config.app_manager.array_apps, wanted))
        fail_msg("%s is not %s", found, expected);
    free(found);
    json_decref(wanted);
}

bool config_fixture_holds(const struct config_messages *messages, const char *part) {
    for (size_t i = 0; i < messages->count; i++)
        if (strstr(messages->texts[i], part) != NULL)
            return true;
    return false;
}
