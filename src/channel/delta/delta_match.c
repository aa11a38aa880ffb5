#include "channel/delta/delta_match.h"

#include <stdlib.h>

/* Places of the index that fit on the stack. */
#define SLOTS_INLINE 4096
/* Places are 16-bit numbers, and 0 is none. A step that is not full adds one place for the base and one for the target.
 */
#define SLOTS_MAX 65533
#define BUCKET_BITS_MIN 8
#define BUCKET_BITS_MAX 16

/* Longer keys find fewer false candidates in a large text. */
#define LARGE_TEXT 32768
#define LARGE_KEY 8

/* The base is indexed this far around the part that changed, plus this many times the length of the new part. */
#define WINDOW_MIN 256
#define WINDOW_FACTOR 4

/* Candidates compared for one place of the target, and on average for the places that were looked up. */
#define CANDIDATES_MAX 64
#define CANDIDATES_MEAN 16
/* The same for each byte of the target that is behind the search, beyond those of a small text. Then one is compared.
 */
#define CANDIDATES_FREE 512
#define CANDIDATES_PER_BYTE 3
/* For each byte of both texts, beyond the same. Then the search ends, and the rest is literal. */
#define CANDIDATES_IN_ALL 2
/* Comparing so many bytes takes as long as coming to a candidate. */
#define BYTES_PER_CANDIDATE 32

/* A match this long is taken without a look whether the next place has a longer one. */
#define LAZY_LENGTH 32
/* After a copy this long, text goes on at the same distance, or one byte off where a number got longer or shorter. */
#define LONG_LENGTH 32
/* A copy this long is not taken back for one that covers it. */
#define REPLACED_LENGTH 64
/* After so many places without a match, fewer places are looked up. */
#define MISSES_SHIFT 8
/* Literal bytes beyond the limit that a later copy might still cover. */
#define LIMIT_SLACK 1024

struct matcher {
    struct slice base, target;
    uint32_t start, end;            /* the part of the target that is searched for copies */
    uint32_t window, window_length; /* the part of the base that is indexed */
    uint32_t step;                  /* every step-th place is indexed */
    uint32_t base_slots;
    uint32_t max_slots; /* without the two of steps that are not full */
    unsigned key_bytes, bucket_bits;
    bool from_target;
    uint32_t spare;    /* a copy that would be left with so few bytes is not worth its command */
    uint16_t *buckets; /* by hash of the key: the last place that was added */
    uint16_t *chain;   /* by place: the one added before it in the same bucket */
    int64_t distance;  /* of the last copy: from - target */
    int64_t trunk;     /* the same of the last long copy */
    size_t covered;    /* bytes of the target in copies */
    struct delta_copies *copies;
    struct delta_match_work work;
};

/* ---- bytes ---- */

static inline uint64_t load_word(const char *at) {
    uint64_t word;

    memcpy(&word, at, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static size_t common_prefix(const char *a, const char *b, size_t max) {
    size_t length = 0;

    for (; max - length >= 8; length += 8) {
        uint64_t difference = load_word(a + length) ^ load_word(b + length);
        if (difference != 0)
            return length + (size_t)__builtin_ctzll(difference) / 8;
    }
    while (length < max && a[length] == b[length])
        length++;
    return length;
}

/* `a` and `b` are the ends of the texts. */
static size_t common_suffix(const char *a, const char *b, size_t max) {
    size_t length = 0;

    for (; max - length >= 8; length += 8) {
        uint64_t difference = load_word(a - length - 8) ^ load_word(b - length - 8);
        if (difference != 0)
            return length + (size_t)__builtin_clzll(difference) / 8;
    }
    while (length < max && a[-1 - (ptrdiff_t)length] == b[-1 - (ptrdiff_t)length])
        length++;
    return length;
}

/* ---- the list ---- */

static bool copies_add(struct delta_copies *copies, struct delta_copy copy) {
    if (copies->count == copies->capacity) {
        size_t capacity = copies->capacity * 2;
        bool few = copies->list == copies->few;
        struct delta_copy *larger = realloc(few ? NULL : copies->list, capacity * sizeof *larger);
        if (larger == NULL)
            return false;
        if (few)
            memcpy(larger, copies->few, sizeof copies->few);
        copies->list = larger;
        copies->capacity = capacity;
    }
    copies->list[copies->count++] = copy;
    return true;
}

void delta_copies_dispose(struct delta_copies *copies) {
    if (copies->list != copies->few)
        free(copies->list);
}

static uint32_t copies_end(const struct delta_copies *copies) {
    const struct delta_copy *last;

    if (copies->count == 0)
        return 0;
    last = copies->list + copies->count - 1;
    return last->target + last->length;
}

/* ---- the index ---- */

/* The key at `at`, of which key_bytes can be read. */
static inline uint64_t key_at(const struct matcher *matcher, const char *at) {
    uint32_t low;
    uint16_t high;

    if (matcher->key_bytes == 8)
        return load_word(at);
    memcpy(&low, at, sizeof low);
    if (matcher->key_bytes < 6)
        return low;
    memcpy(&high, at + sizeof low, sizeof high);
    return low | (uint64_t)high << 32;
}

static inline size_t key_bucket(const struct matcher *matcher, const char *at) {
    return (size_t)((key_at(matcher, at) * 0x9e3779b97f4a7c15u) >> (64 - matcher->bucket_bits));
}

static inline void index_add(struct matcher *matcher, const char *at, uint32_t slot) {
    uint16_t *bucket = matcher->buckets + key_bucket(matcher, at);

    matcher->chain[slot] = *bucket;
    *bucket = (uint16_t)slot;
}

static void index_base(struct matcher *matcher) {
    uint32_t slot = 0, length = matcher->window_length, step = matcher->step;

    for (uint32_t at = 0; at + matcher->key_bytes <= length; at += step)
        index_add(matcher, matcher->base.data + matcher->window + at, ++slot);
    matcher->base_slots = slot;
    matcher->work.indexed = slot;
}

/* Adds a place of the target, which is at least key_bytes before its end. */
static void index_target(struct matcher *matcher, uint32_t at) {
    uint32_t offset = at - matcher->start;

    if (matcher->step != 1 && offset % matcher->step != 0)
        return;
    index_add(matcher, matcher->target.data + at, matcher->base_slots + 1 + offset / matcher->step);
    matcher->work.indexed++;
}

static inline uint32_t place_of(const struct matcher *matcher, uint32_t slot) {
    if (slot <= matcher->base_slots)
        return matcher->window + (slot - 1) * matcher->step;
    return (uint32_t)matcher->base.length + matcher->start + (slot - 1 - matcher->base_slots) * matcher->step;
}

/* ---- matches ---- */

/* The bytes of a longer match than one of `length` that are compared first: they end with the one behind that. */
#define CHECKED 4

static inline bool may_be_longer(const char *source, const char *text, uint32_t length) {
    size_t at = length < CHECKED ? 0 : length + 1 - CHECKED;
    uint32_t a, b;

    memcpy(&a, source + at, sizeof a);
    memcpy(&b, text + at, sizeof b);
    return a == b;
}

/* Makes `best` the match of the target at best->target with `from` if that is longer. */
static inline void try_candidate(struct matcher *matcher, uint32_t from, struct delta_copy *best) {
    const char *text = matcher->target.data + best->target, *source;
    size_t room = matcher->target.length - best->target, length;

    matcher->work.compared++;
    if (from < matcher->base.length) {
        source = matcher->base.data + from;
        if (room > matcher->base.length - from)
            room = matcher->base.length - from;
    } else {
        source = matcher->target.data + (from - matcher->base.length);
    }
    if (room <= best->length || room < CHECKED || !may_be_longer(source, text, best->length))
        return;
    length = common_prefix(source, text, room);
    matcher->work.compared += length / BYTES_PER_CANDIDATE;
    if (length > best->length) {
        best->from = from;
        best->length = (uint32_t)length;
    }
}

/* Tries the place of the base that is `distance` from the place in the target, if there is one. */
static inline void try_distance(struct matcher *matcher, int64_t distance, struct delta_copy *best) {
    int64_t from = (int64_t)best->target + distance;

    if (from >= 0 && from < (int64_t)matcher->base.length)
        try_candidate(matcher, (uint32_t)from, best);
}

/* How many candidates are compared for the next place, which is `done` bytes from the start of the search. */
static unsigned candidates_for(struct matcher *matcher, size_t done) {
    size_t by_places = CANDIDATES_MAX + CANDIDATES_MEAN * ++matcher->work.searched;
    size_t by_bytes = CANDIDATES_FREE + CANDIDATES_PER_BYTE * done;

    return matcher->work.compared < by_places && matcher->work.compared < by_bytes ? CANDIDATES_MAX : 1;
}

/* Returns the longest match found for the target at `at`. Its length may be 0. */
static struct delta_copy find_match(struct matcher *matcher, uint32_t at) {
    struct delta_copy best = {.target = at};
    unsigned left = candidates_for(matcher, at - matcher->start);

    try_distance(matcher, matcher->distance, &best);
    if (matcher->trunk != matcher->distance)
        try_distance(matcher, matcher->trunk, &best);
    try_distance(matcher, matcher->trunk + 1, &best);
    try_distance(matcher, matcher->trunk - 1, &best);
    for (uint32_t slot = matcher->buckets[key_bucket(matcher, matcher->target.data + at)]; slot != 0 && left != 0;
         left--) {
        try_candidate(matcher, place_of(matcher, slot), &best);
        slot = matcher->chain[slot];
    }
    if (best.length < matcher->key_bytes)
        best.length = 0;
    return best;
}

/* How far the bytes before the copy are equal, too, at most `max`. */
static uint32_t equal_before(const struct matcher *matcher, const struct delta_copy *copy, uint32_t max) {
    bool in_base = copy->from < matcher->base.length;
    uint32_t offset = in_base ? copy->from : copy->from - (uint32_t)matcher->base.length;
    const char *source = in_base ? matcher->base.data : matcher->target.data;

    return (uint32_t)common_suffix(source + offset, matcher->target.data + copy->target, max < offset ? max : offset);
}

static void move_start(struct delta_copy *copy, uint32_t back) {
    copy->target -= back;
    copy->from -= back;
    copy->length += back;
}

/* Adds the copy, extended to the left. Takes short copies before it back if it covers them but for a byte or two, which
 * cost less as literals. */
static bool take_match(struct matcher *matcher, struct delta_copy copy) {
    struct delta_copies *copies = matcher->copies;

    for (;;) {
        const struct delta_copy *last;
        uint32_t covers;
        move_start(&copy, equal_before(matcher, &copy, copy.target - copies_end(copies)));
        if (copies->count == 0)
            break;
        last = copies->list + copies->count - 1;
        if (copy.target != last->target + last->length || last->length > REPLACED_LENGTH)
            break;
        covers = equal_before(matcher, &copy, last->length);
        if (covers + matcher->spare < last->length)
            break;
        move_start(&copy, covers);
        matcher->covered -= last->length;
        copies->count--;
    }
    matcher->covered += copy.length;
    matcher->distance = (int64_t)copy.from - copy.target;
    if (copy.length >= LONG_LENGTH)
        matcher->trunk = matcher->distance;
    return copies_add(copies, copy);
}

/* Searches the part between the common beginning and end. False if it gave up or memory ran out. */
static bool search_middle(struct matcher *matcher, size_t limit) {
    size_t most = CANDIDATES_FREE + CANDIDATES_IN_ALL * (matcher->base.length + matcher->target.length);
    uint32_t at = matcher->start, misses = 0;

    while (at < matcher->end && at + matcher->key_bytes <= matcher->target.length && matcher->work.compared < most) {
        struct delta_copy found = find_match(matcher, at);
        if (matcher->from_target)
            index_target(matcher, at);
        if (found.length == 0) {
            at += 1 + (misses++ >> MISSES_SHIFT);
        } else {
            if (found.length < LAZY_LENGTH && at + 1 + matcher->key_bytes <= matcher->target.length) {
                struct delta_copy later = find_match(matcher, at + 1);
                if (later.length > found.length + 1)
                    found = later;
            }
            if (!take_match(matcher, found))
                return false;
            at = found.target + found.length;
            misses = 0;
        }
        if (at - matcher->covered > limit + LIMIT_SLACK)
            return false;
    }
    return true;
}

/* Decides what is indexed: `prefix` bytes at the beginning and `suffix` at the end are common. */
static void choose_window(struct matcher *matcher, uint32_t prefix, uint32_t suffix) {
    uint32_t base_length = (uint32_t)matcher->base.length, middle = matcher->end - matcher->start, places;
    uint64_t around = WINDOW_MIN + (uint64_t)WINDOW_FACTOR * middle;
    uint32_t end = suffix <= around ? base_length : base_length - suffix + (uint32_t)around;

    matcher->window = prefix <= around ? 0 : prefix - (uint32_t)around;
    matcher->window_length = end - matcher->window;
    places = matcher->window_length + (matcher->from_target ? middle : 0);
    if (places > LARGE_TEXT)
        matcher->key_bytes = LARGE_KEY;
    matcher->step = 1 + places / matcher->max_slots;
    matcher->bucket_bits = BUCKET_BITS_MIN;
    while (matcher->bucket_bits < BUCKET_BITS_MAX && 1u << matcher->bucket_bits < places / matcher->step)
        matcher->bucket_bits++;
}

/* The places of so many bytes of a text in the index. */
static size_t slots_for(const struct matcher *matcher, size_t length) {
    return (length + matcher->step - 1) / matcher->step;
}

/* The search with an index that is made for it and forgotten. */
static bool search_with_index(struct matcher *matcher, size_t limit) {
    uint16_t few[2 * SLOTS_INLINE + 2], *memory = few;
    size_t buckets = (size_t)1 << matcher->bucket_bits;
    size_t slots = 1 + slots_for(matcher, matcher->window_length); /* with the number 0 */
    bool good;

    if (matcher->from_target)
        slots += slots_for(matcher, matcher->end - matcher->start);
    /* With a bound of its own it is never on the stack: the sanitizer sees its end only on the heap. */
    if (buckets + slots > sizeof few / sizeof few[0] || matcher->max_slots != SLOTS_MAX) {
        memory = malloc((buckets + slots) * sizeof *memory);
        if (memory == NULL)
            return false;
    }
    memset(memory, 0, buckets * sizeof *memory);
    matcher->buckets = memory;
    matcher->chain = memory + buckets;
    index_base(matcher);
    good = search_middle(matcher, limit);
    matcher->buckets = matcher->chain = NULL;
    if (memory != few)
        free(memory);
    return good;
}

bool delta_match(struct slice base, struct slice target, const struct delta_match_settings *settings,
                 struct delta_copies *copies, struct delta_match_work *work) {
    struct matcher matcher = {.base = base, .target = target, .copies = copies};
    size_t shorter = base.length < target.length ? base.length : target.length;
    uint32_t prefix = 0, suffix = 0, end;
    bool good = true;

    copies->list = copies->few;
    copies->count = 0;
    copies->capacity = DELTA_COPIES_INLINE;
    if (work != NULL)
        *work = matcher.work;
    if (base.length > DELTA_TEXT_MAX || target.length > DELTA_TEXT_MAX)
        return false;
    if (shorter != 0) {
        prefix = (uint32_t)common_prefix(base.data, target.data, shorter);
        suffix = (uint32_t)common_suffix(base.data + base.length, target.data + target.length, shorter - prefix);
    }
    if (prefix != 0)
        take_match(&matcher, (struct delta_copy){.length = prefix});
    matcher.start = prefix;
    matcher.end = (uint32_t)target.length - suffix;
    matcher.key_bytes = settings->shortest;
    matcher.from_target = settings->from_target;
    matcher.max_slots = settings->max_places != 0 ? settings->max_places : SLOTS_MAX;
    matcher.spare = (settings->shortest - 1) / 2;
    if (matcher.end - matcher.start >= settings->shortest) {
        choose_window(&matcher, prefix, suffix);
        good = search_with_index(&matcher, settings->limit);
    }
    end = copies_end(copies);
    if (end < matcher.end)
        end = matcher.end;
    if (good && end < target.length) {
        uint32_t length = (uint32_t)target.length - end;
        good = take_match(&matcher, (struct delta_copy){end, (uint32_t)base.length - length, length});
    }
    if (work != NULL)
        *work = matcher.work;
    return good;
}
