#include "convert/php_token.h"

#include <ctype.h>
#include <string.h>

#include "base/utf8.h"

static bool is_name_start(char c) {
    return isalpha((unsigned char)c) || c == '_' || c == '\\' || (unsigned char)c >= 0x80;
}

static bool is_name_part(char c) {
    return is_name_start(c) || isdigit((unsigned char)c);
}

static char byte_at(const struct php_tokens *tokens, size_t offset) {
    return (size_t)(tokens->end - tokens->at) > offset ? tokens->at[offset] : '\0';
}

static void skip_bytes(struct php_tokens *tokens, size_t count) {
    for (; count > 0 && tokens->at < tokens->end; count--)
        tokens->line += *tokens->at++ == '\n';
}

static bool skip_block_comment(struct php_tokens *tokens, struct error *error) {
    const char *close = memmem(tokens->at + 2, (size_t)(tokens->end - tokens->at - 2), "*/", 2);

    if (close == NULL)
        return error_set(error, "line %u: the end of the comment is missing", tokens->line);
    skip_bytes(tokens, (size_t)(close + 2 - tokens->at));
    return true;
}

/* A comment of one line also ends before `?>`. */
static void skip_line_comment(struct php_tokens *tokens) {
    while (tokens->at < tokens->end && *tokens->at != '\n' && !(*tokens->at == '?' && byte_at(tokens, 1) == '>'))
        tokens->at++;
}

static bool skip_php_blanks(struct php_tokens *tokens, struct error *error) {
    for (;;) {
        char c = byte_at(tokens, 0);

        if (tokens->at < tokens->end && c != '\0' && strchr(" \t\r\n\f\v", c) != NULL)
            skip_bytes(tokens, 1);
        else if ((c == '/' && byte_at(tokens, 1) == '/') || (c == '#' && byte_at(tokens, 1) != '['))
            skip_line_comment(tokens);
        else if (c != '/' || byte_at(tokens, 1) != '*')
            return true;
        else if (!skip_block_comment(tokens, error))
            return false;
    }
}

/* Reads up to `most` digits of a base after the current byte; returns the number of digits. */
static size_t read_digits(const struct php_tokens *tokens, size_t from, unsigned base, size_t most,
                          unsigned long *value) {
    static const char digits[] = "0123456789abcdef";
    size_t count = 0;

    for (*value = 0; count < most; count++) {
        char c = (char)tolower((unsigned char)byte_at(tokens, from + count));
        const char *digit = c != '\0' ? memchr(digits, c, base) : NULL;

        if (digit == NULL)
            break;
        *value = *value * base + (unsigned long)(digit - digits);
    }
    return count;
}

/* At a backslash in double quotes. An escape that PHP does not know stays as it is written. */
static void read_php_escape(struct php_tokens *tokens) {
    static const char letters[] = "nrtvef\\$\"", values[] = "\n\r\t\v\033\f\\$\"";
    char c = byte_at(tokens, 1);
    const char *letter = c != '\0' ? strchr(letters, c) : NULL;
    unsigned long code;
    char bytes[4];
    size_t digits;

    if (letter != NULL) {
        buffer_append_byte(&tokens->text, values[letter - letters]);
        skip_bytes(tokens, 2);
    } else if ((digits = read_digits(tokens, 1, 8, 3, &code)) > 0) {
        buffer_append_byte(&tokens->text, (char)code);
        skip_bytes(tokens, 1 + digits);
    } else if (c == 'x' && (digits = read_digits(tokens, 2, 16, 2, &code)) > 0) {
        buffer_append_byte(&tokens->text, (char)code);
        skip_bytes(tokens, 2 + digits);
    } else if (c == 'u' && byte_at(tokens, 2) == '{' && (digits = read_digits(tokens, 3, 16, 8, &code)) > 0 &&
               byte_at(tokens, 3 + digits) == '}' && code <= 0x10ffff) {
        buffer_append_bytes(&tokens->text, bytes, utf8_encode((uint32_t)code, bytes));
        skip_bytes(tokens, 4 + digits);
    } else {
        buffer_append_byte(&tokens->text, '\\');
        skip_bytes(tokens, 1);
    }
}

static bool read_quoted_text(struct php_tokens *tokens, struct error *error) {
    char quote = byte_at(tokens, 0);

    tokens->type = PHP_TOKEN_TEXT;
    tokens->text.length = 0;
    skip_bytes(tokens, 1);
    while (tokens->at < tokens->end && *tokens->at != quote) {
        char next = byte_at(tokens, 1);

        if (*tokens->at == '\\' && quote == '"') {
            read_php_escape(tokens);
            continue;
        }
        if (*tokens->at == '\\' && (next == '\\' || next == quote))
            skip_bytes(tokens, 1);
        else if (quote == '"' &&
                 ((*tokens->at == '$' && (is_name_start(next) || next == '{')) || (*tokens->at == '{' && next == '$')))
            tokens->type = PHP_TOKEN_TEMPLATE;
        buffer_append_byte(&tokens->text, *tokens->at);
        skip_bytes(tokens, 1);
    }
    if (tokens->at == tokens->end)
        return error_set(error, "line %u: the closing quote is missing", tokens->token_line);
    skip_bytes(tokens, 1);
    return true;
}

/* Digits with `_`, a fraction, an exponent, or a base: php_array.c finds out whether it is a number. */
static void read_php_number(struct php_tokens *tokens) {
    tokens->type = PHP_TOKEN_NUMBER;
    while (tokens->at < tokens->end) {
        char c = *tokens->at;
        bool sign = (c == '+' || c == '-') && (tokens->at[-1] == 'e' || tokens->at[-1] == 'E') &&
                    !slice_starts_with(tokens->source, SLICE("0x"));

        if (!isalnum((unsigned char)c) && c != '_' && !sign &&
            !(c == '.' && isdigit((unsigned char)byte_at(tokens, 1))))
            return;
        tokens->at++;
        tokens->source.length++;
    }
}

static void read_sign(struct php_tokens *tokens) {
    struct slice rest = {tokens->at, (size_t)(tokens->end - tokens->at)};
    size_t length = slice_starts_with(rest, SLICE("...")) ? 3 : 1;

    if (slice_starts_with(rest, SLICE("=>")) || slice_starts_with(rest, SLICE("::")) ||
        slice_starts_with(rest, SLICE("->")))
        length = 2;
    tokens->type = PHP_TOKEN_SIGN;
    skip_bytes(tokens, length);
}

bool php_tokens_next(struct php_tokens *tokens, struct error *error) {
    char c;

    if (!skip_php_blanks(tokens, error))
        return false;
    tokens->token_line = tokens->line;
    tokens->source = (struct slice){tokens->at, 0};
    c = byte_at(tokens, 0);
    if (tokens->at == tokens->end || (c == '?' && byte_at(tokens, 1) == '>')) {
        tokens->type = PHP_TOKEN_END;
        tokens->at = tokens->end;
        return true;
    }
    if (c == '\'' || c == '"') {
        if (!read_quoted_text(tokens, error))
            return false;
    } else if (isdigit((unsigned char)c)) {
        read_php_number(tokens);
    } else if (is_name_start(c) || (c == '$' && is_name_start(byte_at(tokens, 1)))) {
        tokens->type = c == '$' ? PHP_TOKEN_VARIABLE : PHP_TOKEN_NAME;
        do
            tokens->at++;
        while (tokens->at < tokens->end && is_name_part(*tokens->at));
    } else if (c == '<' && byte_at(tokens, 1) == '<' && byte_at(tokens, 2) == '<') {
        return error_set(error, "line %u: a text that begins with <<< is not read: put it in quotes", tokens->line);
    } else if (c == '`') {
        return error_set(error, "line %u: a shell command in back quotes is not read", tokens->line);
    } else {
        read_sign(tokens);
    }
    tokens->source.length = (size_t)(tokens->at - tokens->source.data);
    return true;
}

bool php_tokens_start(struct php_tokens *tokens, struct slice file, struct error *error) {
    *tokens = (struct php_tokens){.line = 1};
    file = utf8_without_mark(file);
    if (!slice_starts_with(file, SLICE("<?php")))
        return error_set(error, "line 1: a PHP file begins with <?php");
    tokens->at = file.data + 5;
    tokens->end = file.data + file.length;
    return php_tokens_next(tokens, error);
}

void php_tokens_dispose(struct php_tokens *tokens) {
    if (tokens->text.data != NULL)
        explicit_bzero(tokens->text.data, tokens->text.capacity); /* it may be a secret */
    buffer_dispose(&tokens->text);
}

bool php_tokens_return(struct php_tokens *tokens, const struct php_tokens *before, struct error *error) {
    tokens->at = before->source.data;
    tokens->line = before->token_line;
    return php_tokens_next(tokens, error);
}

bool php_token_is(const struct php_tokens *tokens, const char *word) {
    return (tokens->type == PHP_TOKEN_SIGN || tokens->type == PHP_TOKEN_NAME) &&
           slice_equal_ignoring_case(tokens->source, slice_of(word));
}
