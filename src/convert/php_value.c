#include "convert/php_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

struct source *php_text(struct slice text) {
    return source_create(SOURCE_TEXT, text.data != NULL ? text : SLICE(""));
}

struct source *laravel_env(const json_t *variables, struct slice name) {
    static const char *const words[] = {"true", "false", "null", "empty"};
    const json_t *value = json_object_getn(variables, name.data, name.length);
    struct slice text = {json_string_value(value), json_string_length(value)}, word = text;
    struct source *node = NULL;

    if (value == NULL)
        return NULL;
    if (word.length > 2 && word.data[0] == '(' && word.data[word.length - 1] == ')')
        word = (struct slice){word.data + 1, word.length - 2};
    for (size_t i = 0; i < 4 && node == NULL; i++) {
        if (!json_is_null(value) && !slice_equal_ignoring_case(word, slice_of(words[i])))
            continue;
        if (json_is_null(value) || i == 2)
            node = source_create(SOURCE_NULL, (struct slice){0});
        else
            node = i == 3 ? php_text(SLICE("")) : source_create_flag(i == 0);
    }
    if (node == NULL && text.length > 1 && (text.data[0] == '"' || text.data[0] == '\'') &&
        text.data[text.length - 1] == text.data[0])
        text = (struct slice){text.data + 1, text.length - 2};
    if (node == NULL)
        node = php_text(text);
    node->variable = alloc_copy(name.data, name.length);
    return node;
}

/* Says which value of a call is not understood, or that the call itself is not. */
static struct source *refuse_call(struct source **arguments, size_t count, const char *name, struct php_why *why) {
    for (size_t i = 0; i < count; i++) {
        if (arguments[i]->type == SOURCE_UNREAD) {
            snprintf(why->text, sizeof why->text, "%s", arguments[i]->text);
            return NULL;
        }
    }
    snprintf(why->text, sizeof why->text, "the call of %s() with such values", name);
    return NULL;
}

static struct source *call_env(const json_t *variables, struct source **arguments, size_t count, struct php_why *why) {
    struct source *value;

    if (count == 0 || arguments[0]->type != SOURCE_TEXT)
        return refuse_call(arguments, count, "env", why);
    value = laravel_env(variables, (struct slice){arguments[0]->text, arguments[0]->length});
    if (value != NULL)
        return value;
    if (count > 1 && arguments[1]->type == SOURCE_UNREAD)
        return refuse_call(arguments, count, "env", why);
    if (count > 1) {
        value = arguments[1];
        arguments[1] = NULL;
    } else {
        value = source_create(SOURCE_NULL, (struct slice){0});
    }
    if (value->variable == NULL)
        value->variable = alloc_copy(arguments[0]->text, arguments[0]->length);
    return value;
}

static struct source *call_explode(const json_t *variables, struct source **arguments, size_t count,
                                   struct php_why *why) {
    struct source *list;
    struct slice rest, separator;

    (void)variables;
    if (count != 2 || arguments[0]->type != SOURCE_TEXT || arguments[0]->length == 0 ||
        (arguments[1]->type != SOURCE_TEXT && arguments[1]->type != SOURCE_NULL))
        return refuse_call(arguments, count, "explode", why);
    separator = (struct slice){arguments[0]->text, arguments[0]->length};
    rest = (struct slice){arguments[1]->text != NULL ? arguments[1]->text : "", arguments[1]->length};
    list = source_create(SOURCE_LIST, (struct slice){0});
    for (;;) {
        const char *at = rest.length > 0 ? memmem(rest.data, rest.length, separator.data, separator.length) : NULL;
        struct slice part = {rest.data, at != NULL ? (size_t)(at - rest.data) : rest.length};

        source_add(list, (struct slice){0}, php_text(part));
        if (at == NULL)
            break;
        rest = slice_skip(rest, part.length + separator.length);
    }
    if (arguments[1]->variable != NULL)
        list->variable = alloc_copy(arguments[1]->variable, strlen(arguments[1]->variable));
    return list;
}

static bool is_truthy(const struct source *value) {
    switch (value->type) {
    case SOURCE_FLAG:
        return value->flag;
    case SOURCE_NUMBER:
        return strtod(value->text, NULL) != 0;
    case SOURCE_TEXT:
        return value->length > 0 && strcmp(value->text, "0") != 0;
    case SOURCE_LIST:
    case SOURCE_MAP:
        return value->first != NULL;
    case SOURCE_UNREAD:
        return true; /* kept, so that an error says that it is not understood */
    case SOURCE_NULL:
        break;
    }
    return false;
}

/* array_map('trim', list): each text without blanks at its ends. */
static struct source *call_array_map(const json_t *variables, struct source **arguments, size_t count,
                                     struct php_why *why) {
    struct source *list = count == 2 ? arguments[1] : NULL;

    (void)variables;
    if (list == NULL || list->type != SOURCE_LIST || arguments[0]->type != SOURCE_TEXT ||
        strcasecmp(arguments[0]->text, "trim") != 0)
        return refuse_call(arguments, count, "array_map", why);
    for (struct source *item = list->first; item != NULL; item = item->next) {
        size_t skipped;

        if (item->type != SOURCE_TEXT || item->text == NULL)
            continue;
        skipped = strspn(item->text, " \t\r\n\v");
        item->length -= skipped;
        memmove(item->text, item->text + skipped, item->length);
        while (item->length > 0 && strchr(" \t\r\n\v", item->text[item->length - 1]) != NULL)
            item->length--;
        item->text[item->length] = '\0';
    }
    arguments[1] = NULL;
    return list;
}

/* array_filter(array): leaves out what is empty or false; the others keep their order, and those of a map their names.
 */
static struct source *call_array_filter(const json_t *variables, struct source **arguments, size_t count,
                                        struct php_why *why) {
    struct source *array, *item;

    (void)variables;
    if (count != 1 || (arguments[0]->type != SOURCE_LIST && arguments[0]->type != SOURCE_MAP))
        return refuse_call(arguments, count, "array_filter", why);
    array = arguments[0];
    arguments[0] = NULL;
    item = array->first;
    array->first = array->last = NULL;
    while (item != NULL) {
        struct source *next = item->next;

        item->next = NULL;
        if (!is_truthy(item)) {
            source_destroy(item);
        } else {
            if (array->last != NULL)
                array->last->next = item;
            else
                array->first = item;
            array->last = item;
        }
        item = next;
    }
    return array;
}

static struct source *call_array_values(const json_t *variables, struct source **arguments, size_t count,
                                        struct php_why *why) {
    struct source *list = count == 1 && arguments[0]->type == SOURCE_LIST ? arguments[0] : NULL;

    (void)variables;
    if (list == NULL)
        return refuse_call(arguments, count, "array_values", why);
    arguments[0] = NULL;
    return list;
}

static const struct {
    const char *name;
    struct source *(*call)(const json_t *variables, struct source **arguments, size_t count, struct php_why *why);
} php_functions[] = {
    {"env", call_env},
    {"explode", call_explode},
    {"array_map", call_array_map},
    {"array_filter", call_array_filter},
    {"array_values", call_array_values},
};

bool php_function_is_known(struct slice name) {
    for (size_t i = 0; i < sizeof php_functions / sizeof php_functions[0]; i++)
        if (slice_equal_ignoring_case(name, slice_of(php_functions[i].name)))
            return true;
    return false;
}

struct source *php_call(struct slice name, const json_t *variables, struct source **arguments, size_t count,
                        struct php_why *why) {
    for (size_t i = 0; i < sizeof php_functions / sizeof php_functions[0]; i++)
        if (slice_equal_ignoring_case(name, slice_of(php_functions[i].name)))
            return php_functions[i].call(variables, arguments, count, why);
    return NULL;
}

enum php_cast php_cast_named(struct slice name) {
    static const struct {
        const char *name;
        enum php_cast cast;
    } casts[] = {
        {"int", PHP_CAST_INTEGER}, {"integer", PHP_CAST_INTEGER}, {"float", PHP_CAST_FLOAT}, {"double", PHP_CAST_FLOAT},
        {"bool", PHP_CAST_FLAG},   {"boolean", PHP_CAST_FLAG},    {"string", PHP_CAST_TEXT}, {"array", PHP_CAST_ARRAY},
    };

    for (size_t i = 0; i < sizeof casts / sizeof casts[0]; i++)
        if (slice_equal_ignoring_case(name, slice_of(casts[i].name)))
            return casts[i].cast;
    return PHP_CAST_NONE;
}

/* The value as a number, as PHP's casts have it: a text counts up to the first byte that is not of a number. */
static struct source *cast_to_number(const struct source *value, bool integer) {
    char text[48];
    double number = value->type == SOURCE_FLAG ? value->flag : value->text != NULL ? strtod(value->text, NULL) : 0;

    if (number > 1e15 || number < -1e15 || number != number)
        number = 0; /* beyond all numbers of a configuration, and of a conversion to an integer */
    if (integer)
        snprintf(text, sizeof text, "%lld", (long long)number);
    else
        snprintf(text, sizeof text, "%.17g", number);
    return source_create(SOURCE_NUMBER, slice_of(text));
}

struct source *php_cast_value(enum php_cast cast, struct source *value, struct php_why *why) {
    struct source *result = NULL;
    bool plain = value->type != SOURCE_LIST && value->type != SOURCE_MAP;

    if (value->type == SOURCE_UNREAD) {
        snprintf(why->text, sizeof why->text, "%s", value->text);
    } else if (cast == PHP_CAST_FLAG) {
        result = source_create_flag(is_truthy(value));
    } else if (cast == PHP_CAST_ARRAY && plain) {
        result = source_create(SOURCE_LIST, (struct slice){0});
        if (value->type != SOURCE_NULL) {
            source_add(result, (struct slice){0}, value);
            return result;
        }
    } else if (cast == PHP_CAST_ARRAY) {
        return value;
    } else if (!plain) {
        snprintf(why->text, sizeof why->text, "the cast of an array");
    } else if (cast == PHP_CAST_TEXT) {
        result = value->type == SOURCE_FLAG
                     ? php_text(value->flag ? SLICE("1") : SLICE(""))
                     : php_text((struct slice){value->text != NULL ? value->text : "", value->length});
    } else {
        result = cast_to_number(value, cast == PHP_CAST_INTEGER);
    }
    if (result != NULL && value->variable != NULL)
        result->variable = alloc_copy(value->variable, strlen(value->variable));
    source_destroy(value);
    return result;
}
