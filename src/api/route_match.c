#include "api/route_match.h"

bool route_matches(const char *pattern, struct slice path, struct slice parameters[ROUTE_PARAMETERS]) {
    size_t count = 0;

    for (;;) {
        size_t literal = (size_t)(strchrnul(pattern, '{') - pattern);
        size_t length;

        if (!slice_starts_with(path, (struct slice){pattern, literal}))
            return false;
        pattern += literal;
        path = slice_skip(path, literal);
        if (*pattern == '\0')
            return path.length == 0;

        if (pattern[1] == '.') {
            struct slice rest = slice_of(pattern + sizeof "{...}" - 1);
            if (!slice_ends_with(path, rest))
                return false;
            length = path.length - rest.length;
            pattern += sizeof "{...}" - 1;
        } else {
            const char *slash = path.length != 0 ? memchr(path.data, '/', path.length) : NULL;
            length = slash != NULL ? (size_t)(slash - path.data) : path.length;
            pattern += sizeof "{}" - 1;
        }
        if (length == 0)
            return false;
        parameters[count++] = (struct slice){path.data, length};
        path = slice_skip(path, length);
    }
}

struct slice route_path(struct slice path) {
    static const struct slice schemes[] = {SLICE_INIT("http://"), SLICE_INIT("https://")};

    if (path.length == 0 || path.data[0] == '/')
        return path;
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        const char *slash;
        if (path.length <= schemes[i].length ||
            !slice_equal_ignoring_case((struct slice){path.data, schemes[i].length}, schemes[i]))
            continue;
        path = slice_skip(path, schemes[i].length);
        slash = memchr(path.data, '/', path.length);
        return slash != NULL ? slice_skip(path, (size_t)(slash - path.data)) : SLICE("/");
    }
    return path;
}

bool route_strip_prefix(struct slice prefix, struct slice *path) {
    if (!slice_starts_with(*path, prefix))
        return false;
    if (prefix.length != 0 && path->length > prefix.length && path->data[prefix.length] != '/')
        return false;
    *path = slice_skip(*path, prefix.length);
    return true;
}
