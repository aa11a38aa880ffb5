/*
 * Any bytes as a PHP configuration file: what is read is a tree of bounded depth that JSON can hold, and converting it
 * ends, for each server that is configured in PHP.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "convert/laravel.h"
#include "convert/php_array.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_node(const struct source *node, unsigned depth) {
    MUST(depth <= PHP_MAX_DEPTH + 1);
    MUST((node->type == SOURCE_TEXT || node->type == SOURCE_NUMBER || node->type == SOURCE_UNREAD) ==
         (node->text != NULL));
    for (const struct source *child = node->first; child != NULL; child = child->next) {
        MUST((child->name == NULL) == (node->type == SOURCE_LIST));
        MUST(child->parent == node);
        check_node(child, depth + 1);
    }
}

static void convert_tree(struct slice file, const json_t *variables, void (*convert)(struct conversion *conversion)) {
    struct conversion conversion = {.file = "config.php", .output = json_object()};
    struct error error = {0};
    char *text;

    conversion.root = php_array_read(file, variables, &error);
    MUST((conversion.root == NULL) == (error.text[0] != '\0'));
    if (conversion.root != NULL) {
        check_node(conversion.root, 0);
        convert(&conversion);
        text = json_dumps(conversion.output, 0);
        MUST(text != NULL);
        free(text);
    }
    conversion_dispose(&conversion);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *variables = json_pack("{s:s, s:s, s:s}", "ID", "1", "KEY", "k", "SECRET", "s");
    struct slice file = {(const char *)data, size};

    convert_tree(file, variables, reverb_convert);
    convert_tree(file, variables, laravel_websockets_convert);
    json_decref(variables);
    return 0;
}
