/*
 * UTF-8 as defined by RFC 3629: no overlong forms, no surrogates, no code points above U+10FFFF. Any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

/* True if all of `text` is well-formed UTF-8. Fast on ASCII. */
bool utf8_valid(struct slice text);

/* Replaces each byte that is not part of a well-formed character by a question mark, in place. */
void utf8_mend(char *text);
