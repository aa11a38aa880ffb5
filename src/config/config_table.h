/*
 * The table of settings: one row per key. Loading, freeing, the search for unknown keys and the tests use it.
 *
 * Only the files of this folder, its tests and the generator of the manual pages include it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "config/config.h"

enum config_type {
    CONFIG_TEXT,            /* char * */
    CONFIG_FLAG,            /* bool */
    CONFIG_UNSIGNED,        /* uint32_t */
    CONFIG_LIMIT,           /* uint32_t; `null` and "none" are 0, which is no limit */
    CONFIG_OPTIONAL_NUMBER, /* struct config_number; `null` is unset */
    CONFIG_FRACTION,        /* double, above 0 and at most 1; above 1 it is a percentage */
    CONFIG_OCTAL,           /* uint32_t; the digits of a file mode, as text or number */
    CONFIG_CHOICE,          /* an enum; one of `choices` */
    CONFIG_LIST,            /* struct config_list; in the environment separated by commas */
    CONFIG_ARRAY,           /* json_t *; any array */
};

enum config_flags {
    CONFIG_NULLABLE = 1 << 0,         /* text that `null` unsets */
    CONFIG_WITHOUT_EFFECT = 1 << 1,   /* checked, but not used */
    CONFIG_FIRST_IF_OTHER = 1 << 2,   /* an unknown word in the file means the first choice */
    CONFIG_FATAL_VARIABLE = 1 << 3,   /* a bad value in the environment is an error, not a warning */
    CONFIG_CASE_INSENSITIVE = 1 << 4, /* choices in any case of letters */
    CONFIG_RELOADED = 1 << 5,         /* read again at SIGHUP */
    CONFIG_APP_DEFAULT = 1 << 6,      /* read again at SIGHUP, with the apps of the driver `memory` */
    CONFIG_HOST_OBJECTS = 1 << 7      /* items of the list may be {"host": ..., "port": ...}, kept as HOST:PORT */
};

/* The form of a text, or of each text of a list. */
struct config_form {
    bool (*valid)(const char *text);
    const char *description; /* follows "must be" */
};

struct config_row {
    const char *path; /* NULL: in the environment only */
    enum config_type type;
    size_t offset;         /* in struct config */
    const char *fallback;  /* the default, as text; NULL: unset */
    const char *variables; /* separated by blanks, a later one wins; NULL: none */
    uint32_t min;          /* of numbers; of a list's length */
    uint32_t max;          /* of numbers; 0 stands for 4294967295 */
    unsigned flags;
    const char *const *choices; /* ends with NULL; each is a name, then its aliases, separated by blanks */
    const struct config_form *form;
};

extern const struct config_row config_rows[];
extern const size_t config_row_count;

/* The row of a setting of the file; NULL if there is none. */
const struct config_row *config_row_at(struct slice path);

/* Names and aliases, indexed by enum config_driver. */
extern const char *const config_driver_choices[];

/*
 * Keys of Sockudo's files that have no meaning here and cause no warning. A `*` at the end matches any one name.
 */
extern const char *const config_accepted_paths[];
extern const size_t config_accepted_path_count;
