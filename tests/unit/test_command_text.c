/* The help of commands against the options that they take, and the form that the generated references need. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "command/command_line.h"

/* True if a line of the list of options is about this one: "  -c, --config FILE   the configuration". */
static bool lists_option(const char *text, const char *option) {
    char term[128], *rest;

    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n') {
        const char *begin = line + strspn(line, " ");

        if (begin == line || *begin != '-')
            continue;
        snprintf(term, sizeof term, "%.*s", (int)strcspn(begin, "\n"), begin);
        if ((rest = strstr(term, "  ")) != NULL)
            *rest = '\0';
        for (char *name = strtok_r(term, " ,", &rest); name != NULL; name = strtok_r(NULL, " ,", &rest))
            if (strcmp(name, option) == 0)
                return true;
    }
    return false;
}

static void help_of_apps_lists_exactly_the_options_that_a_command_takes(void **state) {
    struct command_text text;
    size_t commands = 0;

    (void)state;
    for (size_t i = 0; command_line_text(i, &text); i++)
        for (size_t k = 0; command_line_subcommand_text(i, k, &text); k++, commands++)
            for (unsigned bit = 1; cli_option_name(bit) != NULL; bit <<= 1) {
                const char *option = cli_option_name(bit);
                bool listed = lists_option(text.usage, option) || lists_option(text.ending, option);
                bool named = strstr(text.usage, option) != NULL || lists_option(text.ending, option);

                if ((text.takes & bit) != 0 && !named)
                    fail_msg("the help of apps %s does not name %s", text.name, option);
                if ((text.takes & bit) == 0 && listed)
                    fail_msg("apps %s does not take %s, which its help lists", text.name, option);
            }
    assert_true(commands >= 11);
}

static void every_help_begins_with_the_command(void **state) {
    struct command_text text, below;
    char expected[128];

    (void)state;
    for (size_t i = 0; command_line_text(i, &text); i++) {
        snprintf(expected, sizeof expected, "usage: curlew %s", text.name);
        assert_memory_equal(text.usage, expected, strlen(expected));
        for (size_t k = 0; command_line_subcommand_text(i, k, &below); k++) {
            snprintf(expected, sizeof expected, "usage: curlew %s %s", text.name, below.name);
            assert_memory_equal(below.usage, expected, strlen(expected));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_of_apps_lists_exactly_the_options_that_a_command_takes),
        cmocka_unit_test(every_help_begins_with_the_command),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
