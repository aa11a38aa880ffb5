#include "base/json_fault.h"

#include <ctype.h>

#include "base/json.h"

struct fault_finder {
    const char *start, *at, *end;
    const char *open[JSON_MAX_DEPTH]; /* the brackets that are not closed yet */
    size_t depth;
    const char *fault; /* NULL: none so far */
    struct error *error;
};

/* Always false, so that a step can return it. */
static bool fault_at(struct fault_finder *finder, const char *at, const char *text) {
    finder->fault = at;
    return error_set(finder->error, "%s", text);
}

static int fault_peek(const struct fault_finder *finder, size_t offset) {
    return (size_t)(finder->end - finder->at) > offset ? (unsigned char)finder->at[offset] : -1;
}

static bool is_json_space(int byte) {
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

/* Skips blanks; false at a comment. */
static bool skip_to_token(struct fault_finder *finder) {
    while (is_json_space(fault_peek(finder, 0)))
        finder->at++;
    if (fault_peek(finder, 0) == '#' ||
        (fault_peek(finder, 0) == '/' && (fault_peek(finder, 1) == '/' || fault_peek(finder, 1) == '*')))
        return fault_at(finder, finder->at, "JSON has no comments; remove this one");
    return true;
}

static const char *last_byte_before(const struct fault_finder *finder, const char *at) {
    while (at > finder->start && is_json_space(at[-1]))
        at--;
    return at;
}

static bool fault_end(struct fault_finder *finder) {
    const char *end = last_byte_before(finder, finder->end);
    const char *open = finder->depth > 0 ? finder->open[finder->depth - 1] : NULL;

    if (open == NULL)
        return fault_at(finder, end, "the file ends too early: a value is missing");
    finder->fault = end;
    return error_set(finder->error, "the file ends too early: the %c of line %zu is not closed", *open,
                     text_position_of((struct slice){finder->start, (size_t)(finder->end - finder->start)}, open).line);
}

/* --- strings, numbers, words --- */

static bool check_escape(struct fault_finder *finder) {
    int letter = fault_peek(finder, 1);

    if (letter == 'u') {
        for (size_t i = 2; i < 6; i++)
            if (fault_peek(finder, i) < 0 || !isxdigit(fault_peek(finder, i)))
                return fault_at(finder, finder->at, "\\u must be followed by four hexadecimal digits");
        if (memcmp(finder->at, "\\u0000", 6) == 0)
            return fault_at(finder, finder->at, "a text must not hold \\u0000, the byte 0");
        finder->at += 6;
        return true;
    }
    if (letter < 0 || strchr("\"\\/bfnrt", letter) == NULL || letter == '\0')
        return fault_at(finder, finder->at,
                        "a backslash must be followed by one of \" \\ / b f n r t u; write \\\\ for a backslash");
    finder->at += 2;
    return true;
}

static bool check_json_string(struct fault_finder *finder) {
    const char *opening = finder->at++;

    for (;;) {
        int byte = fault_peek(finder, 0);

        if (byte == '"') {
            finder->at++;
            return true;
        }
        if (byte < 0 || byte == '\n' || byte == '\r')
            return fault_at(finder, opening, "the text that begins here has no closing quotation mark on its line");
        if (byte < ' ')
            return fault_at(finder, finder->at,
                            byte == '\t' ? "a text must not hold a tab; write \\t"
                                         : "a text must not hold a control character; write it as \\u00XX");
        if (byte != '\\')
            finder->at++;
        else if (!check_escape(finder))
            return false;
    }
}

static bool skip_digits(struct fault_finder *finder) {
    const char *start = finder->at;

    while (fault_peek(finder, 0) >= '0' && fault_peek(finder, 0) <= '9')
        finder->at++;
    return finder->at > start;
}

static bool check_json_number(struct fault_finder *finder) {
    static const char right[] =
        "this is not a number of JSON: digits, without leading zeros or a plus sign, and with a "
        "digit on both sides of a dot";
    const char *start = finder->at, *digits;

    finder->at += fault_peek(finder, 0) == '-';
    digits = finder->at;
    if (!skip_digits(finder) || (*digits == '0' && finder->at - digits > 1))
        return fault_at(finder, start, right);
    if (fault_peek(finder, 0) == '.') {
        finder->at++;
        if (!skip_digits(finder))
            return fault_at(finder, start, right);
    }
    if (fault_peek(finder, 0) == 'e' || fault_peek(finder, 0) == 'E') {
        finder->at++;
        finder->at += fault_peek(finder, 0) == '+' || fault_peek(finder, 0) == '-';
        if (!skip_digits(finder))
            return fault_at(finder, start, right);
    }
    return true;
}

static bool take_word(struct fault_finder *finder, const char *word) {
    size_t length = strlen(word);

    if (!slice_starts_with((struct slice){finder->at, (size_t)(finder->end - finder->at)},
                           (struct slice){word, length}) ||
        isalnum(fault_peek(finder, length)))
        return false;
    finder->at += length;
    return true;
}

/* --- what stands where it must not --- */

static bool fault_value(struct fault_finder *finder) {
    int byte = fault_peek(finder, 0);

    switch (byte) {
    case '\'':
        return fault_at(finder, finder->at, "JSON has double quotation marks (\"), not single ones");
    case 0xe2: /* typographic quotation marks are U+2018 to U+201F, E2 80 98 to E2 80 9F */
        return fault_at(finder, finder->at, "this is a typographic quotation mark; JSON has the plain one (\")");
    case ',':
        return fault_at(finder, finder->at, "a value is missing before this comma");
    case '}':
    case ']':
        return fault_at(finder, finder->at, "a value is missing before this bracket");
    case '+':
    case '.':
        return check_json_number(finder);
    case '$':
        return fault_at(finder, finder->at,
                        "a variable must be in double quotation marks (\"${NAME}\"), for a number, too");
    default:
        return fault_at(finder, finder->at,
                        isalpha(byte) ? "a text must be in double quotation marks; the other words of JSON are true, "
                                        "false and null, in small letters"
                                      : "this is not the beginning of a value");
    }
}

/* One value up to its end, or up to its opening bracket, which is then the last of `open`. */
static bool check_json_value(struct fault_finder *finder, bool *opened) {
    int byte;

    *opened = false;
    if (!skip_to_token(finder))
        return false;
    byte = fault_peek(finder, 0);
    if (byte < 0)
        return fault_end(finder);
    if (byte == '{' || byte == '[') {
        if (finder->depth == JSON_MAX_DEPTH)
            return fault_at(finder, finder->at, "the brackets are nested too deeply");
        finder->open[finder->depth++] = finder->at++;
        *opened = true;
        return true;
    }
    if (byte == '"')
        return check_json_string(finder);
    if (byte == '-' || (byte >= '0' && byte <= '9'))
        return check_json_number(finder);
    return take_word(finder, "true") || take_word(finder, "false") || take_word(finder, "null") || fault_value(finder);
}

/* The name of a member and its colon. */
static bool check_member_name(struct fault_finder *finder) {
    int byte;

    if (!skip_to_token(finder))
        return false;
    byte = fault_peek(finder, 0);
    if (byte < 0)
        return fault_end(finder);
    if (byte == ',')
        return fault_at(finder, finder->at, "a comma too many");
    if (byte != '"')
        return byte == '\'' || byte == 0xe2
                   ? fault_value(finder)
                   : fault_at(finder, finder->at, "the name of a member must be in double quotation marks");
    if (!check_json_string(finder) || !skip_to_token(finder))
        return false;
    byte = fault_peek(finder, 0);
    if (byte < 0)
        return fault_end(finder);
    if (byte != ':')
        return fault_at(finder, last_byte_before(finder, finder->at), "a colon is missing after the name");
    finder->at++;
    return true;
}

/* What comes after a value in the innermost bracket: `closed` or a comma. */
static bool check_separator(struct fault_finder *finder, bool *closed) {
    char open = *finder->open[finder->depth - 1], close = open == '{' ? '}' : ']';
    const char *comma;
    int byte;

    *closed = false;
    if (!skip_to_token(finder))
        return false;
    byte = fault_peek(finder, 0);
    if (byte < 0)
        return fault_end(finder);
    if (byte == close) {
        finder->at++;
        finder->depth--;
        *closed = true;
        return true;
    }
    if (byte == '}' || byte == ']') {
        finder->fault = finder->at;
        return error_set(finder->error, "expected %c, which closes the %c of line %zu", close, open,
                         text_position_of((struct slice){finder->start, (size_t)(finder->end - finder->start)},
                                          finder->open[finder->depth - 1])
                             .line);
    }
    if (byte != ',')
        return fault_at(finder, last_byte_before(finder, finder->at), "a comma is missing after this value");
    comma = finder->at++;
    if (!skip_to_token(finder))
        return false;
    if (fault_peek(finder, 0) == close)
        return fault_at(finder, comma,
                        close == '}' ? "a comma before } is one too many" : "a comma before ] is one too many");
    return true;
}

/* True if the innermost bracket, just opened, is closed at once. */
static bool is_empty_bracket(struct fault_finder *finder) {
    char close = *finder->open[finder->depth - 1] == '{' ? '}' : ']';

    if (fault_peek(finder, 0) != close)
        return false;
    finder->at++;
    finder->depth--;
    return true;
}

/* Walks over the whole text, without recursion. */
static bool check_json_text(struct fault_finder *finder) {
    bool opened, closed;

    for (;;) {
        if (finder->depth > 0 && *finder->open[finder->depth - 1] == '{' && !check_member_name(finder))
            return false;
        if (!check_json_value(finder, &opened))
            return false;
        if (opened) {
            if (!skip_to_token(finder))
                return false;
            if (!is_empty_bracket(finder))
                continue;
        }
        closed = true;
        while (closed && finder->depth > 0)
            if (!check_separator(finder, &closed))
                return false;
        if (finder->depth == 0)
            break;
    }
    return skip_to_token(finder) && (finder->at == finder->end ||
                                     fault_at(finder, finder->at, "there is more behind the end of the JSON value"));
}

/* --- other languages --- */

/* The first line that is neither empty nor a comment of TOML, YAML or shells. */
static struct slice first_line(struct slice text) {
    while (text.data != NULL && text.length > 0) {
        const char *end = memchr(text.data, '\n', text.length);
        size_t length = end != NULL ? (size_t)(end - text.data) : text.length;
        struct slice line = slice_trim((struct slice){text.data, length});

        if (slice_ends_with(line, SLICE("\r")))
            line.length--;
        if (line.length > 0 && line.data[0] != '#')
            return line;
        text = slice_skip(text, end != NULL ? length + 1 : length);
    }
    return SLICE("");
}

static size_t key_length(struct slice line) {
    size_t length = 0;

    while (length < line.length &&
           (isalnum((unsigned char)line.data[length]) || strchr("_-.", line.data[length]) != NULL) &&
           line.data[length] != '\0')
        length++;
    return length;
}

/* [name] or [[name]], and not a list of numbers. */
static bool is_toml_header(struct slice line) {
    size_t brackets = slice_starts_with(line, SLICE("[[")) ? 2 : 1;
    struct slice name = slice_skip(line, brackets < line.length ? brackets : line.length);

    return slice_starts_with(line, SLICE("[")) && slice_ends_with(line, SLICE("]")) && key_length(name) > 0 &&
           !isdigit((unsigned char)name.data[0]);
}

/* NULL if the text does not look like a language that configurations are written in. */
static const char *language_of(struct slice text) {
    struct slice line = first_line(text), rest;
    size_t length = key_length(line);

    if (slice_starts_with(line, SLICE("<?php")) || slice_starts_with(line, SLICE("return [")))
        return "this is PHP, not JSON: `curlew convert` reads the files of Reverb and laravel-websockets";
    if (slice_starts_with(line, SLICE("<")))
        return "this is XML or HTML, not JSON";
    if (slice_equal(line, SLICE("---")))
        return "this is YAML, not JSON";
    if (is_toml_header(line))
        return "this looks like TOML, not JSON: a file of TOML needs a name that ends in .toml";
    rest = slice_trim(slice_skip(line, length));
    if (length == 0 || rest.length == 0)
        return NULL;
    if (rest.data[0] == '=')
        return length < line.length && line.data[length] == '='
                   ? "these look like environment variables, not JSON"
                   : "this looks like TOML, not JSON: a file of TOML needs a name that ends in .toml";
    if (rest.data[0] == ':' && (rest.length == 1 || rest.data[1] == ' '))
        return "this looks like YAML, not JSON";
    return NULL;
}

bool json_find_fault(struct slice text, struct text_position *position, struct error *error) {
    const char *start = text.data != NULL ? text.data : "";
    struct fault_finder finder = {.start = start, .at = start, .end = start + text.length, .error = error};
    const char *malformed = text_find_malformed(text), *language;

    if (malformed != NULL) {
        fault_at(&finder, malformed, "the file is not in UTF-8");
    } else {
        if (check_json_text(&finder))
            return false;
        language = language_of(text);
        if (language != NULL)
            fault_at(&finder, first_line(text).data, language);
    }
    *position = text_position_of((struct slice){start, text.length}, finder.fault);
    return true;
}
