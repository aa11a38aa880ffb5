/*
 * Two kinds of functions. Scanning (`scan_*`) validates an untrusted text completely and reports the first error.
 * Walking (`walk_*`, for json_next) goes over text that was scanned before and only finds the ends of values.
 *
 * The stack of open containers is a bit set, one bit per level: object (1) or array (0).
 */
#include "base/json.h"

#include <stdint.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/utf8.h"

struct scanner {
    const char *start, *at, *end;
    struct error *error;
};

/* Returns the first quote, backslash or control character from `at` on, or `end`. */
static const char *skip_plain(const char *at, const char *end) {
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"');
    const __m128i backslash = _mm_set1_epi8('\\');
    const __m128i last_control = _mm_set1_epi8(0x1F);

    while (end - at >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i special = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash));
        __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, last_control), bytes);
        unsigned found = (unsigned)_mm_movemask_epi8(_mm_or_si128(special, control));
        if (found != 0)
            return at + __builtin_ctz(found);
        at += 16;
    }
#endif
    while (at != end && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20)
        at++;
    return at;
}

static bool is_json_blank(char byte) {
    return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

static bool is_digit(char byte) {
    return byte >= '0' && byte <= '9';
}

static const char *skip_json_blanks(const char *at, const char *end) {
    while (at != end && is_json_blank(*at))
        at++;
    return at;
}

/* The slow path of peek_byte, not inlined, since most JSON has no blanks. */
static __attribute__((noinline)) int peek_past_blanks(struct scanner *scanner) {
    scanner->at = skip_json_blanks(scanner->at, scanner->end);
    return scanner->at != scanner->end ? (unsigned char)*scanner->at : -1;
}

/* Skips blanks and returns the next byte without consuming it; -1 at the end. */
static inline __attribute__((always_inline)) int peek_byte(struct scanner *scanner) {
    if (scanner->at != scanner->end && (unsigned char)*scanner->at > ' ')
        return (unsigned char)*scanner->at;
    return peek_past_blanks(scanner);
}

static bool expect_token(const struct scanner *scanner, const char *what) {
    size_t offset = (size_t)(scanner->at - scanner->start);
    unsigned char found;

    if (scanner->at == scanner->end)
        return error_set(scanner->error, "JSON at byte %zu: expected %s, found the end", offset, what);
    found = (unsigned char)*scanner->at;
    if (found > ' ' && found < 0x7F)
        return error_set(scanner->error, "JSON at byte %zu: expected %s, found '%c'", offset, what, found);
    return error_set(scanner->error, "JSON at byte %zu: expected %s, found byte 0x%02x", offset, what, found);
}

static bool scan_escape(struct scanner *scanner) {
    scanner->at++;
    if (scanner->at == scanner->end)
        return expect_token(scanner, "an escape");
    switch (*scanner->at) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        scanner->at++;
        return true;
    case 'u':
        scanner->at++;
        for (int i = 0; i < 4; i++, scanner->at++)
            if (scanner->at == scanner->end || hex_digit_value(*scanner->at) < 0)
                return expect_token(scanner, "a hexadecimal digit");
        return true;
    default:
        return expect_token(scanner, "one of \"\\/bfnrtu after a backslash");
    }
}

/* Scans a string; `at` is at the opening quote. */
static bool scan_string(struct scanner *scanner, struct json_value *value) {
    const char *token = scanner->at++;
    bool escaped = false;

    for (;;) {
        scanner->at = skip_plain(scanner->at, scanner->end);
        if (scanner->at == scanner->end)
            return expect_token(scanner, "a closing quote");
        if (*scanner->at == '"')
            break;
        if (*scanner->at != '\\')
            return expect_token(scanner, "an escape in place of a control character");
        escaped = true;
        if (!scan_escape(scanner))
            return false;
    }
    scanner->at++;
    *value = (struct json_value){JSON_TYPE_STRING, escaped, {token, (size_t)(scanner->at - token)}};
    return true;
}

static bool scan_digits(struct scanner *scanner) {
    if (scanner->at == scanner->end || !is_digit(*scanner->at))
        return expect_token(scanner, "a digit");
    while (scanner->at != scanner->end && is_digit(*scanner->at))
        scanner->at++;
    return true;
}

static bool scan_number(struct scanner *scanner, struct json_value *value) {
    const char *token = scanner->at;

    if (*scanner->at == '-')
        scanner->at++;
    if (scanner->at != scanner->end && *scanner->at == '0') {
        scanner->at++;
        if (scanner->at != scanner->end && is_digit(*scanner->at))
            return expect_token(scanner, "no digit after a leading zero");
    } else if (!scan_digits(scanner)) {
        return false;
    }
    if (scanner->at != scanner->end && *scanner->at == '.') {
        scanner->at++;
        if (!scan_digits(scanner))
            return false;
    }
    if (scanner->at != scanner->end && (*scanner->at == 'e' || *scanner->at == 'E')) {
        scanner->at++;
        if (scanner->at != scanner->end && (*scanner->at == '+' || *scanner->at == '-'))
            scanner->at++;
        if (!scan_digits(scanner))
            return false;
    }
    *value = (struct json_value){JSON_TYPE_NUMBER, false, {token, (size_t)(scanner->at - token)}};
    return true;
}

static bool scan_word(struct scanner *scanner, struct json_value *value, struct slice word, enum json_type type) {
    if (!slice_starts_with((struct slice){scanner->at, (size_t)(scanner->end - scanner->at)}, word))
        return expect_token(scanner, "a value");
    *value = (struct json_value){type, false, {scanner->at, word.length}};
    scanner->at += word.length;
    return true;
}

/* Scans a value that is neither an object nor an array. */
static bool scan_scalar(struct scanner *scanner, struct json_value *value) {
    if (scanner->at == scanner->end)
        return expect_token(scanner, "a value");
    switch (*scanner->at) {
    case '"':
        return scan_string(scanner, value);
    case 't':
        return scan_word(scanner, value, SLICE("true"), JSON_TYPE_TRUE);
    case 'f':
        return scan_word(scanner, value, SLICE("false"), JSON_TYPE_FALSE);
    case 'n':
        return scan_word(scanner, value, SLICE("null"), JSON_TYPE_NULL);
    case '-':
        return scan_number(scanner, value);
    default:
        return is_digit(*scanner->at) ? scan_number(scanner, value) : expect_token(scanner, "a value");
    }
}

/* Scans a member's name and the colon after it. */
static bool scan_key(struct scanner *scanner, struct json_value *key) {
    if (peek_byte(scanner) != '"')
        return expect_token(scanner, "a member name");
    if (!scan_string(scanner, key))
        return false;
    if (peek_byte(scanner) != ':')
        return expect_token(scanner, "':'");
    scanner->at++;
    return true;
}

/* Scans a value that is inside `outer` containers, which the caller scans itself. */
static bool scan_value(struct scanner *scanner, unsigned outer, struct json_value *value) {
    uint64_t objects[JSON_MAX_DEPTH / 64];
    unsigned depth = outer;
    struct json_value inner;
    const char *token;
    int next = peek_byte(scanner);

    if (next != '{' && next != '[')
        return scan_scalar(scanner, value);
    token = scanner->at;
    for (;;) {
        /* Down: the start of a value. */
        next = peek_byte(scanner);
        if (next == '{' || next == '[') {
            bool object = next == '{';
            uint64_t bit = (uint64_t)1 << depth % 64;
            if (depth == JSON_MAX_DEPTH)
                return error_set(scanner->error, "JSON at byte %zu: nested deeper than %d levels",
                                 (size_t)(scanner->at - scanner->start), JSON_MAX_DEPTH);
            objects[depth / 64] = object ? objects[depth / 64] | bit : objects[depth / 64] & ~bit;
            depth++;
            scanner->at++;
            if (peek_byte(scanner) != (object ? '}' : ']')) {
                if (object && !scan_key(scanner, &inner))
                    return false;
                continue;
            }
        } else if (!scan_scalar(scanner, &inner)) {
            return false;
        }
        /* Up: the end of a value, and of any containers that end with it. */
        while (depth > outer) {
            bool object = (objects[(depth - 1) / 64] >> (depth - 1) % 64 & 1) != 0;
            next = peek_byte(scanner);
            if (next == ',') {
                scanner->at++;
                if (object && !scan_key(scanner, &inner))
                    return false;
                break;
            }
            if (next != (object ? '}' : ']'))
                return expect_token(scanner, object ? "',' or '}'" : "',' or ']'");
            scanner->at++;
            depth--;
        }
        if (depth == outer)
            break;
    }
    *value = (struct json_value){
        *token == '{' ? JSON_TYPE_OBJECT : JSON_TYPE_ARRAY, false, {token, (size_t)(scanner->at - token)}};
    return true;
}

static struct scanner scanner_of(struct slice text, struct error *error) {
    if (text.length == 0)
        text.data = "";
    return (struct scanner){text.data, text.data, text.data + text.length, error};
}

static bool scan_end(struct scanner *scanner) {
    return peek_byte(scanner) == -1 || expect_token(scanner, "the end of the text");
}

bool json_scan(struct slice text, struct json_value *value, struct error *error) {
    struct scanner scanner = scanner_of(text, error);

    return scan_value(&scanner, 0, value) && scan_end(&scanner);
}

static unsigned decode_hex4(const char *digits) {
    unsigned code = 0;

    for (int i = 0; i < 4; i++)
        code = code << 4 | (unsigned)hex_digit_value(digits[i]);
    return code;
}

/* Decodes the escape at `*at`, or the two escapes of a surrogate pair, and moves `*at` past it. Returns the length. */
static size_t decode_escape(const char **at, const char *end, char bytes[4]) {
    const char *escape = *at + 1;
    unsigned code, second;

    *at = escape + 1;
    switch (*escape) {
    case 'b':
        bytes[0] = '\b';
        return 1;
    case 'f':
        bytes[0] = '\f';
        return 1;
    case 'n':
        bytes[0] = '\n';
        return 1;
    case 'r':
        bytes[0] = '\r';
        return 1;
    case 't':
        bytes[0] = '\t';
        return 1;
    case 'u':
        break;
    default:
        bytes[0] = *escape;
        return 1;
    }
    code = decode_hex4(*at);
    *at += 4;
    if (code >= 0xD800 && code <= 0xDBFF && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        second = decode_hex4(*at + 2);
        if (second >= 0xDC00 && second <= 0xDFFF) {
            *at += 6;
            return utf8_encode(0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00), bytes);
        }
    }
    if (code >= 0xD800 && code <= 0xDFFF)
        code = 0xFFFD;
    return utf8_encode(code, bytes);
}

/* Returns the bytes between the quotes of a string token. */
static struct slice string_body(struct json_value string) {
    if (string.type != JSON_TYPE_STRING)
        return SLICE("");
    return (struct slice){string.token.data + 1, string.token.length - 2};
}

static const char *find_backslash(const char *at, const char *end) {
    const char *found = memchr(at, '\\', (size_t)(end - at));

    return found != NULL ? found : end;
}

struct slice json_decode_string(struct json_value string, struct buffer *storage) {
    struct slice body = string_body(string);
    const char *at = body.data, *end = body.data + body.length;
    size_t start;

    if (!string.escaped)
        return body;
    buffer_reserve(storage, body.length); /* an escape is never shorter than its decoded bytes */
    start = storage->length;
    while (at != end) {
        const char *backslash = find_backslash(at, end);
        char bytes[4];
        buffer_append_bytes(storage, at, (size_t)(backslash - at));
        at = backslash;
        if (at != end)
            buffer_append_bytes(storage, bytes, decode_escape(&at, end, bytes));
    }
    return (struct slice){storage->data + start, storage->length - start};
}

size_t json_decoded_length(struct json_value string) {
    struct slice body = string_body(string);
    const char *at = body.data, *end = body.data + body.length;
    size_t length = 0;

    if (!string.escaped)
        return body.length;
    while (at != end) {
        const char *backslash = find_backslash(at, end);
        char bytes[4];
        length += (size_t)(backslash - at);
        at = backslash;
        if (at != end)
            length += decode_escape(&at, end, bytes);
    }
    return length;
}

/* True if the string with these bytes between its quotes is `name` after decoding; decodes without a copy. */
static bool escaped_is(struct slice body, struct slice name) {
    const char *at = body.data, *end = body.data + body.length;

    while (at != end) {
        char bytes[4];
        size_t length = 1;
        if (*at == '\\')
            length = decode_escape(&at, end, bytes);
        else
            bytes[0] = *at++;
        if (!slice_starts_with(name, (struct slice){bytes, length}))
            return false;
        name = slice_skip(name, length);
    }
    return name.length == 0;
}

/* Stores the member in `values` if its key is one of the names, which differ. */
static void store_member(const struct json_value *key, const struct json_value *value, const struct slice *names,
                         struct json_value *values, size_t count) {
    struct slice body = string_body(*key);

    for (size_t i = 0; i < count; i++) {
        if (key->escaped ? escaped_is(body, names[i]) : slice_equal(body, names[i])) {
            values[i] = *value;
            return;
        }
    }
}

bool json_scan_object(struct slice text, const struct slice *names, struct json_value *values, size_t count,
                      struct error *error) {
    struct scanner scanner = scanner_of(text, error);
    struct json_value key, value;

    for (size_t i = 0; i < count; i++)
        values[i] = (struct json_value){JSON_TYPE_ABSENT, false, SLICE_INIT("")};
    if (peek_byte(&scanner) != '{')
        return expect_token(&scanner, "an object");
    scanner.at++;
    if (peek_byte(&scanner) == '}') {
        scanner.at++;
        return scan_end(&scanner);
    }
    for (;;) {
        int next;
        if (!scan_key(&scanner, &key) || !scan_value(&scanner, 1, &value))
            return false;
        store_member(&key, &value, names, values, count);
        next = peek_byte(&scanner);
        if (next != ',' && next != '}')
            return expect_token(&scanner, "',' or '}'");
        scanner.at++;
        if (next == '}')
            return scan_end(&scanner);
    }
}

struct json_iterator json_iterate(struct json_value container) {
    const char *token = container.token.data;

    if (container.type != JSON_TYPE_OBJECT && container.type != JSON_TYPE_ARRAY)
        return (struct json_iterator){"", ""};
    return (struct json_iterator){token + 1, token + container.token.length - 1};
}

/* Finds the end of a string: `at` is after the opening quote, the result is after the closing one. */
static const char *walk_string(const char *at, const char *end, bool *escaped) {
    *escaped = false;
    for (;;) {
        at = skip_plain(at, end);
        if (at == end)
            return at;
        if (*at++ == '"')
            return at;
        *escaped = true;
        if (at != end)
            at++; /* the byte after the backslash, which may be a quote */
    }
}

/* Finds the end of a container: `at` is after the opening bracket, the result is after the closing one. */
static const char *walk_container(const char *at, const char *end) {
    size_t depth = 1;
    bool escaped;

    while (at != end && depth != 0) {
        char byte = *at++;
        if (byte == '"')
            at = walk_string(at, end, &escaped);
        else if (byte == '{' || byte == '[')
            depth++;
        else if (byte == '}' || byte == ']')
            depth--;
    }
    return at;
}

/* Finds the end of the value at `at`; `at` must be before `end`. */
static struct json_value walk_value(const char *at, const char *end) {
    struct json_value value = {.type = JSON_TYPE_NUMBER, .token = {at, 0}};

    switch (*at) {
    case '"':
        value.type = JSON_TYPE_STRING;
        at = walk_string(at + 1, end, &value.escaped);
        break;
    case '{':
    case '[':
        value.type = *at == '{' ? JSON_TYPE_OBJECT : JSON_TYPE_ARRAY;
        at = walk_container(at + 1, end);
        break;
    default:
        value.type = *at == 't'   ? JSON_TYPE_TRUE
                     : *at == 'f' ? JSON_TYPE_FALSE
                     : *at == 'n' ? JSON_TYPE_NULL
                                  : JSON_TYPE_NUMBER;
        while (at != end && *at != ',' && !is_json_blank(*at))
            at++;
        break;
    }
    value.token.length = (size_t)(at - value.token.data);
    return value;
}

bool json_next(struct json_iterator *iterator, struct json_value *key, struct json_value *value) {
    const char *at = skip_json_blanks(iterator->at, iterator->end);
    const char *end = iterator->end;

    if (key != NULL)
        *key = (struct json_value){JSON_TYPE_ABSENT, false, SLICE_INIT("")};
    *value = (struct json_value){JSON_TYPE_ABSENT, false, SLICE_INIT("")};
    if (at == end) {
        iterator->at = end;
        return false;
    }
    *value = walk_value(at, end);
    at = skip_json_blanks(value->token.data + value->token.length, end);
    if (at != end && *at == ':') { /* a colon follows only a member's name */
        if (key != NULL)
            *key = *value;
        at = skip_json_blanks(at + 1, end);
        *value = walk_value(at, end);
        at = skip_json_blanks(value->token.data + value->token.length, end);
    }
    iterator->at = at != end ? at + 1 : end; /* the comma */
    return true;
}

bool json_is_whole_number(struct json_value number) {
    if (number.type != JSON_TYPE_NUMBER)
        return false;
    for (size_t i = 0; i < number.token.length; i++)
        if (!is_digit(number.token.data[i]) && !(i == 0 && number.token.data[i] == '-'))
            return false;
    return true;
}

void json_append_string(struct buffer *buffer, struct slice text) {
    static const char hex[] = "0123456789abcdef";
    const char *at, *end;

    buffer_append_byte(buffer, '"');
    if (text.length != 0) {
        at = text.data;
        end = at + text.length;
        for (;;) {
            const char *special = skip_plain(at, end);
            char escape[6] = {'\\', 'u', '0', '0'};
            size_t length = 2;
            buffer_append_bytes(buffer, at, (size_t)(special - at));
            if (special == end)
                break;
            switch (*special) {
            case '"':
            case '\\':
                escape[1] = *special;
                break;
            case '\b':
                escape[1] = 'b';
                break;
            case '\f':
                escape[1] = 'f';
                break;
            case '\n':
                escape[1] = 'n';
                break;
            case '\r':
                escape[1] = 'r';
                break;
            case '\t':
                escape[1] = 't';
                break;
            default:
                escape[4] = hex[(unsigned char)*special >> 4];
                escape[5] = hex[(unsigned char)*special & 15];
                length = 6;
                break;
            }
            buffer_append_bytes(buffer, escape, length);
            at = special + 1;
        }
    }
    buffer_append_byte(buffer, '"');
}
