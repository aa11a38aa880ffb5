/*
 * Keys, tables and arrays. Which tables may still grow depends on how they were made, and jansson's values have no room
 * for that: `states` maps a table's address to it. A table or array without a state is a finished value.
 */
#include "config/toml.h"

#include <stdio.h>

#include "config/toml_scanner.h"

enum table_state {
    TABLE_FINISHED,
    TABLE_IMPLICIT, /* a part of a header's name that was not the last one */
    TABLE_HEADER,   /* [name] */
    TABLE_DOTTED,   /* made by a key with a dot */
    TABLE_ARRAY,    /* [[name]]: an array */
};

static bool read_toml_value(struct toml_scanner *scanner, json_t **value);

static void format_address(const json_t *value, char address[32]) {
    snprintf(address, 32, "%p", (const void *)value);
}

static enum table_state state_of(const struct toml_scanner *scanner, const json_t *value) {
    char address[32];

    format_address(value, address);
    return (enum table_state)json_integer_value(json_object_get(scanner->states, address));
}

static void set_state(struct toml_scanner *scanner, const json_t *value, enum table_state state) {
    char address[32];

    format_address(value, address);
    json_object_set_new(scanner->states, address, json_integer(state));
}

/* --- keys --- */

static bool is_bare(int byte) {
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ||
           byte == '_' || byte == '-';
}

/* One part of a key, and the blanks behind it. */
static bool read_key_part(struct toml_scanner *scanner, struct buffer *part) {
    const char *start = scanner->at;

    part->length = 0;
    if (toml_at(scanner, "\"\"\"") || toml_at(scanner, "'''"))
        return toml_fail(scanner, scanner->at, "a key must be on one line, in single quotation marks");
    if (toml_at(scanner, "\"") || toml_at(scanner, "'")) {
        if (!toml_read_string(scanner, part))
            return false;
    } else {
        while (is_bare(toml_peek(scanner, 0)))
            scanner->at++;
        if (scanner->at == start)
            return toml_expect(scanner, "a key (letters, digits, _ and -, or a name in quotation marks)");
        buffer_append_bytes(part, start, (size_t)(scanner->at - start));
    }
    buffer_string(part); /* terminated, and never NULL */
    toml_skip_blanks(scanner);
    return true;
}

/* Skips the dot between two parts of a key, and the blanks behind it. */
static bool skip_dot(struct toml_scanner *scanner) {
    if (toml_peek(scanner, 0) != '.')
        return false;
    scanner->at++;
    toml_skip_blanks(scanner);
    return true;
}

static json_t *member_of(json_t *table, const struct buffer *name) {
    return json_object_getn(table, name->data, name->length);
}

/* Puts the value into the table, which takes over the reference. */
static json_t *add_member(json_t *table, const struct buffer *name, json_t *value) {
    json_object_setn_new_nocheck(table, name->data, name->length, value);
    return value;
}

static bool fail_deep(struct toml_scanner *scanner) {
    return toml_fail(scanner, scanner->at, "tables and arrays are nested deeper than %d levels", TOML_MAX_DEPTH);
}

static bool fail_twice(struct toml_scanner *scanner, const char *at, const struct buffer *name) {
    return toml_fail(scanner, at, "%.*s is defined twice", SLICE_ARGS(buffer_slice(name)));
}

/* The table `name` in `table`, for a part of a dotted key. It is made if it is missing. NULL with an error. */
static json_t *enter_dotted(struct toml_scanner *scanner, json_t *table, const char *at, const struct buffer *name) {
    json_t *member = member_of(table, name);

    if (member == NULL) {
        member = add_member(table, name, json_object());
        set_state(scanner, member, TABLE_DOTTED);
    } else if (state_of(scanner, member) != TABLE_DOTTED) {
        toml_fail(scanner, at, "%.*s is defined already, so a key with a dot cannot add to it",
                  SLICE_ARGS(buffer_slice(name)));
        return NULL;
    }
    return member;
}

/* KEY = VALUE in `table`. */
static bool read_member(struct toml_scanner *scanner, json_t *table) {
    size_t depth = scanner->depth;
    struct buffer name = {0};
    const char *at = scanner->at;
    json_t *value = NULL;
    bool good = read_key_part(scanner, &name);

    while (good && skip_dot(scanner)) {
        good = ++scanner->depth <= TOML_MAX_DEPTH ? true : fail_deep(scanner);
        if (good)
            table = enter_dotted(scanner, table, at, &name);
        at = scanner->at;
        good = good && table != NULL && read_key_part(scanner, &name);
    }
    if (good && member_of(table, &name) != NULL)
        good = fail_twice(scanner, at, &name);
    if (good && toml_peek(scanner, 0) != '=')
        good = toml_expect(scanner, "= and a value after the key");
    if (good) {
        scanner->at++;
        toml_skip_blanks(scanner);
        good = read_toml_value(scanner, &value);
    }
    if (good)
        add_member(table, &name, value);
    scanner->depth = depth;
    buffer_dispose(&name);
    return good;
}

/* --- values --- */

/* The plain values of JSON. */
static json_t *make_json(const struct toml_scalar *scalar) {
    switch (scalar->type) {
    case TOML_INTEGER:
        return json_integer(scalar->integer);
    case TOML_FLOAT:
        return json_real(scalar->real);
    case TOML_BOOLEAN:
        return json_boolean(scalar->boolean);
    case TOML_STRING:
    case TOML_DATE_TIME:
    case TOML_LOCAL_DATE_TIME:
    case TOML_LOCAL_DATE:
    case TOML_LOCAL_TIME:
        break;
    }
    return json_stringn(scalar->text.data != NULL ? scalar->text.data : "", scalar->text.length);
}

static bool read_array(struct toml_scanner *scanner, json_t *array) {
    scanner->at++;
    for (;;) {
        json_t *value;

        if (!toml_skip_lines(scanner))
            return false;
        if (toml_peek(scanner, 0) == ']')
            break;
        if (!read_toml_value(scanner, &value))
            return false;
        json_array_append_new(array, value);
        if (!toml_skip_lines(scanner))
            return false;
        if (toml_peek(scanner, 0) == ']')
            break;
        if (toml_peek(scanner, 0) != ',')
            return toml_expect(scanner, "a comma or ] after a value of an array");
        scanner->at++;
    }
    scanner->at++;
    return true;
}

static bool read_inline_table(struct toml_scanner *scanner, json_t *table) {
    scanner->at++;
    toml_skip_blanks(scanner);
    if (toml_peek(scanner, 0) == '}') {
        scanner->at++;
        return true;
    }
    for (;;) {
        if (!read_member(scanner, table))
            return false;
        toml_skip_blanks(scanner);
        if (toml_peek(scanner, 0) == '}')
            break;
        if (toml_peek(scanner, 0) != ',')
            return toml_expect(scanner, "a comma or } after a value of a table on one line");
        scanner->at++;
        toml_skip_blanks(scanner);
        if (toml_peek(scanner, 0) == '}')
            return toml_fail(scanner, scanner->at - 1, "a comma before } is not TOML 1.0");
    }
    scanner->at++;
    return true;
}

static bool read_container(struct toml_scanner *scanner, json_t **value) {
    bool table = *scanner->at == '{';
    bool good;

    if (++scanner->depth > TOML_MAX_DEPTH)
        return fail_deep(scanner);
    *value = table ? json_object() : json_array();
    good = table ? read_inline_table(scanner, *value) : read_array(scanner, *value);
    scanner->depth--;
    if (!good)
        json_decref(*value);
    return good;
}

static bool read_toml_value(struct toml_scanner *scanner, json_t **value) {
    const char *at = scanner->at;
    struct toml_scalar scalar = {.type = TOML_STRING};
    struct buffer text = {0};
    int byte = toml_peek(scanner, 0);
    bool good;

    if (byte == '[' || byte == '{')
        return read_container(scanner, value);
    if (byte == '"' || byte == '\'') {
        good = toml_read_string(scanner, &text);
        scalar.text = buffer_slice(&text);
    } else {
        good = toml_read_scalar(scanner, &scalar);
    }
    if (good) {
        *value = scanner->make != NULL ? scanner->make(&scalar) : make_json(&scalar);
        good = *value != NULL || toml_fail(scanner, at, "inf and nan are no values of a setting");
    }
    buffer_dispose(&text);
    return good;
}

/* --- headers --- */

/* The table `name` in `table`, for a part of a header that is not the last one. NULL with an error. */
static json_t *enter_header(struct toml_scanner *scanner, json_t *table, const char *at, const struct buffer *name) {
    json_t *member = member_of(table, name);

    if (member == NULL) {
        member = add_member(table, name, json_object());
        set_state(scanner, member, TABLE_IMPLICIT);
        return member;
    }
    switch (state_of(scanner, member)) {
    case TABLE_ARRAY:
        return json_array_get(member, json_array_size(member) - 1);
    case TABLE_IMPLICIT:
    case TABLE_HEADER:
    case TABLE_DOTTED:
        return member;
    case TABLE_FINISHED:
        break;
    }
    toml_fail(scanner, at, "%.*s is a value already, and no table can be added to it", SLICE_ARGS(buffer_slice(name)));
    return NULL;
}

/* The table of [..., name]. */
static json_t *open_table(struct toml_scanner *scanner, json_t *table, const char *at, const struct buffer *name) {
    json_t *member = member_of(table, name);

    if (member == NULL) {
        member = add_member(table, name, json_object());
    } else if (state_of(scanner, member) != TABLE_IMPLICIT) {
        fail_twice(scanner, at, name);
        return NULL;
    }
    set_state(scanner, member, TABLE_HEADER);
    return member;
}

/* A new table at the end of the array of [[..., name]]. */
static json_t *open_element(struct toml_scanner *scanner, json_t *table, const char *at, const struct buffer *name) {
    json_t *array = member_of(table, name), *element;

    if (array == NULL) {
        array = add_member(table, name, json_array());
        set_state(scanner, array, TABLE_ARRAY);
    } else if (state_of(scanner, array) != TABLE_ARRAY) {
        toml_fail(scanner, at, "%.*s is defined already, and not as a list by [[ ]]", SLICE_ARGS(buffer_slice(name)));
        return NULL;
    }
    element = json_object();
    json_array_append_new(array, element);
    set_state(scanner, element, TABLE_HEADER);
    return element;
}

/* [KEY] or [[KEY]]: the table for the members that follow. NULL with an error. */
static json_t *read_header(struct toml_scanner *scanner) {
    bool element = toml_at(scanner, "[[");
    const char *closing = element ? "]]" : "]", *at;
    struct buffer name = {0};
    json_t *table = scanner->root;
    bool good;

    scanner->at += element ? 2 : 1;
    toml_skip_blanks(scanner);
    at = scanner->at;
    scanner->depth = element ? 2 : 1;
    good = read_key_part(scanner, &name);
    while (good && skip_dot(scanner)) {
        scanner->depth += 2; /* the name may be that of an array, which is a level of its own */
        if (scanner->depth > TOML_MAX_DEPTH)
            good = fail_deep(scanner);
        else
            good = (table = enter_header(scanner, table, at, &name)) != NULL;
        at = scanner->at;
        good = good && read_key_part(scanner, &name);
    }
    if (good && !toml_at(scanner, closing))
        good = toml_expect(scanner, element ? "]] after the name of a list" : "] after the name of a table");
    if (good) {
        scanner->at += element ? 2 : 1;
        table = element ? open_element(scanner, table, at, &name) : open_table(scanner, table, at, &name);
    }
    buffer_dispose(&name);
    return good ? table : NULL;
}

/* --- the document --- */

static bool read_document(struct toml_scanner *scanner) {
    json_t *table = scanner->root;

    for (;;) {
        if (!toml_skip_lines(scanner))
            return false;
        if (scanner->at == scanner->end)
            return true;
        if (*scanner->at == '{' && json_object_size(scanner->root) == 0)
            return toml_fail(scanner, scanner->at, "this looks like JSON: give the file a name that ends in .json");
        if (*scanner->at == '[') {
            table = read_header(scanner);
            if (table == NULL)
                return false;
        } else if (!read_member(scanner, table)) {
            return false;
        }
        toml_skip_blanks(scanner);
        if (!toml_skip_comment(scanner))
            return false;
        if (scanner->at != scanner->end && !toml_skip_line_end(scanner))
            return toml_expect(scanner, "the end of the line");
    }
}

static bool check_encoding(struct toml_scanner *scanner, struct slice text) {
    const char *malformed = text_find_malformed(text);

    return malformed == NULL || toml_fail(scanner, malformed, "the file is not in UTF-8");
}

json_t *toml_parse(struct slice text, toml_make_value *make, struct text_position *position, struct error *error) {
    const char *start = text.data != NULL ? text.data : "";
    struct toml_scanner scanner = {
        .start = start,
        .at = start,
        .end = start + text.length,
        .make = make,
        .root = json_object(),
        .states = json_object(),
        .error = error,
    };

    if (!check_encoding(&scanner, text) || !read_document(&scanner)) {
        *position = text_position_of((struct slice){start, text.length}, scanner.fault);
        json_decref(scanner.root);
        scanner.root = NULL;
    }
    json_decref(scanner.states);
    return scanner.root;
}
