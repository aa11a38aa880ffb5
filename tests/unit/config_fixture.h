/*
 * Configurations for tests: each test has an empty environment and a new folder as its working directory, which is
 * removed with its files afterwards.
 */
#pragma once

#include "config/config.h"

/* What the last config_fixture_load gave. */
struct config_fixture {
    struct config config;
    struct config_report report;
    struct error error;
};
extern struct config_fixture config_fixture;

/* Setup and teardown of a test. */
int config_fixture_enter(void **state);
int config_fixture_leave(void **state);

/* Writes a file below the folder, with the folder that it is in. */
void config_fixture_write(const char *name, const char *text);

/* Writes `text` to the file and loads it; false with the error. With `text` NULL the file is not written, and with
 * `name` NULL the default file is loaded. */
bool config_fixture_load(const char *name, const char *text);

/* The output of `curlew check`; valid until the next call. */
const char *config_fixture_check(const char *name, bool strict, int *code);

/* Fails unless the loaded configuration has these apps, as JSON. */
void config_fixture_assert_apps(const char *expected);

/* True if one of the texts holds `part`. */
bool config_fixture_holds(const struct config_messages *messages, const char *part);

#define assert_text_holds(text, part)                                                                                  \
    do {                                                                                                               \
        if (strstr(text, part) == NULL)                                                                                \
            fail_msg("no \"%s\" in: %s", part, text);                                                                  \
    } while (0)

#define assert_reported(messages, part)                                                                                \
    do {                                                                                                               \
        if (!config_fixture_holds(&(messages), part))                                                                  \
            fail_msg("no text with \"%s\" among %zu, first: %s", part, (messages).count,                               \
                     (messages).count > 0 ? (messages).texts[0] : "none");                                             \
    } while (0)
