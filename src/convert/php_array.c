#include "convert/php_array.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "convert/php_token.h"
#include "convert/php_value.h"

/* What could not be read, in words; never a text of the file, which may be a secret. */
struct php_reader {
    struct php_tokens tokens;
    const json_t *variables;
    struct php_why unread; /* why the expression was not understood */
    struct error *error;
    bool failed; /* an error of the file, in place of an expression that is not understood */
};

static struct source *read_php_value(struct php_reader *reader, unsigned depth);
static struct source *read_php_array(struct php_reader *reader, unsigned depth);

static bool next_token(struct php_reader *reader) {
    if (!php_tokens_next(&reader->tokens, reader->error))
        reader->failed = true;
    return !reader->failed;
}

static struct source *fail_reading(struct php_reader *reader, const char *problem) {
    if (!reader->failed)
        error_set(reader->error, "line %u: %s", reader->tokens.token_line, problem);
    reader->failed = true;
    return NULL;
}

/* Remembers the first reason, the innermost one. */
static struct source *not_understood(struct php_reader *reader, const char *what, struct slice name) {
    if (reader->unread.text[0] == '\0')
        snprintf(reader->unread.text, sizeof reader->unread.text, "%s%.*s", what,
                 (int)(name.length < 64 ? name.length : 64), name.data);
    return NULL;
}

static struct source *describe_token(struct php_reader *reader) {
    struct slice source = reader->tokens.source;

    switch (reader->tokens.type) {
    case PHP_TOKEN_VARIABLE:
        return not_understood(reader, "the variable ", source);
    case PHP_TOKEN_TEMPLATE:
        return not_understood(reader, "a text with a variable in it", (struct slice){0});
    case PHP_TOKEN_NAME:
        return not_understood(reader, "the PHP word ", source);
    case PHP_TOKEN_SIGN:
        return not_understood(reader, "the operator ", source);
    default:
        return not_understood(reader, "such an expression", (struct slice){0});
    }
}

/* Between the brackets of a call: reads the values, understood or not; false if there are more than `most`. */
static bool read_arguments(struct php_reader *reader, struct source **arguments, size_t most, size_t *count,
                           unsigned depth) {
    *count = 0;
    while (!php_token_is(&reader->tokens, ")")) {
        struct source *value = *count < most ? read_php_value(reader, depth + 1) : NULL;

        if (value == NULL) {
            not_understood(reader, "a call with so many values", (struct slice){0});
            return false;
        }
        arguments[(*count)++] = value;
        if (php_token_is(&reader->tokens, ",") && !next_token(reader))
            return false;
    }
    return next_token(reader);
}

/* At the opening bracket of a call. */
static struct source *read_call(struct php_reader *reader, struct slice name, unsigned depth) {
    struct source *arguments[PHP_MAX_ARGUMENTS] = {NULL}, *result = NULL;
    char what[96];
    size_t count;

    if (!php_function_is_known(name)) {
        snprintf(what, sizeof what, "the call of %.*s()", (int)(name.length < 64 ? name.length : 64), name.data);
        return not_understood(reader, what, (struct slice){0});
    }
    if (next_token(reader) && read_arguments(reader, arguments, PHP_MAX_ARGUMENTS, &count, depth)) {
        reader->unread.text[0] = '\0';
        result = php_call(name, reader->variables, arguments, count, &reader->unread);
    }
    for (size_t i = 0; i < PHP_MAX_ARGUMENTS; i++)
        source_destroy(arguments[i]);
    return result;
}

/* The number of a PHP token in decimal; false if it is none, or too large. */
static bool decimal_of(struct slice source, bool negative, char *text, size_t size) {
    char digits[64], *end;
    size_t length = 0;

    for (size_t i = 0; i < source.length; i++) {
        if (source.data[i] == '_')
            continue;
        if (length + 1 == sizeof digits)
            return false;
        digits[length++] = source.data[i];
    }
    digits[length] = '\0';
    errno = 0;
    if (strpbrk(digits, ".eE") != NULL && strncasecmp(digits, "0x", 2) != 0) {
        double value = strtod(digits, &end);

        snprintf(text, size, "%s%.17g", negative ? "-" : "", value);
        return *end == '\0' && errno == 0;
    }
    if (digits[0] == '0' && strchr("bBoO", digits[1]) != NULL && digits[1] != '\0')
        snprintf(text, size, "%s%lld", negative ? "-" : "",
                 strtoll(digits + 2, &end, digits[1] == 'b' || digits[1] == 'B' ? 2 : 8));
    else
        snprintf(text, size, "%s%lld", negative ? "-" : "", strtoll(digits, &end, 0));
    return *end == '\0' && errno == 0;
}

static struct source *read_number_value(struct php_reader *reader, bool negative) {
    char text[48];

    if (reader->tokens.type != PHP_TOKEN_NUMBER || !decimal_of(reader->tokens.source, negative, text, sizeof text))
        return describe_token(reader);
    return next_token(reader) ? source_create(SOURCE_NUMBER, slice_of(text)) : NULL;
}

/* At a name: a word of the language, a class, or a call. */
static struct source *read_named(struct php_reader *reader, unsigned depth) {
    struct slice name = reader->tokens.source;
    static const char *const words[] = {"true", "false", "null"};

    if (!next_token(reader))
        return NULL;
    if (name.length > 0 && name.data[0] == '\\')
        name = slice_skip(name, 1);
    if (php_token_is(&reader->tokens, "("))
        return slice_equal_ignoring_case(name, SLICE("array")) ? read_php_array(reader, depth)
                                                               : read_call(reader, name, depth);
    if (php_token_is(&reader->tokens, "::")) {
        if (!next_token(reader))
            return NULL;
        if (!php_token_is(&reader->tokens, "class"))
            return not_understood(reader, "a constant or function of the class ", name);
        return next_token(reader) ? php_text(name) : NULL;
    }
    for (size_t i = 0; i < 3; i++)
        if (slice_equal_ignoring_case(name, slice_of(words[i])))
            return i < 2 ? source_create_flag(i == 0) : source_create(SOURCE_NULL, (struct slice){0});
    return not_understood(reader, "the PHP word ", name);
}

static struct source *read_primary(struct php_reader *reader, unsigned depth);

/* At `(`: a cast, or an expression in brackets. */
static struct source *read_bracket(struct php_reader *reader, unsigned depth) {
    struct php_tokens before;
    struct source *value;
    enum php_cast cast;

    if (!next_token(reader))
        return NULL;
    before = reader->tokens;
    cast = before.type == PHP_TOKEN_NAME ? php_cast_named(before.source) : PHP_CAST_NONE;
    if (cast != PHP_CAST_NONE) {
        if (!next_token(reader))
            return NULL;
        if (php_token_is(&reader->tokens, ")")) {
            value = next_token(reader) ? read_primary(reader, depth + 1) : NULL;
            return value != NULL ? php_cast_value(cast, value, &reader->unread) : NULL;
        }
        if (!php_tokens_return(&reader->tokens, &before, reader->error))
            return fail_reading(reader, "");
    }
    value = read_php_value(reader, depth + 1);
    if (value != NULL && php_token_is(&reader->tokens, ")") && value->type != SOURCE_UNREAD && next_token(reader))
        return value;
    if (value != NULL)
        not_understood(reader, value->type == SOURCE_UNREAD ? value->text : "an expression in brackets",
                       (struct slice){0});
    source_destroy(value);
    return NULL;
}

/* A value without operators behind it; NULL if it is not understood. */
static struct source *read_primary(struct php_reader *reader, unsigned depth) {
    struct source *node;

    if (depth > PHP_MAX_DEPTH)
        return fail_reading(reader, "arrays and brackets are nested too deeply");
    switch (reader->tokens.type) {
    case PHP_TOKEN_TEXT:
        if (!utf8_valid(buffer_slice(&reader->tokens.text)) ||
            memchr(buffer_string(&reader->tokens.text), '\0', reader->tokens.text.length) != NULL)
            return not_understood(reader, "a text that is not UTF-8", (struct slice){0});
        node = php_text(buffer_slice(&reader->tokens.text));
        if (next_token(reader))
            return node;
        source_destroy(node);
        return NULL;
    case PHP_TOKEN_NUMBER:
        return read_number_value(reader, false);
    case PHP_TOKEN_NAME:
        return read_named(reader, depth);
    default:
        break;
    }
    if (php_token_is(&reader->tokens, "-"))
        return next_token(reader) ? read_number_value(reader, true) : NULL;
    if (php_token_is(&reader->tokens, "["))
        return read_php_array(reader, depth);
    if (php_token_is(&reader->tokens, "("))
        return read_bracket(reader, depth);
    return describe_token(reader);
}

/* True at a token that can follow a value. */
static bool at_value_end(const struct php_reader *reader) {
    static const char *const signs[] = {",", "]", ")", "=>", ";"};

    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (php_token_is(&reader->tokens, signs[i]))
            return true;
    return reader->tokens.type == PHP_TOKEN_END;
}

/* Skips an expression that is not understood: up to the end of the value, over brackets. */
static bool skip_expression(struct php_reader *reader) {
    size_t depth = 0;
    bool arrow = false; /* `fn () => ...`: its arrow is part of the expression */

    for (;;) {
        const struct php_tokens *tokens = &reader->tokens;

        if (tokens->type == PHP_TOKEN_END)
            return depth == 0;
        if (depth == 0 && at_value_end(reader) && !(arrow && php_token_is(tokens, "=>")))
            return true;
        if (php_token_is(tokens, "fn"))
            arrow = true;
        else if (php_token_is(tokens, "[") || php_token_is(tokens, "(") || php_token_is(tokens, "{"))
            depth++;
        else if (depth > 0 && (php_token_is(tokens, "]") || php_token_is(tokens, ")") || php_token_is(tokens, "}")))
            depth--;
        if (!next_token(reader))
            return false;
    }
}

static struct source *read_php_value(struct php_reader *reader, unsigned depth) {
    struct php_tokens before = reader->tokens;
    struct source *node;

    reader->unread.text[0] = '\0';
    node = read_primary(reader, depth);
    if (!reader->failed && (node == NULL || !at_value_end(reader))) {
        if (node != NULL) {
            reader->unread.text[0] = '\0';
            describe_token(reader);
        }
        source_destroy(node);
        if (!php_tokens_return(&reader->tokens, &before, reader->error) || !skip_expression(reader))
            return fail_reading(reader, "a closing bracket is missing");
        node = source_create(SOURCE_UNREAD, slice_of(reader->unread.text));
    }
    if (reader->failed) {
        source_destroy(node);
        return NULL;
    }
    node->line = before.token_line;
    return node;
}

/* PHP's arrays with the keys 0, 1, 2, ... are lists. */
static void finish_array(struct source *array) {
    char number[24];
    size_t index = 0;

    for (struct source *child = array->first; child != NULL; child = child->next, index++) {
        snprintf(number, sizeof number, "%zu", index);
        if (strcmp(child->name, number) != 0)
            return;
    }
    array->type = SOURCE_LIST;
    for (struct source *child = array->first; child != NULL; child = child->next) {
        free(child->name);
        child->name = NULL;
    }
}

/* Reads `value` or `key => value`. */
static bool read_php_element(struct php_reader *reader, struct source *array, unsigned depth, size_t *next_index) {
    struct source *value = read_php_value(reader, depth + 1), *key = NULL;
    unsigned long long index;
    struct slice name;
    char number[24];

    if (value != NULL && php_token_is(&reader->tokens, "=>")) {
        key = value;
        value = NULL;
        if (key->type != SOURCE_TEXT && key->type != SOURCE_NUMBER)
            fail_reading(reader, "a key of an array must be a text or a number");
        else if (memchr(key->text, '\0', key->length) != NULL || key->length > 255)
            fail_reading(reader, "a key of an array is longer than 255 bytes, or has a zero byte");
        else if (next_token(reader))
            value = read_php_value(reader, depth + 1);
    }
    if (value == NULL) {
        source_destroy(key);
        return false;
    }
    snprintf(number, sizeof number, "%zu", *next_index);
    name = key != NULL ? (struct slice){key->text, key->length} : slice_of(number);
    if (slice_to_number(name, 1u << 30, &index))
        *next_index = index >= *next_index ? (size_t)index + 1 : *next_index;
    source_add(array, name, value);
    source_destroy(key);
    return true;
}

/* At `[`, or at the bracket after `array`. */
static struct source *read_php_array(struct php_reader *reader, unsigned depth) {
    const char *close = php_token_is(&reader->tokens, "[") ? "]" : ")";
    struct source *array;
    size_t next_index = 0;

    if (depth > PHP_MAX_DEPTH)
        return fail_reading(reader, "arrays and brackets are nested too deeply");
    array = source_create(SOURCE_MAP, (struct slice){0});
    while (next_token(reader) && !php_token_is(&reader->tokens, close)) {
        if (!read_php_element(reader, array, depth, &next_index))
            break;
        if (php_token_is(&reader->tokens, close))
            break;
        if (!php_token_is(&reader->tokens, ",")) {
            fail_reading(reader, "a comma or a closing bracket is missing");
            break;
        }
    }
    if (reader->failed || !php_token_is(&reader->tokens, close) || !next_token(reader)) {
        source_destroy(array);
        return fail_reading(reader, "a closing bracket is missing");
    }
    finish_array(array);
    return array;
}

/* Skips declare, use and other statements; false if there is no `return`. */
static bool find_return(struct php_reader *reader) {
    size_t depth = 0;

    while (reader->tokens.type != PHP_TOKEN_END) {
        const struct php_tokens *tokens = &reader->tokens;

        if (depth == 0 && php_token_is(tokens, "return"))
            return next_token(reader);
        if (php_token_is(tokens, "[") || php_token_is(tokens, "(") || php_token_is(tokens, "{"))
            depth++;
        else if (depth > 0 && (php_token_is(tokens, "]") || php_token_is(tokens, ")") || php_token_is(tokens, "}")))
            depth--;
        if (!next_token(reader))
            return false;
    }
    fail_reading(reader, "the file returns no array: `return [...];` is missing");
    return false;
}

static struct source *read_returned_array(struct php_reader *reader) {
    struct source *array;

    if (!find_return(reader))
        return NULL;
    array = read_php_value(reader, 0);
    if (array == NULL)
        return NULL;
    if (array->type != SOURCE_MAP && array->type != SOURCE_LIST) {
        source_destroy(array);
        return fail_reading(reader, "the file must return an array: `return [...];`");
    }
    return array;
}

struct source *php_array_read(struct slice file, const json_t *variables, struct error *error) {
    struct php_reader reader = {.variables = variables, .error = error};
    struct source *array;

    if (file.length == 0 || !utf8_valid(file)) {
        error_set(error, file.length == 0 ? "the file is empty" : "this is not a text in UTF-8");
        return NULL;
    }
    if (!php_tokens_start(&reader.tokens, file, error)) {
        php_tokens_dispose(&reader.tokens);
        return NULL;
    }
    array = read_returned_array(&reader);
    php_tokens_dispose(&reader.tokens);
    return array;
}
