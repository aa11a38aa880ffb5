/*
 * The tokens of a PHP configuration file: what php_array.c needs of the language.
 *
 * The text between `<?php` and `?>` becomes names, variables, numbers, texts and signs; comments are skipped. Nothing
 * is executed.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/slice.h"

enum php_token_type {
    PHP_TOKEN_END,
    PHP_TOKEN_NAME,     /* true, env, \Foo\Bar */
    PHP_TOKEN_VARIABLE, /* $name */
    PHP_TOKEN_NUMBER,
    PHP_TOKEN_TEXT,     /* a quoted text; decoded in `text` */
    PHP_TOKEN_TEMPLATE, /* a double-quoted text that holds a variable */
    PHP_TOKEN_SIGN,     /* "=>", "::", "..." or one byte */
};

/* A position in the file and the token there. */
struct php_tokens {
    const char *at, *end;
    unsigned line;            /* of `at` */
    enum php_token_type type; /* of the current token */
    struct slice source;      /* its bytes in the file */
    unsigned token_line;      /* the line on which it begins */
    struct buffer text;       /* of a PHP_TOKEN_TEXT */
};

/* Starts at `<?php` and reads the first token. False with an error that names the line. */
bool php_tokens_start(struct php_tokens *tokens, struct slice file, struct error *error);

void php_tokens_dispose(struct php_tokens *tokens);

/* Reads the next token. */
bool php_tokens_next(struct php_tokens *tokens, struct error *error);

/* Returns to the token that `before`, a copy of the structure, was at. */
bool php_tokens_return(struct php_tokens *tokens, const struct php_tokens *before, struct error *error);

/* True if the current token is this sign, or this name in any case. */
bool php_token_is(const struct php_tokens *tokens, const char *word);
