/*
 * Numbers in the values of tags and filters.
 *
 *   number = [sign] (digits ["." [digits]] | "." digits) [("e" | "E") [sign] digits]
 *   also     [sign] ("inf" | "infinity" | "nan"), in any case
 *
 * No blanks, no hexadecimal digits, no empty text, and at most TAG_NUMBER_MAX characters: less than strtod accepts,
 * which needs long for many digits. Any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

#define TAG_NUMBER_MAX 64 /* characters, the sign too */

/* Parses all of `text` and gives the nearest double; false if it is no number. */
bool tag_number(struct slice text, double *number);
