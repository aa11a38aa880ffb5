#include "config/config_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/near_miss.h"

static void *value_place(struct config *config, const struct config_row *row) {
    return (char *)config + row->offset;
}

static uint32_t row_max(const struct config_row *row) {
    return row->max != 0 ? row->max : UINT32_MAX;
}

struct slice config_trim(struct slice text) {
    while (text.length > 0 && strchr(" \t\r\n", text.data[0]) != NULL)
        text = slice_skip(text, 1);
    while (text.length > 0 && strchr(" \t\r\n", text.data[text.length - 1]) != NULL)
        text.length--;
    return text;
}

bool config_flag_from_text(struct slice text, bool *flag) {
    static const char *const words[] = {"false", "true", "0", "1", "no", "yes", "off", "on"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (slice_equal_ignoring_case(text, slice_of(words[i]))) {
            *flag = i % 2 == 1;
            return true;
        }
    }
    return false;
}

json_t *config_json_list(const char *text) {
    json_t *list = json_array();

    while (*text != '\0') {
        size_t length = strcspn(text, ",");
        struct slice item = config_trim((struct slice){text, length});

        if (item.length > 0 && json_array_append_new(list, json_stringn(item.data, item.length)) != 0) {
            json_decref(list);
            return NULL;
        }
        text += length;
        text += *text == ',';
    }
    return list;
}

static void list_clear(struct config_list *list) {
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct config_list){0};
}

/* True if the item has the form of the row, or the row has none. */
static bool list_add(struct config_list *list, const struct config_row *row, struct slice item) {
    char *copy = alloc_copy(item.data, item.length);

    list->items = alloc_array(list->items, list->count + 1, sizeof *list->items);
    list->items[list->count++] = copy;
    return row->form == NULL || row->form->valid(copy);
}

void config_value_clear(struct config *config, const struct config_row *row) {
    void *at = value_place(config, row);

    switch (row->type) {
    case CONFIG_TEXT:
        free(*(char **)at);
        *(char **)at = NULL;
        break;
    case CONFIG_LIST:
        list_clear(at);
        break;
    case CONFIG_ARRAY:
        json_decref(*(json_t **)at);
        *(json_t **)at = NULL;
        break;
    case CONFIG_FLAG:
        *(bool *)at = false;
        break;
    case CONFIG_FRACTION:
        *(double *)at = 0;
        break;
    case CONFIG_OPTIONAL_NUMBER:
        *(struct config_number *)at = (struct config_number){0};
        break;
    case CONFIG_UNSIGNED:
    case CONFIG_LIMIT:
    case CONFIG_OCTAL:
        *(uint32_t *)at = 0;
        break;
    case CONFIG_CHOICE:
        *(unsigned *)at = 0;
        break;
    }
}

static bool lists_equal(const struct config_list *a, const struct config_list *b) {
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return true;
}

static bool texts_equal(const char *a, const char *b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool config_value_equal(const struct config *a, const struct config *b, const struct config_row *row) {
    const void *x = (const char *)a + row->offset, *y = (const char *)b + row->offset;
    const struct config_number *number = x, *other = y;

    switch (row->type) {
    case CONFIG_TEXT:
        return texts_equal(*(char *const *)x, *(char *const *)y);
    case CONFIG_FLAG:
        return *(const bool *)x == *(const bool *)y;
    case CONFIG_UNSIGNED:
    case CONFIG_LIMIT:
    case CONFIG_OCTAL:
        return *(const uint32_t *)x == *(const uint32_t *)y;
    case CONFIG_OPTIONAL_NUMBER:
        return number->set == other->set && number->value == other->value;
    case CONFIG_FRACTION:
        return memcmp(x, y, sizeof(double)) == 0;
    case CONFIG_CHOICE:
        return *(const unsigned *)x == *(const unsigned *)y;
    case CONFIG_LIST:
        return lists_equal(x, y);
    case CONFIG_ARRAY:
        return json_equal(*(json_t *const *)x, *(json_t *const *)y);
    }
    return true;
}

static bool set_text(struct config *config, const struct config_row *row, struct slice text) {
    char *copy = alloc_copy(text.data, text.length);

    if (row->form != NULL && !row->form->valid(copy)) {
        free(copy);
        return false;
    }
    config_value_clear(config, row);
    *(char **)value_place(config, row) = copy;
    return true;
}

static bool set_number(struct config *config, const struct config_row *row, unsigned long long number) {
    if (number < row->min || number > row_max(row))
        return false;
    if (row->type == CONFIG_OPTIONAL_NUMBER)
        *(struct config_number *)value_place(config, row) = (struct config_number){(uint32_t)number, true};
    else
        *(uint32_t *)value_place(config, row) = (uint32_t)number;
    return true;
}

static bool set_fraction(struct config *config, const struct config_row *row, double fraction) {
    if (fraction > 1)
        fraction /= 100; /* a percentage */
    if (!(fraction > 0 && fraction <= 1))
        return false;
    *(double *)value_place(config, row) = fraction;
    return true;
}

static bool set_octal(struct config *config, const struct config_row *row, struct slice digits) {
    unsigned long long number = 0;

    if (digits.length == 0 || digits.length > 6)
        return false;
    for (size_t i = 0; i < digits.length; i++) {
        if (digits.data[i] < '0' || digits.data[i] > '7')
            return false;
        number = number * 8 + (unsigned long long)(digits.data[i] - '0');
    }
    return set_number(config, row, number);
}

bool config_choice_matches(const char *choice, struct slice word, bool any_case) {
    while (*choice != '\0') {
        struct slice name = {choice, strcspn(choice, " ")};

        if (any_case ? slice_equal_ignoring_case(name, word) : slice_equal(name, word))
            return true;
        choice += name.length;
        choice += strspn(choice, " ");
    }
    return false;
}

/* The enums that hold choices have no negative members, so that they are stored as unsigned. */
static bool set_choice(struct config *config, const struct config_row *row, struct slice word, bool other_is_first) {
    for (unsigned i = 0; row->choices[i] != NULL; i++) {
        if (config_choice_matches(row->choices[i], word, (row->flags & CONFIG_CASE_INSENSITIVE) != 0)) {
            *(unsigned *)value_place(config, row) = i;
            return true;
        }
    }
    if (!other_is_first || (row->flags & CONFIG_FIRST_IF_OTHER) == 0)
        return false;
    *(unsigned *)value_place(config, row) = 0;
    return true;
}

bool config_value_is_other(const struct config_row *row, const json_t *json) {
    if ((row->flags & CONFIG_FIRST_IF_OTHER) == 0 || !json_is_string(json))
        return false;
    for (unsigned i = 0; row->choices[i] != NULL; i++)
        if (config_choice_matches(row->choices[i], config_trim(slice_of(json_string_value(json))),
                                  (row->flags & CONFIG_CASE_INSENSITIVE) != 0))
            return false;
    return true;
}

static bool set_list_from_text(struct config *config, const struct config_row *row, struct slice text) {
    struct config_list list = {0};
    bool valid = true;

    while (text.length > 0) {
        const char *comma = memchr(text.data, ',', text.length);
        size_t length = comma != NULL ? (size_t)(comma - text.data) : text.length;
        struct slice item = config_trim((struct slice){text.data, length});

        if (item.length > 0)
            valid = list_add(&list, row, item) && valid;
        text = slice_skip(text, comma != NULL ? length + 1 : length);
    }
    if (!valid || list.count < row->min) {
        list_clear(&list);
        return false;
    }
    config_value_clear(config, row);
    *(struct config_list *)value_place(config, row) = list;
    return true;
}

bool config_value_from_text(struct config *config, const struct config_row *row, const char *text) {
    struct slice trimmed = config_trim(slice_of(text));
    unsigned long long number;
    double fraction;
    char *end;

    switch (row->type) {
    case CONFIG_TEXT:
        return set_text(config, row, slice_of(text));
    case CONFIG_FLAG:
        return config_flag_from_text(trimmed, value_place(config, row));
    case CONFIG_LIMIT:
        if (slice_equal_ignoring_case(trimmed, SLICE("none")))
            return set_number(config, row, 0);
        return slice_to_number(trimmed, UINT32_MAX, &number) && set_number(config, row, number);
    case CONFIG_UNSIGNED:
    case CONFIG_OPTIONAL_NUMBER:
        return slice_to_number(trimmed, UINT32_MAX, &number) && set_number(config, row, number);
    case CONFIG_FRACTION:
        fraction = strtod(text, &end);
        return end != text && config_trim(slice_of(end)).length == 0 && set_fraction(config, row, fraction);
    case CONFIG_OCTAL:
        return set_octal(config, row, trimmed);
    case CONFIG_CHOICE:
        return set_choice(config, row, trimmed, false);
    case CONFIG_LIST:
        return set_list_from_text(config, row, trimmed);
    case CONFIG_ARRAY:
        return false;
    }
    return false;
}

static struct slice json_slice(const json_t *json) {
    return (struct slice){json_string_value(json), json_string_length(json)};
}

/* The item of a list of servers, {"host": ..., "port": ...}, as HOST:PORT, "" if it is something else. The port may be
 * left out, and a text with a variable in the file is one. */
static void host_of_object(const json_t *item, struct buffer *text) {
    const json_t *host = json_object_get(item, "host"), *port = json_object_get(item, "port");
    unsigned long long number = (unsigned long long)json_integer_value(port);
    const char *name = json_string_value(host);
    bool valid = name != NULL && json_object_size(item) == 1u + (port != NULL);

    if (json_is_string(port))
        valid = valid && slice_to_number(json_slice(port), UINT16_MAX, &number);
    else
        valid = valid && (port == NULL || json_is_integer(port));
    if (!valid || (port != NULL && (number == 0 || number > UINT16_MAX)))
        return;
    if (strchr(name, ':') != NULL && strstr(name, "://") == NULL && *name != '[')
        buffer_appendf(text, "[%s]", name);
    else
        buffer_append_string(text, name);
    if (port != NULL)
        buffer_appendf(text, ":%llu", number);
}

static bool list_add_json(struct config_list *list, const struct config_row *row, const json_t *item) {
    struct buffer text = {0};
    bool good;

    if (json_is_string(item))
        return list_add(list, row, json_slice(item));
    if ((row->flags & CONFIG_HOST_OBJECTS) == 0 || !json_is_object(item))
        return false;
    host_of_object(item, &text);
    good = text.length > 0 && list_add(list, row, buffer_slice(&text));
    buffer_dispose(&text);
    return good;
}

static bool set_list_from_json(struct config *config, const struct config_row *row, const json_t *json) {
    struct config_list list = {0};

    if (!json_is_array(json) || json_array_size(json) < row->min)
        return false;
    for (size_t i = 0; i < json_array_size(json); i++) {
        if (!list_add_json(&list, row, json_array_get(json, i))) {
            list_clear(&list);
            return false;
        }
    }
    config_value_clear(config, row);
    *(struct config_list *)value_place(config, row) = list;
    return true;
}

static bool set_number_from_json(struct config *config, const struct config_row *row, const json_t *json) {
    return json_is_integer(json) && json_integer_value(json) >= 0 &&
           set_number(config, row, (unsigned long long)json_integer_value(json));
}

bool config_value_from_json(struct config *config, const struct config_row *row, const json_t *json) {
    char digits[24];

    switch (row->type) {
    case CONFIG_TEXT:
        if (json_is_null(json) && (row->flags & CONFIG_NULLABLE) != 0) {
            config_value_clear(config, row);
            return true;
        }
        return json_is_string(json) && set_text(config, row, json_slice(json));
    case CONFIG_FLAG:
        if (!json_is_boolean(json))
            return false;
        *(bool *)value_place(config, row) = json_is_true(json);
        return true;
    case CONFIG_LIMIT:
        if (json_is_null(json) || (json_is_string(json) && slice_equal_ignoring_case(json_slice(json), SLICE("none"))))
            return set_number(config, row, 0);
        return set_number_from_json(config, row, json);
    case CONFIG_OPTIONAL_NUMBER:
        if (json_is_null(json)) /* keeps the default */
            return true;
        return set_number_from_json(config, row, json);
    case CONFIG_UNSIGNED:
        return set_number_from_json(config, row, json);
    case CONFIG_FRACTION:
        return json_is_number(json) && set_fraction(config, row, json_number_value(json));
    case CONFIG_OCTAL:
        if (json_is_string(json))
            return set_octal(config, row, json_slice(json));
        if (!json_is_integer(json))
            return false;
        snprintf(digits, sizeof digits, "%lld", (long long)json_integer_value(json));
        return set_octal(config, row, slice_of(digits));
    case CONFIG_CHOICE:
        return json_is_string(json) && set_choice(config, row, json_slice(json), true);
    case CONFIG_LIST:
        return set_list_from_json(config, row, json);
    case CONFIG_ARRAY:
        if (!json_is_array(json))
            return false;
        config_value_clear(config, row);
        *(json_t **)value_place(config, row) = json_incref((json_t *)json);
        return true;
    }
    return false;
}

void config_value_describe(const struct config_row *row, struct buffer *buffer) {
    switch (row->type) {
    case CONFIG_TEXT:
        if (row->form != NULL)
            buffer_append_string(buffer, row->form->description);
        else
            buffer_append_string(buffer, (row->flags & CONFIG_NULLABLE) != 0 ? "a text or null" : "a text");
        break;
    case CONFIG_FLAG:
        buffer_append_string(buffer, "true or false");
        break;
    case CONFIG_UNSIGNED:
        buffer_appendf(buffer, "a whole number from %u to %u", row->min, row_max(row));
        break;
    case CONFIG_OPTIONAL_NUMBER:
        buffer_appendf(buffer, "a whole number from %u to %u, or null", row->min, row_max(row));
        break;
    case CONFIG_LIMIT:
        buffer_appendf(buffer, "a whole number from 0 to %u (0 or none: no limit)", row_max(row));
        break;
    case CONFIG_FRACTION:
        buffer_append_string(buffer, "a fraction above 0 and at most 1, or a percentage up to 100");
        break;
    case CONFIG_OCTAL:
        buffer_append_string(buffer, "octal digits from 0 to 777, like \"660\"");
        break;
    case CONFIG_CHOICE:
        buffer_append_string(buffer, "one of");
        for (size_t i = 0; row->choices[i] != NULL; i++)
            buffer_appendf(buffer, "%s %.*s", i == 0 ? "" : ",", (int)strcspn(row->choices[i], " "), row->choices[i]);
        break;
    case CONFIG_LIST:
        if (row->form != NULL)
            buffer_append_string(buffer, row->form->description);
        else
            buffer_append_string(buffer, row->min > 0 ? "a list of texts with at least one" : "a list of texts");
        break;
    case CONFIG_ARRAY:
        buffer_append_string(buffer, "a list of objects");
        break;
    }
}

/* Says that the quotation marks are the fault only where they are: not of a date in TOML, or what a variable gave. */
static const char *describe_text(const char *text) {
    char *end;

    strtod(text, &end);
    if (*text == '\0')
        return "an empty text";
    return *end == '\0' || strcmp(text, "true") == 0 || strcmp(text, "false") == 0 ? "a text in quotation marks"
                                                                                   : "a text";
}

void config_value_describe_json(const json_t *json, struct buffer *buffer) {
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        buffer_append_string(buffer, "an object");
        break;
    case JSON_ARRAY:
        buffer_append_string(buffer, "a list");
        break;
    case JSON_STRING:
        buffer_append_string(buffer, describe_text(json_string_value(json)));
        break;
    case JSON_INTEGER:
        buffer_appendf(buffer, "%lld", (long long)json_integer_value(json));
        break;
    case JSON_REAL:
        buffer_appendf(buffer, "%g", json_real_value(json));
        break;
    case JSON_TRUE:
        buffer_append_string(buffer, "true");
        break;
    case JSON_FALSE:
        buffer_append_string(buffer, "false");
        break;
    case JSON_NULL:
        buffer_append_string(buffer, "null");
        break;
    }
}

void config_value_suggest(const struct config_row *row, struct slice text, struct buffer *buffer) {
    struct near_miss miss = near_miss_of(text);

    if (row->type != CONFIG_CHOICE)
        return;
    for (size_t i = 0; row->choices[i] != NULL; i++) {
        for (const char *name = row->choices[i]; *name != '\0';) {
            size_t length = strcspn(name, " ");

            near_miss_offer(&miss, (struct slice){name, length});
            name += length;
            name += strspn(name, " ");
        }
    }
    if (miss.best.length > 0)
        buffer_appendf(buffer, "; did you mean %.*s?", SLICE_ARGS(miss.best));
}

/* Tells which item of a list is wrong, by its number: it may hold a password. */
static void describe_wrong_item(const struct config_row *row, const json_t *json, struct buffer *buffer) {
    struct config_list list = {0};
    size_t at = 0;

    while (at < json_array_size(json) && list_add_json(&list, row, json_array_get(json, at)))
        at++;
    list_clear(&list);
    if (json_array_size(json) > 1 && at < json_array_size(json))
        buffer_appendf(buffer, "; item %zu is not", at + 1);
}

void config_value_describe_fault(const struct config_row *row, const json_t *json, struct buffer *buffer) {
    bool takes_text = row->type == CONFIG_TEXT || row->type == CONFIG_CHOICE || row->type == CONFIG_OCTAL;

    if (json_is_string(json) && json_string_length(json) > 0 && takes_text) {
        config_value_suggest(row, json_slice(json), buffer);
    } else if (json_is_array(json) && row->type == CONFIG_LIST) {
        describe_wrong_item(row, json, buffer);
    } else {
        buffer_append_string(buffer, ", not ");
        config_value_describe_json(json, buffer);
    }
}
