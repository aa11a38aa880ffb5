#include "channel/filter/filter.h"

#include <math.h>
#include <stdlib.h>

#include "base/number_text.h"
#include "channel/filter/tag_number.h"

enum node_code {
    NODE_AND,
    NODE_OR,
    NODE_NOT,
    NODE_EQ,
    NODE_NEQ,
    NODE_IN,
    NODE_NIN,
    NODE_EX,
    NODE_NEX,
    NODE_SW,
    NODE_EW,
    NODE_CT,
    NODE_GT,
    NODE_GTE,
    NODE_LT,
    NODE_LTE,
};

/*
 * The head of a node. The key of a leaf follows it, and then
 *   in, nin               the number of values, the ends of their texts (both uint32_t), and the texts, sorted
 *   gt, gte, lt, lte      a double
 *   others but ex, nex    the value
 * Nothing is aligned.
 */
struct node_head {
    uint32_t size; /* of the node with all that belongs to it */
    uint16_t key_length;
    uint16_t code; /* enum node_code */
};

/* --- compiling --- */

enum { OP, NODES, KEY, CMP, VAL, VALS, NODE_MEMBERS };

static const struct slice node_member_names[NODE_MEMBERS] = {
    [OP] = SLICE_INIT("op"),   [NODES] = SLICE_INIT("nodes"), [KEY] = SLICE_INIT("key"),
    [CMP] = SLICE_INIT("cmp"), [VAL] = SLICE_INIT("val"),     [VALS] = SLICE_INIT("vals"),
};

static const struct {
    struct slice name;
    enum node_code code;
} comparisons[] = {
    {SLICE_INIT("eq"), NODE_EQ},   {SLICE_INIT("neq"), NODE_NEQ}, {SLICE_INIT("in"), NODE_IN},
    {SLICE_INIT("nin"), NODE_NIN}, {SLICE_INIT("ex"), NODE_EX},   {SLICE_INIT("nex"), NODE_NEX},
    {SLICE_INIT("sw"), NODE_SW},   {SLICE_INIT("ew"), NODE_EW},   {SLICE_INIT("ct"), NODE_CT},
    {SLICE_INIT("gt"), NODE_GT},   {SLICE_INIT("gte"), NODE_GTE}, {SLICE_INIT("lt"), NODE_LT},
    {SLICE_INIT("lte"), NODE_LTE},
};

struct filter_compiler {
    struct buffer *program;
    struct buffer text; /* decoded strings, for a moment */
    unsigned nodes;
    struct error *error;
};

static bool member_given(struct json_value value) {
    return value.type != JSON_TYPE_ABSENT && value.type != JSON_TYPE_NULL;
}

static bool emit_bytes(struct filter_compiler *compiler, const void *bytes, size_t length) {
    if (!buffer_try_reserve(compiler->program, length))
        return error_set(compiler->error, "there is no memory for a filter of this size");
    buffer_append_bytes(compiler->program, bytes, length);
    return true;
}

/* Appends a string of the filter to compiler->text. */
static bool read_string(struct filter_compiler *compiler, struct json_value string, size_t max, const char *member) {
    size_t length = json_decoded_length(string);
    struct slice text;

    if (length > max)
        return error_set(compiler->error, "%s is %zu bytes, and at most %zu are allowed", member, length, max);
    text = json_decode_string(string, &compiler->text);
    if (!string.escaped)
        buffer_append(&compiler->text, text);
    return true;
}

/* The same for a value, which need not be a string: numbers and words are compared as text. */
static bool read_value(struct filter_compiler *compiler, struct json_value value, const char *member) {
    switch (value.type) {
    case JSON_TYPE_STRING:
        return read_string(compiler, value, TAG_VALUE_MAX, member);
    case JSON_TYPE_NUMBER:
        return number_text_append(&compiler->text, value.token) ||
               error_set(compiler->error, "%s is a number too large to compare", member);
    case JSON_TYPE_TRUE:
    case JSON_TYPE_FALSE:
        buffer_append(&compiler->text, value.token);
        return true;
    default:
        return error_set(compiler->error, "%s must be a string, a number, true or false", member);
    }
}

/* Decodes a name, valid until compiler->text changes; empty if it is no string. */
static struct slice read_name(struct filter_compiler *compiler, struct json_value name) {
    compiler->text.length = 0;
    return json_decode_string(name, &compiler->text);
}

/*
 * Finds the members with these names, of an object that the scanner has validated. One that is given twice is refused:
 * others may take the first one, or the last.
 */
static bool read_members(struct filter_compiler *compiler, struct json_value object, const struct slice *names,
                         struct json_value *members, size_t count) {
    struct json_iterator iterator = json_iterate(object);
    struct json_value key, value;

    for (size_t i = 0; i < count; i++)
        members[i] = (struct json_value){JSON_TYPE_ABSENT, false, SLICE_INIT("")};
    while (json_next(&iterator, &key, &value)) {
        struct slice name = read_name(compiler, key);
        for (size_t i = 0; i < count; i++) {
            if (!slice_equal(name, names[i]))
                continue;
            if (members[i].type != JSON_TYPE_ABSENT)
                return error_set(compiler->error, "a node has %.*s twice", SLICE_ARGS(name));
            members[i] = value;
        }
    }
    return true;
}

/* Writes the head of a node again when its size is known. */
static void finish_node(const struct filter_compiler *compiler, size_t start, struct node_head head) {
    head.size = (uint32_t)(compiler->program->length - start);
    memcpy(compiler->program->data + start, &head, sizeof head);
}

/* --- leaves --- */

/* What `vals` of a leaf says: the ends of the values in compiler->text. */
struct value_list {
    uint32_t count;
    uint32_t ends[FILTER_VALUES_MAX];
};

static bool read_values(struct filter_compiler *compiler, struct json_value vals, struct value_list *list) {
    struct json_iterator iterator = json_iterate(vals);
    struct json_value value;

    list->count = 0;
    compiler->text.length = 0;
    if (!member_given(vals))
        return true;
    if (vals.type != JSON_TYPE_ARRAY)
        return error_set(compiler->error, "vals must be an array");
    while (json_next(&iterator, NULL, &value)) {
        if (list->count == FILTER_VALUES_MAX)
            return error_set(compiler->error, "vals holds more than %d values", FILTER_VALUES_MAX);
        if (!read_value(compiler, value, "a value in vals"))
            return false;
        list->ends[list->count++] = (uint32_t)compiler->text.length;
    }
    return true;
}

static int compare_listed(const void *a, const void *b) {
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

/* Appends the values in the order of their bytes, each once. */
static bool emit_values(struct filter_compiler *compiler, const struct value_list *list) {
    struct slice sorted[FILTER_VALUES_MAX] = {{0}};
    uint32_t ends[1 + FILTER_VALUES_MAX] = {0}; /* after their number */
    uint32_t start = 0, length = 0;

    for (uint32_t i = 0; i < list->count; start = list->ends[i++])
        sorted[i] = (struct slice){compiler->text.data + start, list->ends[i] - start};
    qsort(sorted, list->count, sizeof sorted[0], compare_listed);
    for (uint32_t i = 0; i < list->count; i++) {
        if (i != 0 && slice_equal(sorted[i], sorted[i - 1]))
            continue;
        sorted[ends[0]++] = sorted[i];
        ends[ends[0]] = length += (uint32_t)sorted[i].length;
    }
    if (!emit_bytes(compiler, ends, (1 + ends[0]) * sizeof ends[0]))
        return false;
    for (uint32_t i = 0; i < ends[0]; i++)
        if (!emit_bytes(compiler, sorted[i].data, sorted[i].length))
            return false;
    return true;
}

/* Appends the value of an ordering. What is no number, like NaN, is less than nothing and greater than nothing. */
static bool emit_number(struct filter_compiler *compiler) {
    double number;

    if (!tag_number(buffer_slice(&compiler->text), &number) || isnan(number))
        number = (double)NAN;
    return emit_bytes(compiler, &number, sizeof number);
}

/* Finds the comparison of a leaf in the table; -1 with an error if there is none. */
static int find_comparison(struct filter_compiler *compiler, struct json_value cmp) {
    struct slice name = read_name(compiler, cmp);

    for (size_t i = 0; i < sizeof comparisons / sizeof comparisons[0]; i++)
        if (slice_equal(name, comparisons[i].name))
            return (int)i;
    error_set(compiler->error, "cmp must be eq, neq, in, nin, ex, nex, sw, ew, ct, gt, gte, lt or lte");
    return -1;
}

/* Appends what the comparison needs. Members that it does not need are checked all the same. */
static bool emit_operand(struct filter_compiler *compiler, const struct json_value *members, enum node_code code,
                         struct slice name) {
    struct value_list values;
    bool listed = code == NODE_IN || code == NODE_NIN;

    if (!read_values(compiler, members[VALS], &values))
        return false;
    if (listed && values.count == 0)
        return error_set(compiler->error, "%.*s operation requires at least one value in vals", SLICE_ARGS(name));
    if (listed && !emit_values(compiler, &values))
        return false;
    compiler->text.length = 0;
    if (member_given(members[VAL]) && !read_value(compiler, members[VAL], "val"))
        return false;
    if (listed || code == NODE_EX || code == NODE_NEX)
        return true;
    if (compiler->text.length == 0)
        return error_set(compiler->error, "%.*s operation requires a non-empty val", SLICE_ARGS(name));
    if (code >= NODE_GT)
        return emit_number(compiler);
    return emit_bytes(compiler, compiler->text.data, compiler->text.length);
}

static bool compile_leaf(struct filter_compiler *compiler, const struct json_value *members) {
    size_t start = compiler->program->length;
    struct node_head head = {0};
    int comparison;

    compiler->text.length = 0;
    if (member_given(members[NODES]))
        return error_set(compiler->error, "nodes belongs to a node with op: and, or or not");
    if (member_given(members[KEY]) && members[KEY].type != JSON_TYPE_STRING)
        return error_set(compiler->error, "key must be a string");
    if (!read_string(compiler, members[KEY], TAG_KEY_MAX, "key"))
        return false;
    if (compiler->text.length == 0)
        return error_set(compiler->error, "Leaf node requires a non-empty key");
    head.key_length = (uint16_t)compiler->text.length;
    if (!emit_bytes(compiler, &head, sizeof head) || !emit_bytes(compiler, compiler->text.data, head.key_length))
        return false;
    comparison = find_comparison(compiler, members[CMP]);
    if (comparison < 0 || !emit_operand(compiler, members, comparisons[comparison].code, comparisons[comparison].name))
        return false;
    head.code = (uint16_t)comparisons[comparison].code;
    finish_node(compiler, start, head);
    return true;
}

/* --- branches --- */

static bool compile_node(struct filter_compiler *compiler, struct json_value json, unsigned depth);

static bool compile_children(struct filter_compiler *compiler, struct json_value nodes, unsigned depth, size_t *count) {
    struct json_iterator iterator = json_iterate(nodes);
    struct json_value child;

    for (*count = 0; json_next(&iterator, NULL, &child); ++*count)
        if (!compile_node(compiler, child, depth + 1))
            return error_prefix(compiler->error, "Child node %zu", *count);
    return true;
}

static bool read_operator(struct filter_compiler *compiler, struct json_value op, enum node_code *code) {
    struct slice name = read_name(compiler, op);

    if (slice_equal(name, SLICE("and")))
        *code = NODE_AND;
    else if (slice_equal(name, SLICE("or")))
        *code = NODE_OR;
    else if (slice_equal(name, SLICE("not")))
        *code = NODE_NOT;
    else
        return error_set(compiler->error, "op must be and, or or not");
    return true;
}

static bool compile_branch(struct filter_compiler *compiler, const struct json_value *members, unsigned depth) {
    size_t start = compiler->program->length, count;
    struct node_head head = {0};
    enum node_code code = NODE_AND;

    if (!read_operator(compiler, members[OP], &code))
        return false;
    if (member_given(members[KEY]) || member_given(members[CMP]) || member_given(members[VAL]) ||
        member_given(members[VALS]))
        return error_set(compiler->error, "a node has either op and nodes, or key and cmp");
    if (member_given(members[NODES]) && members[NODES].type != JSON_TYPE_ARRAY)
        return error_set(compiler->error, "nodes must be an array");
    head.code = (uint16_t)code;
    if (!emit_bytes(compiler, &head, sizeof head) || !compile_children(compiler, members[NODES], depth, &count))
        return false;
    if (code == NODE_NOT && count != 1)
        return error_set(compiler->error, "not operation requires exactly one child node, got %zu", count);
    if (count == 0)
        return error_set(compiler->error, "%s operation requires at least one child node",
                         code == NODE_AND ? "and" : "or");
    finish_node(compiler, start, head);
    return true;
}

static bool compile_node(struct filter_compiler *compiler, struct json_value json, unsigned depth) {
    struct json_value members[NODE_MEMBERS];

    if (json.type != JSON_TYPE_OBJECT)
        return error_set(compiler->error, "a node must be an object");
    if (depth > FILTER_DEPTH_MAX)
        return error_set(compiler->error, "nodes are nested in more than %d levels", FILTER_DEPTH_MAX);
    if (++compiler->nodes > FILTER_NODES_MAX)
        return error_set(compiler->error, "the filter has more than %d nodes", FILTER_NODES_MAX);
    if (!read_members(compiler, json, node_member_names, members, NODE_MEMBERS))
        return false;
    return member_given(members[OP]) ? compile_branch(compiler, members, depth) : compile_leaf(compiler, members);
}

/* Newer clients send {"events","tags","expression"} to newer servers. What is in there would not be looked at here. */
static bool check_filter_form(struct filter_compiler *compiler, struct json_value json) {
    enum { EVENTS, EXPRESSION, TAGS, FILTER_OP, FILTER_KEY, FORM_MEMBERS };
    static const struct slice names[FORM_MEMBERS] = {SLICE_INIT("events"), SLICE_INIT("expression"), SLICE_INIT("tags"),
                                                     SLICE_INIT("op"), SLICE_INIT("key")};
    struct json_value members[FORM_MEMBERS];

    if (json.type != JSON_TYPE_OBJECT)
        return error_set(compiler->error, "a filter must be an object");
    if (!read_members(compiler, json, names, members, FORM_MEMBERS))
        return false;
    if (member_given(members[EVENTS]) || member_given(members[EXPRESSION]) ||
        (member_given(members[TAGS]) && !member_given(members[FILTER_OP]) && !member_given(members[FILTER_KEY])))
        return error_set(compiler->error,
                         "events, expression and tags are not supported: give the filter of tags itself");
    return true;
}

bool filter_compile(struct json_value json, struct buffer *program, struct error *error) {
    struct filter_compiler compiler = {.program = program, .error = error};
    bool compiled = check_filter_form(&compiler, json) && compile_node(&compiler, json, 1);

    buffer_dispose(&compiler.text);
    return compiled;
}

/* --- evaluating --- */

/* The part of a node behind its head and key. */
static struct slice operand_of(const char *node, const struct node_head *head) {
    return (struct slice){node + sizeof *head + head->key_length, head->size - sizeof *head - head->key_length};
}

static uint32_t load_number(const char *at, uint32_t index) {
    uint32_t number;

    memcpy(&number, at + index * sizeof number, sizeof number);
    return number;
}

/* True if the text is one of the values; see struct node_head. */
static bool is_listed(struct slice operand, struct slice text) {
    uint32_t count = load_number(operand.data, 0), low = 0, high = count;
    const char *texts = operand.data + (1 + (size_t)count) * sizeof count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint32_t start = middle != 0 ? load_number(operand.data, middle) : 0;
        struct slice value = {texts + start, load_number(operand.data, middle + 1) - start};
        int order = slice_compare(text, value);
        if (order == 0)
            return true;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

static bool is_ordered(enum node_code code, struct slice operand, double number) {
    double limit;

    memcpy(&limit, operand.data, sizeof limit);
    switch (code) {
    case NODE_GT:
        return number > limit;
    case NODE_GTE:
        return number >= limit;
    case NODE_LT:
        return number < limit;
    default:
        return number <= limit;
    }
}

/* `found`: the event has the tag. */
static bool leaf_passes(enum node_code code, struct slice operand, bool found, const struct tag_found *tag) {
    struct slice value = tag->value;

    switch (code) {
    case NODE_EX:
        return found;
    case NODE_NEX:
        return !found;
    case NODE_NEQ:
        return !found || !slice_equal(value, operand);
    case NODE_NIN:
        return !found || !is_listed(operand, value);
    case NODE_EQ:
        return found && slice_equal(value, operand);
    case NODE_IN:
        return found && is_listed(operand, value);
    case NODE_SW:
        return found && slice_starts_with(value, operand);
    case NODE_EW:
        return found && slice_ends_with(value, operand);
    case NODE_CT:
        return found && memmem(value.data, value.length, operand.data, operand.length) != NULL;
    default:
        return found && is_ordered(code, operand, tag->number);
    }
}

/* It is as deep as the filter: FILTER_DEPTH_MAX bounds the recursion. */
static bool node_passes(const char *node, const struct tags *tags) {
    struct tag_found tag = {0};
    struct node_head head;
    struct slice operand;

    memcpy(&head, node, sizeof head);
    operand = operand_of(node, &head);
    if (head.code > NODE_NOT) {
        bool found = tags_find(tags, (struct slice){node + sizeof head, head.key_length}, &tag);
        return leaf_passes((enum node_code)head.code, operand, found, &tag);
    }
    if (head.code == NODE_NOT)
        return !node_passes(operand.data, tags);
    while (operand.length != 0) {
        bool passes = node_passes(operand.data, tags);
        if (passes == (head.code == NODE_OR))
            return passes;
        operand = slice_skip(operand, load_number(operand.data, 0)); /* its size */
    }
    return head.code == NODE_AND;
}

bool filter_evaluate(struct slice program, const struct tags *tags) {
    return node_passes(program.data, tags);
}

/* --- the most that evaluating takes --- */

#define FILTER_WORK 12 /* a filter that is in no cache */
#define LEAF_WORK 4
#define KEY_BYTES_PER_WORK 64    /* a few tags are compared with the key */
#define VALUE_BYTES_PER_WORK 128 /* one comparison, of a text that is in no cache */
#define LISTED_WORK 8
#define LISTED_BYTES_PER_WORK 16 /* a few values are compared */
#define SEARCH_WORK 380          /* a text is searched for in a value of TAG_VALUE_MAX bytes */

static size_t leaf_work(const struct node_head *head, struct slice operand) {
    size_t work = LEAF_WORK + head->key_length / KEY_BYTES_PER_WORK;

    if (head->code == NODE_IN || head->code == NODE_NIN)
        return work + LISTED_WORK + operand.length / load_number(operand.data, 0) / LISTED_BYTES_PER_WORK;
    return work + operand.length / VALUE_BYTES_PER_WORK + (head->code == NODE_CT ? SEARCH_WORK : 0);
}

size_t filter_work(struct slice program) {
    size_t end = load_number(program.data, 0), work = FILTER_WORK; /* the size of the root */
    struct node_head head;

    for (size_t at = 0; at<end; at += head.code> NODE_NOT ? head.size : sizeof head) {
        memcpy(&head, program.data + at, sizeof head);
        if (head.code > NODE_NOT)
            work += leaf_work(&head, operand_of(program.data + at, &head));
    }
    return work;
}
