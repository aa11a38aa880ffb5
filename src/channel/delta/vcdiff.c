#include "channel/delta/vcdiff.h"

#include <stdint.h>

/* The shortest copy that has an instruction of one byte. */
#define SHORTEST_COPY 4

/* Win_Indicator: the window has a source segment. */
#define VCD_SOURCE 1

/* Modes of an address (section 5.3): VCD_SELF and VCD_HERE, then the near cache, then the same cache. */
enum { MODE_SELF, MODE_HERE, MODE_NEAR, MODE_SAME = 6, MODES = 9 };
#define NEAR_SIZE (MODE_SAME - MODE_NEAR)
#define SAME_SIZE ((MODES - MODE_SAME) * 256)

/* First opcodes of the default code table (section 5.6). */
#define OPCODE_ADD 1        /* of 1 to 17 bytes: the next ones */
#define OPCODE_COPY 19      /* of 4 to 18 bytes: the next ones; 16 for each mode */
#define OPCODE_ADD_COPY 163 /* ADD of 1 to 4 and COPY of 4 to 6 bytes; 12 for each mode before MODE_SAME */
#define OPCODE_ADD_SAME 235 /* ADD of 1 to 4 and COPY of 4 bytes; 4 for each mode from MODE_SAME on */
#define OPCODE_COPY_ADD 247 /* COPY of 4 bytes and ADD of 1; one for each mode */
#define ADD_MAX 17
#define COPY_MAX 18
#define JOINED_ADD_MAX 4
#define JOINED_COPY_MAX 6

struct address_cache {
    uint32_t near[NEAR_SIZE];
    uint32_t same[SAME_SIZE];
    unsigned next;
};

struct address {
    unsigned mode;
    uint32_t value;
    size_t bytes;
};

/* Bytes that are counted, and also written if `data` is set. */
struct section {
    char *data;
    size_t length;
};

struct window {
    struct section data, instructions, addresses;
    struct address_cache cache;
    int held; /* the mode of a COPY of 4 bytes whose opcode is not written yet; -1: none */
};

static inline size_t bytes_of_number(uint32_t number) {
    return number < 128 ? 1 : (38 - (size_t)__builtin_clz(number)) / 7;
}

static void put_byte(struct section *section, unsigned byte) {
    if (section->data != NULL)
        section->data[section->length] = (char)byte;
    section->length++;
}

/* Section 2: base 128, high digits first, and a set high bit in all but the last one. */
static void put_number(struct section *section, uint32_t number) {
    for (size_t left = bytes_of_number(number); left-- > 0;)
        put_byte(section, (number >> 7 * left & 127) | (left != 0 ? 128 : 0));
}

/* ---- addresses (section 5) ---- */

static struct address shortest_address(const struct address_cache *cache, uint32_t from, uint32_t here) {
    struct address best = {MODE_SELF, from, bytes_of_number(from)};

    if (here - from < from)
        best = (struct address){MODE_HERE, here - from, bytes_of_number(here - from)};
    for (unsigned i = 0; i < NEAR_SIZE && best.bytes > 1; i++) {
        if (from >= cache->near[i] && bytes_of_number(from - cache->near[i]) < best.bytes)
            best = (struct address){MODE_NEAR + i, from - cache->near[i], bytes_of_number(from - cache->near[i])};
    }
    if (best.bytes > 1 && cache->same[from % SAME_SIZE] == from)
        best = (struct address){MODE_SAME + from % SAME_SIZE / 256, from % 256, 1};
    return best;
}

static void remember_address(struct address_cache *cache, uint32_t from) {
    cache->near[cache->next] = from;
    cache->next = (cache->next + 1) % NEAR_SIZE;
    cache->same[from % SAME_SIZE] = from;
}

/* ---- which copies save bytes ---- */

static bool joins_add(uint32_t literal, uint32_t copy, unsigned mode) {
    return literal >= 1 && literal <= JOINED_ADD_MAX && copy >= SHORTEST_COPY &&
           copy <= (mode < MODE_SAME ? JOINED_COPY_MAX : SHORTEST_COPY);
}

/* The bytes of an ADD and its literal. */
static size_t add_cost(uint32_t length) {
    return length == 0 ? 0 : 1 + length + (length > ADD_MAX ? bytes_of_number(length) : 0);
}

/* The bytes of a COPY between two literals: less if it shares its opcode with one of them. */
static size_t copy_cost_between(uint32_t before, uint32_t length, uint32_t after, const struct address *address) {
    bool joined = joins_add(before, length, address->mode) || (length == SHORTEST_COPY && after == 1);
    bool sized = length < SHORTEST_COPY || length > COPY_MAX;

    return address->bytes + (joined ? 0 : 1) + (sized ? bytes_of_number(length) : 0);
}

/* Keeps the copies that save bytes, and returns the length of the source segment that they need. */
static uint32_t keep_vcdiff_copies(struct delta_copies *copies, struct address_cache *cache, size_t base_length,
                                   size_t target_length) {
    uint32_t end = 0, segment = 0;
    size_t kept = 0;

    for (size_t i = 0; i < copies->count; i++) {
        struct delta_copy copy = copies->list[i];
        uint32_t next = i + 1 < copies->count ? copies->list[i + 1].target : (uint32_t)target_length;
        uint32_t before = copy.target - end, after = next - copy.target - copy.length;
        struct address address = shortest_address(cache, copy.from, (uint32_t)base_length + copy.target);
        if (add_cost(before) + copy_cost_between(before, copy.length, after, &address) + add_cost(after) >=
            add_cost(next - end))
            continue;
        remember_address(cache, copy.from);
        end = copy.target + copy.length;
        if (copy.from < base_length && copy.from + copy.length > segment)
            segment = copy.from + copy.length;
        copies->list[kept++] = copy;
    }
    copies->count = kept;
    return segment;
}

/* ---- the sections of a window (section 4.3) ---- */

static void release_held(struct window *window) {
    if (window->held >= 0)
        put_byte(&window->instructions, (unsigned)(OPCODE_COPY + 16 * window->held + 1));
    window->held = -1;
}

static void put_add(struct window *window, uint32_t length) {
    if (length == 0)
        return;
    if (length == 1 && window->held >= 0) {
        put_byte(&window->instructions, (unsigned)(OPCODE_COPY_ADD + window->held));
        window->held = -1;
        return;
    }
    release_held(window);
    put_byte(&window->instructions, length <= ADD_MAX ? OPCODE_ADD + length : OPCODE_ADD);
    if (length > ADD_MAX)
        put_number(&window->instructions, length);
}

static void put_copy(struct window *window, uint32_t length, unsigned mode) {
    unsigned opcode = OPCODE_COPY + 16 * mode;

    release_held(window);
    if (length == SHORTEST_COPY) {
        window->held = (int)mode;
    } else if (length > SHORTEST_COPY && length <= COPY_MAX) {
        put_byte(&window->instructions, opcode + length - SHORTEST_COPY + 1);
    } else {
        put_byte(&window->instructions, opcode);
        put_number(&window->instructions, length);
    }
}

/* An ADD and a COPY with one opcode. */
static void put_add_and_copy(struct window *window, uint32_t literal, uint32_t length, unsigned mode) {
    release_held(window);
    if (mode < MODE_SAME)
        put_byte(&window->instructions, OPCODE_ADD_COPY + 12 * mode + 3 * (literal - 1) + length - SHORTEST_COPY);
    else
        put_byte(&window->instructions, OPCODE_ADD_SAME + 4 * (mode - MODE_SAME) + literal - 1);
}

static void put_literal(struct window *window, struct slice target, uint32_t start, uint32_t end) {
    if (window->data.data != NULL && end != start)
        memcpy(window->data.data + window->data.length, target.data + start, end - start);
    window->data.length += end - start;
}

/* Puts all into the sections. `segment` bytes of the base are the source segment. */
static void put_copies(struct window *window, const struct delta_copies *copies, struct slice target,
                       size_t base_length, uint32_t segment) {
    uint32_t end = 0;

    memset(&window->cache, 0, sizeof window->cache);
    window->held = -1;
    for (const struct delta_copy *copy = copies->list; copy < copies->list + copies->count; copy++) {
        uint32_t from = copy->from < base_length ? copy->from : copy->from - (uint32_t)base_length + segment;
        uint32_t literal = copy->target - end;
        struct address address = shortest_address(&window->cache, from, segment + copy->target);
        put_literal(window, target, end, copy->target);
        if (joins_add(literal, copy->length, address.mode) && !(literal == 1 && window->held >= 0)) {
            put_add_and_copy(window, literal, copy->length, address.mode);
        } else {
            put_add(window, literal);
            put_copy(window, copy->length, address.mode);
        }
        if (address.mode >= MODE_SAME)
            put_byte(&window->addresses, address.value);
        else
            put_number(&window->addresses, address.value);
        remember_address(&window->cache, from);
        end = copy->target + copy->length;
    }
    put_literal(window, target, end, (uint32_t)target.length);
    put_add(window, (uint32_t)target.length - end);
    release_held(window);
}

/* Puts the headers, and gives the sections their places behind them; their lengths are known. */
static void put_headers(struct section *out, struct window *window, size_t target_length, uint32_t segment) {
    static const char file_header[] = {(char)0xd6, (char)0xc3, (char)0xc4, 0, 0};
    struct section *sections[] = {&window->data, &window->instructions, &window->addresses};
    size_t length = bytes_of_number((uint32_t)target_length) + 1;

    for (size_t i = 0; i < sizeof file_header; i++)
        put_byte(out, (unsigned char)file_header[i]);
    put_byte(out, segment != 0 ? VCD_SOURCE : 0);
    if (segment != 0) {
        put_number(out, segment);
        put_number(out, 0); /* its place in the base */
    }
    for (size_t i = 0; i < 3; i++)
        length += bytes_of_number((uint32_t)sections[i]->length) + sections[i]->length;
    put_number(out, (uint32_t)length);
    put_number(out, (uint32_t)target_length);
    put_byte(out, 0); /* Delta_Indicator */
    for (size_t i = 0; i < 3; i++)
        put_number(out, (uint32_t)sections[i]->length);
    for (size_t i = 0; i < 3; i++) {
        if (out->data != NULL)
            sections[i]->data = out->data + out->length;
        out->length += sections[i]->length;
        if (out->data != NULL)
            sections[i]->length = 0;
    }
}

bool vcdiff_encode(struct slice base, struct slice target, size_t limit, struct buffer *out,
                   struct delta_match_work *work) {
    struct delta_match_settings settings = {.shortest = SHORTEST_COPY, .from_target = true, .limit = limit};
    struct window window = {.held = -1};
    struct section size = {0}, written;
    struct delta_copies copies;
    bool good = delta_match(base, target, &settings, &copies, work);

    if (good) {
        uint32_t segment = keep_vcdiff_copies(&copies, &window.cache, base.length, target.length);
        put_copies(&window, &copies, target, base.length, segment); /* only counts */
        put_headers(&size, &window, target.length, segment);
        good = size.length < limit && buffer_try_reserve(out, size.length);
        if (good) {
            written = (struct section){out->data + out->length, 0};
            put_headers(&written, &window, target.length, segment);
            put_copies(&window, &copies, target, base.length, segment);
            out->length += size.length;
        }
    }
    delta_copies_dispose(&copies);
    return good;
}
