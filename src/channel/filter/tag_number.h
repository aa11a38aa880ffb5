/*
 * Numbers in the values of tags and filters.
 *
 *   number = [sign] (digits ["." [digits]] | "." digits) [("e" | "E") [sign] digits]
 *   also     [sign] ("inf" | "infinity" | "nan"), in any case
 *
 * No blanks, no hexadecimal digits, no empty text: less than strtod accepts. Any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

/* Parses all of `text`, of at most TAG_VALUE_MAX bytes (tags.h), and gives the nearest double; false if it is no
 * number.
 */
bool tag_number(struct slice text, double *number);
