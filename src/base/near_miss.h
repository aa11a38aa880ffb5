/*
 * The word that was probably meant by a misspelt one, for "did you mean ...?". Any thread.
 *
 *   struct near_miss miss = near_miss_of(SLICE("prot"));
 *   near_miss_offer(&miss, SLICE("port"));            each word that would be right
 *   if (miss.best.length > 0) ...                     the nearest of them, if one is near
 */
#pragma once

#include <stddef.h>

#include "base/slice.h"

struct near_miss {
    struct slice word;
    struct slice best; /* empty: none is near */
    size_t limit;      /* the first distance that is too large */
};

/* A search for the word. Near is one slip (a letter more, less, other, or two swapped) in a word of up to 4 letters,
 * and two in a longer one. Hyphens, underscores and the case of letters do not count. */
struct near_miss near_miss_of(struct slice word);

/* Offers a word that would be right; the first of the nearest ones is kept. Its bytes are not copied. */
void near_miss_offer(struct near_miss *miss, struct slice candidate);
