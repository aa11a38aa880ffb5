/* docs/configuration.md against the table of settings, in both directions: keys, defaults and variables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_table.h"

#define PAGE "docs/configuration.md"
#define CELLS 4
#define NAMES 4

/* A row of one of the page's tables. */
struct documented {
    char line[1024];
    char cells[CELLS][512];
    char paths[NAMES][128]; /* of the first cell, whole */
};

static struct documented page[400];
static size_t page_rows;

static void fill_cells(struct documented *row) {
    const char *at = row->line + 1;

    for (size_t i = 0; i < CELLS && *at != '\0'; i++) {
        const char *end = strchr(at, '|');
        size_t length = end != NULL ? (size_t)(end - at) : strlen(at);

        snprintf(row->cells[i], sizeof row->cells[i], "%.*s", (int)length, at);
        at += length + (end != NULL);
    }
}

/* "`a.b.pool_min`, `.pool_max`" are a.b.pool_min and a.b.pool_max. */
static void fill_paths(struct documented *row) {
    const char *at = row->cells[0];

    for (size_t i = 0; i < NAMES && (at = strchr(at, '`')) != NULL; i++) {
        const char *end = strchr(++at, '`');
        const char *last = strrchr(row->paths[0], '.');
        int length;

        assert_non_null(end);
        length = (int)(end - at);
        if (*at == '.')
            snprintf(row->paths[i], sizeof row->paths[i], "%.*s%.*s", (int)(last - row->paths[0]), row->paths[0],
                     length, at);
        else
            snprintf(row->paths[i], sizeof row->paths[i], "%.*s", length, at);
        at = end + 1;
    }
}

static int read_page(void **state) {
    FILE *file = fopen(PAGE, "r");

    (void)state;
    assert_non_null(file);
    while (fgets(page[page_rows].line, sizeof page[0].line, file) != NULL) {
        if (page[page_rows].line[0] != '|')
            continue;
        fill_cells(&page[page_rows]);
        fill_paths(&page[page_rows]);
        page_rows++;
        assert_true(page_rows < sizeof page / sizeof page[0]);
    }
    fclose(file);
    return 0;
}

/* Of the two places of ScyllaDB's settings the page has one. */
static void as_on_the_page(const char *path, char text[128]) {
    const char *other = "database.scylladb.";
    size_t length = strlen(other);

    if (strncmp(path, other, length) == 0)
        snprintf(text, 128, "app_manager.scylladb.%s", path + length);
    else
        snprintf(text, 128, "%s", path);
}

static bool has_word(const char *text, const char *word) {
    char quoted[160];

    snprintf(quoted, sizeof quoted, "`%s`", word);
    return strstr(text, quoted) != NULL;
}

static const struct documented *find_path(const char *path) {
    for (size_t i = 0; i < page_rows; i++)
        for (size_t k = 0; k < NAMES; k++)
            if (strcmp(page[i].paths[k], path) == 0)
                return &page[i];
    return NULL;
}

/* Of a setting that only the environment has: nothing, or the variable itself, in the first cell. */
static const struct documented *find_variable(const char *variable) {
    for (size_t i = 0; i < page_rows; i++)
        if (strcmp(page[i].paths[0], variable) == 0 ||
            (page[i].paths[0][0] == '\0' && has_word(page[i].cells[2], variable)))
            return &page[i];
    return NULL;
}

static const struct documented *find_row(const struct config_row *row) {
    char path[128];

    if (row->path == NULL)
        return find_variable(row->variables);
    as_on_the_page(row->path, path);
    return find_path(path);
}

static void plain(const char *text, char result[512]) {
    size_t length = 0;

    for (; *text != '\0' && length < 511; text++)
        if (strchr("`\"[] \n", *text) == NULL)
            result[length++] = *text;
    result[length] = '\0';
}

static bool default_is_said(const struct config_row *row, const struct documented *documented) {
    static const char *const unset[] = {"", "unset", "none", "anewUUID", "CPUsthatitmayuse"};
    char said[512], meant[512];

    plain(documented->cells[1], said);
    if (row->fallback != NULL) {
        plain(row->fallback, meant);
        return strcmp(said, meant) == 0;
    }
    for (size_t i = 0; i < sizeof unset / sizeof unset[0]; i++)
        if (strcmp(said, unset[i]) == 0)
            return true;
    return false;
}

/* Calls `each` for every variable of a setting until one is false. */
static bool all_variables(const struct config_row *row, bool (*each)(const char *name, const void *context),
                          const void *context) {
    char names[256], *rest = NULL;

    snprintf(names, sizeof names, "%s", row->variables != NULL ? row->variables : "");
    for (char *name = strtok_r(names, " ", &rest); name != NULL; name = strtok_r(NULL, " ", &rest))
        if (!each(name, context))
            return false;
    return true;
}

static bool is_in_line(const char *name, const void *line) {
    return has_word(line, name);
}

static void every_setting_is_documented_with_its_default_and_its_variables(void **state) {
    (void)state;
    for (size_t i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        const char *name = row->path != NULL ? row->path : row->variables;
        const struct documented *documented;

        if ((row->flags & CONFIG_WITHOUT_EFFECT) != 0)
            continue;
        documented = find_row(row);
        if (documented == NULL)
            fail_msg(PAGE " has no row for %s", name);
        else if (!default_is_said(row, documented))
            fail_msg("the default of %s is %s, not%s", name, row->fallback != NULL ? row->fallback : "unset",
                     documented->cells[1]);
        else if (!all_variables(row, is_in_line, documented->line))
            fail_msg("%s can be set by %s: %s", name, row->variables, documented->line);
    }
}

static bool is_another(const char *name, const void *word) {
    return strcmp(name, word) != 0;
}

static bool is_variable(const char *word) {
    for (size_t i = 0; i < config_row_count; i++)
        if (!all_variables(&config_rows[i], is_another, word))
            return true;
    return false;
}

static void every_documented_variable_is_read(void **state) {
    (void)state;
    for (size_t i = 0; i < page_rows; i++) {
        const char *at = page[i].cells[2];

        while ((at = strchr(at, '`')) != NULL) {
            const char *end = strchr(++at, '`');
            char word[128];

            assert_non_null(end);
            snprintf(word, sizeof word, "%.*s", (int)(end - at), at);
            at = end + 1;
            if (isupper((unsigned char)word[0]) && !is_variable(word))
                fail_msg(PAGE " names the variable %s, which is none: %s", word, page[i].line);
        }
    }
}

static bool is_path(const char *text) {
    for (size_t i = 0; i < config_row_count; i++)
        if (config_rows[i].path != NULL && strcmp(config_rows[i].path, text) == 0)
            return true;
    return false;
}

static void every_documented_key_is_a_setting(void **state) {
    (void)state;
    for (size_t i = 0; i < page_rows; i++)
        for (size_t k = 0; k < NAMES; k++) {
            const char *path = page[i].paths[k];
            bool is_key = strchr(path, '.') != NULL;

            if (is_key && !is_path(path))
                fail_msg(PAGE " has the key %s, which is none: %s", path, page[i].line);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_setting_is_documented_with_its_default_and_its_variables),
        cmocka_unit_test(every_documented_variable_is_read),
        cmocka_unit_test(every_documented_key_is_a_setting),
    };

    return cmocka_run_group_tests(tests, read_page, NULL);
}
