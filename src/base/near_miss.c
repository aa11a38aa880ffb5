#include "base/near_miss.h"

#include <ctype.h>

/* Longer words are not compared: the cost is the product of the lengths. */
#define LONGEST_NAME 64

/* The word in lower case without underscores and hyphens, in `folded`: maxConnections is max_connections. */
static struct slice fold_word(struct slice word, char folded[LONGEST_NAME]) {
    size_t length = 0;

    for (size_t i = 0; i < word.length; i++)
        if (word.data[i] != '_' && word.data[i] != '-')
            folded[length++] = (char)tolower((unsigned char)word.data[i]);
    return (struct slice){folded, length};
}

static size_t least_of(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours that make `a` from
 * `b`, folded. */
static size_t edit_distance(struct slice a, struct slice b) {
    char folded_a[LONGEST_NAME], folded_b[LONGEST_NAME];
    size_t rows[3][LONGEST_NAME + 1];

    if (a.length > LONGEST_NAME || b.length > LONGEST_NAME)
        return LONGEST_NAME;
    a = fold_word(a, folded_a);
    b = fold_word(b, folded_b);
    for (size_t j = 0; j <= b.length; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a.length; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        char c = a.data[i - 1];

        row[0] = i;
        for (size_t j = 1; j <= b.length; j++) {
            row[j] = least_of(least_of(above[j], row[j - 1]) + 1, above[j - 1] + (c != b.data[j - 1]));
            if (i > 1 && j > 1 && c == b.data[j - 2] && a.data[i - 2] == b.data[j - 1])
                row[j] = least_of(row[j], before[j - 2] + 1);
        }
    }
    return rows[a.length % 3][b.length];
}

struct near_miss near_miss_of(struct slice word) {
    return (struct near_miss){.word = word, .limit = word.length > 4 ? 3 : 2};
}

void near_miss_offer(struct near_miss *miss, struct slice candidate) {
    size_t slips = edit_distance(miss->word, candidate);

    if (slips < miss->limit) {
        miss->limit = slips;
        miss->best = candidate;
    }
}
