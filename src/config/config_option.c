#include "config/config_option.h"

#include <ctype.h>
#include <string.h>

#include "base/near_miss.h"
#include "config/config_table.h"

/* Hyphens and underscores count as the dots between names, and letters in any case. */
static int fold_separator(char c) {
    return c == '-' || c == '_' ? '.' : tolower((unsigned char)c);
}

static bool same_name(struct slice a, struct slice b) {
    if (a.length != b.length)
        return false;
    for (size_t i = 0; i < a.length; i++)
        if (fold_separator(a.data[i]) != fold_separator(b.data[i]))
            return false;
    return true;
}

bool config_option_find(struct slice option, struct slice *path, struct slice *variable) {
    for (size_t i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (row->path == NULL || !same_name(option, slice_of(row->path)))
            continue;
        *path = slice_of(row->path);
        *variable = (struct slice){row->variables, row->variables != NULL ? strcspn(row->variables, " ") : 0};
        return true;
    }
    return false;
}

struct slice config_option_meant(struct slice option) {
    struct near_miss miss = near_miss_of(option);

    for (size_t i = 0; i < config_row_count; i++)
        if (config_rows[i].path != NULL && strchr(config_rows[i].path, '.') == NULL)
            near_miss_offer(&miss, slice_of(config_rows[i].path));
    return miss.best;
}
