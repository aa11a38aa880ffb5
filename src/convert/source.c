#include "convert/source.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"

#define SOURCE_MAX_DEPTH 64

struct source *source_create(enum source_type type, struct slice text) {
    struct source *node = alloc_zero(sizeof *node);

    node->type = type;
    if (text.data != NULL)
        node->text = alloc_copy(text.data, text.length);
    node->length = text.length;
    return node;
}

struct source *source_create_flag(bool flag) {
    struct source *node = source_create(SOURCE_FLAG, (struct slice){0});

    node->flag = flag;
    return node;
}

void source_destroy(struct source *node) {
    if (node == NULL)
        return;
    while (node->first != NULL) {
        struct source *child = node->first;

        node->first = child->next;
        source_destroy(child);
    }
    if (node->text != NULL)
        explicit_bzero(node->text, node->length); /* it may be a secret */
    free(node->text);
    free(node->name);
    free(node->variable);
    free(node);
}

void source_add(struct source *parent, struct slice name, struct source *child) {
    child->parent = parent;
    child->name = name.data != NULL ? alloc_copy(name.data, name.length) : NULL;
    if (parent->last != NULL)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
}

static void remove_child(struct source *parent, struct source *child) {
    struct source *before = NULL;

    for (struct source *node = parent->first; node != child; node = node->next)
        before = node;
    if (before != NULL)
        before->next = child->next;
    else
        parent->first = child->next;
    if (parent->last == child)
        parent->last = before;
    source_destroy(child);
}

/* The child with that name, or with that number in a list; the last one if there are several. */
static struct source *find_child(struct source *parent, struct slice name) {
    struct source *found = NULL;
    unsigned long long index;

    if (parent->type == SOURCE_LIST) {
        if (!slice_to_number(name, 1000000, &index))
            return NULL;
        for (found = parent->first; found != NULL && index > 0; index--)
            found = found->next;
        return found;
    }
    for (struct source *node = parent->first; node != NULL; node = node->next)
        if (node->name != NULL && slice_equal(slice_of(node->name), name))
            found = node;
    return found;
}

struct source *source_find(struct source *root, const char *path, bool *whole) {
    struct source *node = root;

    if (whole != NULL)
        *whole = false;
    for (;;) {
        struct slice name = {path, strcspn(path, ".")};
        struct source *child = find_child(node, name);

        if (child == NULL) {
            if (whole != NULL)
                *whole = node != root && !node->implied;
            return NULL;
        }
        node = child;
        path += name.length;
        if (*path == '\0')
            return node;
        path++;
    }
}

/* The child on the way of a path: a map or list, made if it is missing or holds a plain value. */
static struct source *enter_child(struct source *parent, struct slice name) {
    struct source *child = find_child(parent, name);
    unsigned long long index;

    if (child != NULL && (child->type == SOURCE_MAP || child->type == SOURCE_LIST))
        return child;
    if (parent->type == SOURCE_LIST) {
        size_t count = 0;

        for (struct source *node = parent->first; node != NULL; node = node->next)
            count++;
        if (child != NULL || !slice_to_number(name, 1000000, &index) || index != count)
            return NULL;
        name = (struct slice){0};
    } else if (child != NULL) {
        remove_child(parent, child);
    }
    child = source_create(SOURCE_MAP, (struct slice){0});
    child->implied = true;
    source_add(parent, name, child);
    return child;
}

bool source_set(struct source *root, const char *path, struct source *child) {
    struct source *node = root, *old;
    struct slice name = {path, strcspn(path, ".")};
    size_t depth = 0;

    while (path[name.length] == '.') {
        node = ++depth < SOURCE_MAX_DEPTH ? enter_child(node, name) : NULL;
        if (node == NULL) {
            source_destroy(child);
            return false;
        }
        path += name.length + 1;
        name = (struct slice){path, strcspn(path, ".")};
    }
    old = find_child(node, name);
    if (node->type == SOURCE_LIST) { /* only whole lists and members of their elements are set */
        source_destroy(child);
        return false;
    }
    if (old != NULL)
        remove_child(node, old);
    source_add(node, name, child);
    return true;
}

void source_take(struct source *node) {
    node->taken = true;
    for (struct source *child = node->first; child != NULL; child = child->next)
        source_take(child);
}

struct source *source_from_json(const json_t *json) {
    struct source *node;
    const char *key;
    json_t *value;
    size_t i;
    char number[40];

    switch (json_typeof(json)) {
    case JSON_OBJECT:
        node = source_create(SOURCE_MAP, (struct slice){0});
        json_object_foreach((json_t *)json, key, value) {
            source_add(node, slice_of(key), source_from_json(value));
        }
        return node;
    case JSON_ARRAY:
        node = source_create(SOURCE_LIST, (struct slice){0});
        json_array_foreach(json, i, value) {
            source_add(node, (struct slice){0}, source_from_json(value));
        }
        return node;
    case JSON_STRING:
        return source_create(SOURCE_TEXT, (struct slice){json_string_value(json), json_string_length(json)});
    case JSON_INTEGER:
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(json));
        return source_create(SOURCE_NUMBER, slice_of(number));
    case JSON_REAL:
        snprintf(number, sizeof number, "%.15g", json_real_value(json));
        if (strtod(number, NULL) != json_real_value(json))
            snprintf(number, sizeof number, "%.17g", json_real_value(json));
        return source_create(SOURCE_NUMBER, slice_of(number));
    case JSON_TRUE:
    case JSON_FALSE:
        return source_create_flag(json_is_true(json));
    case JSON_NULL:
        break;
    }
    return source_create(SOURCE_NULL, (struct slice){0});
}

json_t *source_to_json(const struct source *node) {
    json_t *json = NULL;

    switch (node->type) {
    case SOURCE_NULL:
    case SOURCE_UNREAD:
        break;
    case SOURCE_FLAG:
        return json_boolean(node->flag);
    case SOURCE_NUMBER:
        json = json_loadb(node->text, node->length, JSON_DECODE_ANY, NULL);
        break;
    case SOURCE_TEXT:
        json = json_stringn(node->text, node->length);
        break;
    case SOURCE_LIST:
        json = json_array();
        for (const struct source *child = node->first; child != NULL; child = child->next)
            json_array_append_new(json, source_to_json(child));
        break;
    case SOURCE_MAP:
        json = json_object();
        for (const struct source *child = node->first; child != NULL; child = child->next)
            json_object_set_new(json, child->name, source_to_json(child));
        break;
    }
    return json != NULL ? json : json_null();
}

void source_append_path(const struct source *node, struct buffer *buffer) {
    size_t index = 0;

    if (node->parent == NULL)
        return;
    source_append_path(node->parent, buffer);
    if (node->name != NULL) {
        if (buffer->length > 0)
            buffer_append_byte(buffer, '.');
        buffer_append_string(buffer, node->name);
        return;
    }
    for (const struct source *sibling = node->parent->first; sibling != node; sibling = sibling->next)
        index++;
    buffer_appendf(buffer, "[%zu]", index);
}
