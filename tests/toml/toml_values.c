/*
 * Reads a TOML text on standard input and prints its values as the tagged JSON of toml-test: {"type": ..., "value":
 * ...} for each. Exit code 1 with "line:column: text" if it is not TOML.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "config/toml.h"

static const char *const type_names[] = {
    [TOML_STRING] = "string",         [TOML_INTEGER] = "integer",       [TOML_FLOAT] = "float",
    [TOML_BOOLEAN] = "bool",          [TOML_DATE_TIME] = "datetime",    [TOML_LOCAL_DATE_TIME] = "datetime-local",
    [TOML_LOCAL_DATE] = "date-local", [TOML_LOCAL_TIME] = "time-local",
};

static json_t *make_tagged(const struct toml_scalar *scalar) {
    struct slice value = {scalar->text.data != NULL ? scalar->text.data : "", scalar->text.length};
    char text[64];

    if (scalar->type == TOML_INTEGER || scalar->type == TOML_FLOAT || scalar->type == TOML_BOOLEAN) {
        if (scalar->type == TOML_INTEGER)
            snprintf(text, sizeof text, "%lld", scalar->integer);
        else if (scalar->type == TOML_FLOAT)
            snprintf(text, sizeof text, "%.17g", scalar->real);
        else
            snprintf(text, sizeof text, "%s", scalar->boolean ? "true" : "false");
        value = slice_of(text);
    }
    return json_pack("{s:s, s:s%}", "type", type_names[scalar->type], "value", value.data, value.length);
}

int main(void) {
    struct buffer text = {0};
    struct text_position position;
    struct error error;
    json_t *root;
    size_t count;

    do {
        buffer_reserve(&text, 65536);
        count = fread(text.data + text.length, 1, text.capacity - text.length, stdin);
        text.length += count;
    } while (count > 0);
    root = toml_parse(buffer_slice(&text), make_tagged, &position, &error);
    buffer_dispose(&text);
    if (root == NULL) {
        fprintf(stderr, "%zu:%zu: %s\n", position.line, position.column, error.text);
        return EXIT_FAILURE;
    }
    json_dumpf(root, stdout, 0);
    json_decref(root);
    return EXIT_SUCCESS;
}
