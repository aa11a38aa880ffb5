#include "fossil_decoder.h"

#include <stdint.h>

struct reader {
    const unsigned char *at, *end;
};

static int digit_value(unsigned char byte) {
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    if (byte >= 'A' && byte <= 'Z')
        return byte - 'A' + 10;
    if (byte == '_')
        return 36;
    if (byte >= 'a' && byte <= 'z')
        return byte - 'a' + 37;
    return byte == '~' ? 63 : -1;
}

/* A number without a leading zero, below 2^32; the byte behind it must be one of `ends`, and is returned. 0: wrong. */
static char read_number(struct reader *reader, uint64_t *number, const char *ends) {
    const unsigned char *start = reader->at;

    *number = 0;
    while (reader->at < reader->end && digit_value(*reader->at) >= 0) {
        *number = *number * 64 + (uint64_t)digit_value(*reader->at++);
        if (*number > UINT32_MAX)
            return 0;
    }
    if (reader->at == start || (*start == '0' && reader->at != start + 1) || reader->at == reader->end ||
        strchr(ends, *reader->at) == NULL || *reader->at == '\0')
        return 0;
    return (char)*reader->at++;
}

const char *fossil_decode(struct slice base, struct slice delta, struct buffer *target) {
    size_t before = target->length;
    uint64_t size, count, offset;
    struct reader reader;

    if (delta.length == 0)
        return "no delta";
    reader = (struct reader){(const unsigned char *)delta.data, (const unsigned char *)delta.data + delta.length};

    if (read_number(&reader, &size, "\n") == 0)
        return "no length of the target";
    for (;;) {
        char command = read_number(&reader, &count, "@:;");
        if (command == ';')
            break;
        if (command == '\0')
            return "no command";
        if (count == 0 || count > size - (target->length - before))
            return "a command of no bytes, or beyond the end of the target";
        if (command == ':') {
            if (count > (size_t)(reader.end - reader.at))
                return "a literal beyond the end of the delta";
            buffer_append_bytes(target, reader.at, count);
            reader.at += count;
        } else {
            if (read_number(&reader, &offset, ",") == 0)
                return "no offset";
            if (offset > base.length || count > base.length - offset)
                return "a copy beyond the end of the base";
            buffer_append(target, (struct slice){base.data + offset, count});
        }
    }
    if (reader.at != reader.end)
        return "something behind the checksum";
    if (target->length - before != size)
        return "fewer bytes than promised";
    offset = 0;
    for (size_t i = 0; i < size; i++)
        offset += (uint64_t)(unsigned char)target->data[before + i] << (24 - i % 4 * 8);
    return (uint32_t)offset == count ? NULL : "a wrong checksum";
}
