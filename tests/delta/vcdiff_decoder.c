#include "vcdiff_decoder.h"

#include <stdint.h>

/* A target larger than this is not decoded. */
#define TARGET_MAX 0x4000000

enum kind { NOOP, ADD, RUN, COPY };

struct half {
    enum kind kind;
    unsigned size, mode;
};

struct reader {
    const unsigned char *at, *end;
    bool failed;
};

static unsigned read_byte(struct reader *reader) {
    if (reader->at == reader->end) {
        reader->failed = true;
        return 0;
    }
    return *reader->at++;
}

/* Section 2. Below 2^31, because clients calculate with 32 bits. */
static uint32_t read_integer(struct reader *reader) {
    uint64_t number = 0;
    unsigned byte;

    do {
        byte = read_byte(reader);
        number = number << 7 | (byte & 127);
        if (number >= 0x80000000u)
            reader->failed = true;
    } while ((byte & 128) != 0 && !reader->failed);
    return (uint32_t)number;
}

static struct reader read_part(struct reader *reader, uint32_t length) {
    struct reader part = {reader->at, reader->at, false};

    if (length > (size_t)(reader->end - reader->at)) {
        reader->failed = true;
        return part;
    }
    reader->at += length;
    part.end = reader->at;
    return part;
}

/* Section 5.6: the table, row by row as the RFC lists it. */
static void make_code_table(struct half table[256][2]) {
    unsigned code = 0;

    memset(table, 0, 512 * sizeof(struct half));
    table[code++][0] = (struct half){RUN, 0, 0};
    for (unsigned size = 0; size <= 17; size++)
        table[code++][0] = (struct half){ADD, size, 0};
    for (unsigned mode = 0; mode <= 8; mode++) {
        table[code++][0] = (struct half){COPY, 0, mode};
        for (unsigned size = 4; size <= 18; size++)
            table[code++][0] = (struct half){COPY, size, mode};
    }
    for (unsigned mode = 0; mode <= 8; mode++)
        for (unsigned add = 1; add <= 4; add++)
            for (unsigned copy = 4; copy <= (mode <= 5 ? 6u : 4u); copy++) {
                table[code][0] = (struct half){ADD, add, 0};
                table[code++][1] = (struct half){COPY, copy, mode};
            }
    for (unsigned mode = 0; mode <= 8; mode++) {
        table[code][0] = (struct half){COPY, 4, mode};
        table[code++][1] = (struct half){ADD, 1, 0};
    }
}

struct caches {
    uint32_t near[4], same[768];
    unsigned next;
};

/* Section 5.3: decodes an address. */
static uint32_t read_address(struct reader *addresses, struct caches *caches, unsigned mode, uint32_t here) {
    uint32_t address;

    if (mode == 0)
        address = read_integer(addresses);
    else if (mode == 1)
        address = here - read_integer(addresses);
    else if (mode < 6)
        address = caches->near[mode - 2] + read_integer(addresses);
    else
        address = caches->same[(mode - 6) * 256 + read_byte(addresses)];
    caches->near[caches->next] = address;
    caches->next = (caches->next + 1) % 4;
    caches->same[address % 768] = address;
    return address;
}

struct window {
    struct slice segment;
    struct reader data, instructions, addresses;
    struct caches caches;
    size_t start;  /* of the window in the target */
    uint32_t size; /* of the window */
};

static const char *run_half(struct window *window, const struct half *half, struct buffer *target) {
    uint32_t done = (uint32_t)(target->length - window->start), size = half->size;
    uint32_t here = (uint32_t)window->segment.length + done;

    if (half->kind == NOOP)
        return NULL;
    if (size == 0)
        size = read_integer(&window->instructions);
    if (window->instructions.failed || size == 0 || size > window->size - done)
        return "an instruction without a size, of no bytes or beyond the window";
    if (half->kind == COPY) {
        uint32_t address = read_address(&window->addresses, &window->caches, half->mode, here);
        if (window->addresses.failed || address >= here)
            return "an address that is not there yet";
        for (; size != 0; size--, address++) { /* byte by byte: a copy may overlap its own bytes */
            const char *segment = window->segment.data;
            bool in_segment = address < window->segment.length;
            buffer_append_byte(target, in_segment ? segment[address]
                                                  : target->data[window->start + address - window->segment.length]);
        }
    } else if (half->kind == RUN) {
        unsigned byte = read_byte(&window->data);
        for (; size != 0; size--)
            buffer_append_byte(target, (char)byte);
    } else {
        struct reader literal = read_part(&window->data, size);
        buffer_append_bytes(target, literal.at, (size_t)(literal.end - literal.at));
    }
    return window->data.failed ? "not enough data" : NULL;
}

static const char *run_window(struct window *window, struct half table[256][2], struct buffer *target) {
    while (window->instructions.at != window->instructions.end) {
        const struct half *code = table[read_byte(&window->instructions)];
        for (unsigned i = 0; i < 2; i++) {
            const char *fault = run_half(window, &code[i], target);
            if (fault != NULL)
                return fault;
        }
    }
    if (target->length - window->start != window->size)
        return "fewer bytes than promised";
    if (window->data.at != window->data.end || window->addresses.at != window->addresses.end)
        return "data or addresses that nothing uses";
    return NULL;
}

/* Section 4.3: reads the head of a window. */
static const char *read_window(struct reader *reader, struct slice base, struct window *window) {
    unsigned indicator = read_byte(reader);
    uint32_t length, data, instructions, addresses;
    struct reader part;

    if (indicator > 1)
        return "a Win_Indicator that clients do not understand";
    if (indicator == 1) {
        uint32_t size = read_integer(reader), place = read_integer(reader);
        if (reader->failed || size > base.length || place > base.length - size)
            return "a source segment beyond the base";
        window->segment = slice_skip(base, place);
        window->segment.length = size;
    }
    length = read_integer(reader);
    part = read_part(reader, length);
    window->size = read_integer(&part);
    if (read_byte(&part) != 0)
        return "a Delta_Indicator that clients do not understand";
    data = read_integer(&part);
    instructions = read_integer(&part);
    addresses = read_integer(&part);
    window->data = read_part(&part, data);
    window->instructions = read_part(&part, instructions);
    window->addresses = read_part(&part, addresses);
    if (reader->failed || part.failed || part.at != part.end)
        return "lengths that do not agree";
    if (window->size > TARGET_MAX - window->start)
        return "a target that is too large";
    return NULL;
}

const char *vcdiff_decode(struct slice base, struct slice delta, struct buffer *target) {
    static const unsigned char header[] = {0xd6, 0xc3, 0xc4, 0, 0};
    const unsigned char *bytes = (const unsigned char *)delta.data;
    struct half table[256][2];
    struct reader reader;

    if (delta.length < sizeof header || memcmp(bytes, header, sizeof header) != 0)
        return "a wrong header";
    make_code_table(table);
    reader = (struct reader){bytes + sizeof header, bytes + delta.length, false};
    while (reader.at != reader.end) {
        struct window window = {.start = target->length};
        const char *fault = read_window(&reader, base, &window);
        if (fault == NULL)
            fault = run_window(&window, table, target);
        if (fault != NULL)
            return fault;
    }
    return NULL;
}
