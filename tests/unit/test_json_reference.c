/* The scanner against a naive reference implementation, on random texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/json_fault.h"

/* Scans a copy of exact size, so that AddressSanitizer detects a read past its end. */
static bool scan(const char *text, size_t length, struct error *error) {
    char *copy = malloc(length != 0 ? length : 1);
    struct json_value value;
    bool result;

    assert_non_null(copy);
    memcpy(copy, text, length);
    error->text[0] = '\0';
    result = json_scan((struct slice){copy, length}, &value, error);
    if (result == (error->text[0] != '\0'))
        fail_msg("an error comes with a failure, and only then: %.*s", (int)length, text);
    free(copy);
    return result;
}

/* The grammar of RFC 8259, one function per rule, byte by byte: slow, recursive and easy to review. */
struct reference {
    const unsigned char *at, *end;
    size_t depth;
};

static int reference_byte(const struct reference *r) {
    return r->at != r->end ? *r->at : -1;
}

static bool reference_take(struct reference *r, const char *bytes) {
    if (r->at == r->end || *r->at == '\0' || strchr(bytes, *r->at) == NULL)
        return false;
    r->at++;
    return true;
}

static void reference_blanks(struct reference *r) {
    while (reference_take(r, " \t\r\n"))
        ;
}

static bool reference_string(struct reference *r) {
    if (!reference_take(r, "\""))
        return false;
    for (;;) {
        int byte = reference_byte(r);
        if (byte < 0x20)
            return false;
        r->at++;
        if (byte == '"')
            return true;
        if (byte == '\\' && reference_byte(r) == 'u') {
            r->at++;
            for (int i = 0; i < 4; i++)
                if (!reference_take(r, "0123456789abcdefABCDEF"))
                    return false;
        } else if (byte == '\\' && !reference_take(r, "\"\\/bfnrt")) {
            return false;
        }
    }
}

static bool reference_digits(struct reference *r) {
    if (!reference_take(r, "0123456789"))
        return false;
    while (reference_take(r, "0123456789"))
        ;
    return true;
}

static bool reference_number(struct reference *r) {
    reference_take(r, "-");
    if (!reference_take(r, "0") && !reference_digits(r))
        return false;
    if (reference_take(r, ".") && !reference_digits(r))
        return false;
    if (reference_take(r, "eE")) {
        reference_take(r, "+-");
        return reference_digits(r);
    }
    return true;
}

static bool reference_word(struct reference *r, const char *word) {
    for (; *word != '\0'; word++)
        if (!reference_take(r, (const char[]){*word, '\0'}))
            return false;
    return true;
}

static bool reference_value(struct reference *r) {
    int open;
    bool result;

    reference_blanks(r);
    open = reference_byte(r);
    if (open == '"')
        return reference_string(r);
    if (open == 't' || open == 'f' || open == 'n')
        return reference_word(r, open == 't' ? "true" : open == 'f' ? "false" : "null");
    if (open != '{' && open != '[')
        return reference_number(r);
    r->at++;
    if (++r->depth > JSON_MAX_DEPTH)
        return false;
    reference_blanks(r);
    if (reference_take(r, open == '{' ? "}" : "]")) {
        r->depth--;
        return true;
    }
    do {
        if (open == '{') {
            reference_blanks(r);
            if (!reference_string(r))
                return false;
            reference_blanks(r);
            if (!reference_take(r, ":"))
                return false;
        }
        if (!reference_value(r))
            return false;
        reference_blanks(r);
    } while (reference_take(r, ","));
    result = reference_take(r, open == '{' ? "}" : "]");
    r->depth--;
    return result;
}

static bool reference_scan(const char *text, size_t length) {
    struct reference r = {(const unsigned char *)text, (const unsigned char *)text + length, 0};

    if (!reference_value(&r))
        return false;
    reference_blanks(&r);
    return r.at == r.end;
}

/* A random generator (xorshift) with a fixed seed, so that failures can be repeated. */
static uint32_t next_random(void) {
    static uint32_t random = 2463534242u;

    random ^= random << 13;
    random ^= random >> 17;
    return random ^= random << 5;
}

static void mutated_messages_are_judged_like_by_a_naive_reference(void **state) {
    static const char *const seeds[] = {
        "{\"event\":\"client-x\",\"data\":{\"a\":1.50e+3,\"b\":[true,false,null]},\"channel\":\"private-a\"}",
        "[[[{\"a\":[{}]}],[]],-0.5,10,0,\"\\u00e9\\n\\\\\\\"\"]",
        "\"a string longer than thirty-two bytes \\ud83d\\ude00 with a tail\"",
        " { \"\" : 1e5 , \"x\" : \"y\" } ",
    };
    static const char interesting[] = "{}[]:,\"\\0123456789-+.eEtrufalsn \n\x01\x1F\x7F/x";
    size_t accepted = 0, refused = 0;

    (void)state;
    for (int round = 0; round < 300000; round++) {
        const char *seed = seeds[next_random() % 4];
        size_t length = strlen(seed);
        char text[256];
        struct text_position position;
        struct error error;
        bool wanted;
        memcpy(text, seed, length);
        for (uint32_t i = 0, changes = 1 + next_random() % 3; i < changes && length > 1; i++) {
            size_t at = next_random() % length;
            char byte = interesting[next_random() % (sizeof interesting - 1)];
            switch (next_random() % 4) {
            case 0:
                text[at] = byte;
                break;
            case 1:
                memmove(text + at + 1, text + at, length++ - at);
                text[at] = byte;
                break;
            case 2:
                memmove(text + at, text + at + 1, --length - at);
                break;
            default: {
                size_t other = next_random() % length;
                char kept = text[at];
                text[at] = text[other];
                text[other] = kept;
            }
            }
        }
        wanted = reference_scan(text, length);
        if (scan(text, length, &error) != wanted)
            fail_msg("%.*s: the reference says %s, the scanner \"%s\"", (int)length, text, wanted ? "valid" : "invalid",
                     error.text);
        if (json_find_fault((struct slice){text, length}, &position, &error) == wanted)
            fail_msg("%.*s: the reference says %s, the finder of faults \"%s\"", (int)length, text,
                     wanted ? "valid" : "invalid", error.text);
        if (wanted)
            accepted++;
        else
            refused++;
    }
    assert_true(accepted > 10000 && refused > 10000); /* both results were tested often enough */
}

static void every_text_of_five_bytes_is_judged_like_by_the_reference(void **state) {
    static const char alphabet[] = "{}[]:,\"\\u01-.e ";
    char text[5];
    struct text_position position;
    struct json_value value;

    (void)state;
    for (uint32_t number = 0; number < 15 * 15 * 15 * 15 * 15; number++) {
        uint32_t rest = number;
        for (size_t i = 0; i < sizeof text; i++, rest /= 15)
            text[i] = alphabet[rest % 15];
        if (json_scan((struct slice){text, 5}, &value, NULL) != reference_scan(text, 5) ||
            json_find_fault((struct slice){text, 5}, &position, NULL) == reference_scan(text, 5))
            fail_msg("%.5s", text);
    }
}

static void an_appended_string_decodes_to_what_it_was(void **state) {
    struct buffer token = {0}, storage = {0};
    char text[100];

    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct slice original = {text, next_random() % sizeof text};
        struct json_value value;
        for (size_t i = 0; i < original.length; i++) {
            uint32_t kind = next_random();
            text[i] = kind % 5 == 0 ? "\"\\\n\x01"[kind / 5 % 4] : (char)(kind / 5 % 128);
        }
        token.length = storage.length = 0;
        json_append_string(&token, original);
        assert_true(json_scan(buffer_slice(&token), &value, NULL));
        assert_int_equal(json_decoded_length(value), original.length);
        assert_true(slice_equal(json_decode_string(value, &storage), original));
    }
    buffer_dispose(&token);
    buffer_dispose(&storage);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutated_messages_are_judged_like_by_a_naive_reference),
        cmocka_unit_test(every_text_of_five_bytes_is_judged_like_by_the_reference),
        cmocka_unit_test(an_appended_string_decodes_to_what_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
