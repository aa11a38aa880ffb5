/*
 * Any bytes as TOML: a document gives a tree of bounded depth that JSON can hold; what is none has an error whose
 * position is inside the text.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/toml.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tree(const json_t *value, unsigned depth) {
    const char *key;
    json_t *member;

    MUST(depth <= 2 * TOML_MAX_DEPTH); /* a list of tables is two levels */
    json_object_foreach((json_t *)value, key, member) check_tree(member, depth + 1);
    for (size_t i = 0; i < json_array_size(value); i++)
        check_tree(json_array_get(value, i), depth + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* A copy of exact size shows a read past its end. */
    char *exact = malloc(size != 0 ? size : 1), *text;
    struct text_position position = {0};
    struct error error = {0};
    json_t *root;

    MUST(exact != NULL);
    if (size != 0)
        memcpy(exact, data, size);
    root = toml_parse((struct slice){exact, size}, NULL, &position, &error);
    if (root != NULL) {
        MUST(error.text[0] == '\0');
        check_tree(root, 0);
        text = json_dumps(root, 0);
        MUST(text != NULL);
        free(text);
        json_decref(root);
    } else {
        MUST(error.text[0] != '\0' && position.line >= 1 && position.column >= 1);
        MUST(position.line <= size + 1 && position.column <= size + 1);
    }
    free(exact);
    return 0;
}
