/*
 * What two texts have in common: the matcher of both delta encoders.
 *
 * It gives a list of copies that cover a target from left to right; what lies between them is literal. The encoders
 * drop copies that cost more bytes than they save, because that depends on the format.
 *
 * The common beginning and end come first. Only what lies between them is searched, in a hash index of the base around
 * the same place, so that a small change in a large document costs little. Time and memory are linear in the length of
 * the texts whatever they contain: the index has at most 65,535 places, a larger base is indexed at every n-th place,
 * and the candidates that are compared are counted: over a bound the rest of the target is literal. Texts of a few KB
 * need no allocation.
 *
 * Pure functions, for any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

/* `length` bytes of the target at `target` are those at `from`: an offset in the base or, from base.length on, the
 * length of the base plus an offset in the target. Copies never overlap in the target; one from the target may overlap
 * itself.
 */
struct delta_copy {
    uint32_t target;
    uint32_t from;
    uint32_t length;
};

#define DELTA_COPIES_INLINE 64

/* A list of copies, by their place in the target. `list` points to `few` until there are more. */
struct delta_copies {
    struct delta_copy *list;
    size_t count;
    size_t capacity;
    struct delta_copy few[DELTA_COPIES_INLINE];
};

struct delta_match_settings {
    unsigned shortest; /* the shortest copy that is looked for: 4 to 8 bytes */
    bool from_target;  /* copies from the target are possible, too */
    size_t limit;      /* give up when more than about so many bytes are literal */
    /* Places of the index, for tests, which need no large texts then; 0: as many as there can be. */
    uint16_t max_places;
};

/* The longest text that the matcher takes. */
#define DELTA_TEXT_MAX 0x3fffffff

/* What the search did. */
struct delta_match_work {
    size_t indexed;  /* places in the index */
    size_t searched; /* places of the target that were looked up */
    size_t compared; /* candidates that were compared; long ones count more than once */
};

/* The time of it, as bytes of JSON that are parsed meanwhile. */
static inline size_t delta_match_time(const struct delta_match_work *work) {
    return work->indexed / 8 + work->searched + work->compared;
}

/* Fills `copies` (not initialised before) and `work`. False if it gave up, a text is too long or memory ran out. In
 * both cases the caller disposes of the list. `work` may be NULL. */
bool delta_match(struct slice base, struct slice target, const struct delta_match_settings *settings,
                 struct delta_copies *copies, struct delta_match_work *work);

void delta_copies_dispose(struct delta_copies *copies);
