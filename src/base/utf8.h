/*
 * UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

/* True if all of `text` is well-formed UTF-8. Fast on ASCII. */
bool utf8_valid(struct slice text);

/* Puts a question mark in place of each byte that belongs to no well-formed character. */
void utf8_mend(char *text);
