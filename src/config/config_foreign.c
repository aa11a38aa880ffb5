#include "config/config_foreign.h"

#include <string.h>

static bool is_word(const char *word, const char *const *words) {
    for (; *words != NULL; words++)
        if (strcmp(word, *words) == 0)
            return true;
    return false;
}

/* True if only soketi has such a member at the top of its file. */
static bool is_of_soketi(const char *name, const json_t *value) {
    static const char *const names[] = {"appManager",    "httpApi",         "eventLimits",
                                        "channelLimits", "databasePooling", NULL};
    static const char *const modes[] = {"full", "server", "worker", NULL};

    return strchr(name, '.') != NULL || is_word(name, names) ||
           (strcmp(name, "mode") == 0 && json_is_string(value) && is_word(json_string_value(value), modes));
}

bool config_report_foreign(const json_t *root, const char *file, struct config_report *report) {
    const char *name;
    json_t *value;

    /* Jansson's iteration takes a pointer that is not const, and changes nothing. */
    json_object_foreach((json_t *)root, name, value) {
        if (!is_of_soketi(name, value))
            continue;
        config_report_error(report,
                            "%s: this is a configuration of soketi (%s), whose settings have other names and units; "
                            "`curlew convert soketi %s` writes it as a configuration of Curlew",
                            file, name, file);
        return true;
    }
    return false;
}
