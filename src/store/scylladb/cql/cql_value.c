#include "store/scylladb/cql/cql_value.h"

#include <stdio.h>
#include <string.h>

#define UUID_BYTES 16

/* --- names --- */

static uint16_t scalar_type_from_name(struct slice name) {
    static const struct {
        const char *name;
        uint16_t type;
    } types[] = {
        {"text", CQL_TYPE_VARCHAR},      {"varchar", CQL_TYPE_VARCHAR},
        {"ascii", CQL_TYPE_ASCII},       {"int", CQL_TYPE_INT},
        {"bigint", CQL_TYPE_BIGINT},     {"smallint", CQL_TYPE_SMALLINT},
        {"tinyint", CQL_TYPE_TINYINT},   {"varint", CQL_TYPE_VARINT},
        {"counter", CQL_TYPE_COUNTER},   {"float", CQL_TYPE_FLOAT},
        {"double", CQL_TYPE_DOUBLE},     {"boolean", CQL_TYPE_BOOLEAN},
        {"blob", CQL_TYPE_BLOB},         {"uuid", CQL_TYPE_UUID},
        {"timeuuid", CQL_TYPE_TIMEUUID}, {"timestamp", CQL_TYPE_TIMESTAMP},
    };

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (slice_equal(slice_of(types[i].name), name))
            return types[i].type;
    return CQL_TYPE_CUSTOM;
}

/* Strips `prefix` and the final `>` from a name; false if they are not there. */
static bool unwrap_type(struct slice *name, const char *prefix) {
    size_t length = strlen(prefix);

    if (!slice_starts_with(*name, slice_of(prefix)) || !slice_ends_with(*name, SLICE(">")))
        return false;
    *name = (struct slice){name->data + length, name->length - length - 1};
    return true;
}

void cql_type_from_name(struct slice name, uint16_t *type, uint16_t *element) {
    *element = 0;
    unwrap_type(&name, "frozen<");
    if (unwrap_type(&name, "list<"))
        *type = CQL_TYPE_LIST;
    else if (unwrap_type(&name, "set<"))
        *type = CQL_TYPE_SET;
    else
        *type = scalar_type_from_name(name);
    if (*type == CQL_TYPE_LIST || *type == CQL_TYPE_SET)
        *element = scalar_type_from_name(name);
}

/* --- writing --- */

static void append_big_endian(struct buffer *out, uint64_t bits, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++)
        cql_append_byte(out, (uint8_t)(bits >> (8 * (bytes - 1 - i))));
}

static int uuid_digit(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return -1;
}

/* Accepts only the form that cql_uuid_text writes: lower case, with the hyphens in their places. */
static bool append_uuid(struct buffer *out, struct slice text) {
    uint8_t bytes[UUID_BYTES];
    char again[CQL_UUID_TEXT];
    size_t at = 0;

    if (text.length != CQL_UUID_TEXT - 1)
        return false;
    for (size_t i = 0; i < UUID_BYTES; i++) {
        at += text.data[at] == '-';
        if (at + 2 > text.length || uuid_digit(text.data[at]) < 0 || uuid_digit(text.data[at + 1]) < 0)
            return false;
        bytes[i] = (uint8_t)(uuid_digit(text.data[at]) << 4 | uuid_digit(text.data[at + 1]));
        at += 2;
    }
    if (!cql_uuid_text((struct slice){(const char *)bytes, UUID_BYTES}, again) || !slice_equal(slice_of(again), text))
        return false;
    buffer_append_bytes(out, bytes, UUID_BYTES);
    return true;
}

static bool is_cql_ascii(struct slice text) {
    for (size_t i = 0; i < text.length; i++)
        if ((uint8_t)text.data[i] >= 0x80)
            return false;
    return true;
}

bool cql_append_text_value(struct buffer *out, uint16_t type, struct slice text) {
    switch (type) {
    case CQL_TYPE_ASCII:
        if (!is_cql_ascii(text))
            return false;
        break;
    case CQL_TYPE_VARCHAR:
    case CQL_TYPE_BLOB:
        break;
    case CQL_TYPE_UUID:
    case CQL_TYPE_TIMEUUID:
        return append_uuid(out, text);
    default:
        return false;
    }
    buffer_append(out, text);
    return true;
}

static bool append_signed(struct buffer *out, uint32_t number, unsigned bytes) {
    int32_t bits = (int32_t)number;
    int32_t most = (int32_t)((UINT32_C(1) << (8 * bytes - 1)) - 1);

    if (bits > most || bits < -most - 1)
        return false;
    append_big_endian(out, number, bytes);
    return true;
}

/* Appends the fewest bytes that leave a bit for the sign. */
static void append_varint(struct buffer *out, uint32_t number) {
    unsigned bytes = 1;

    while (bytes < 5 && (uint64_t)number >> (8 * bytes - 1) != 0)
        bytes++;
    append_big_endian(out, number, bytes);
}

static bool append_float(struct buffer *out, uint32_t number) {
    float value = (float)number;
    uint32_t bits;

    if ((double)value != (double)number)
        return false;
    memcpy(&bits, &value, sizeof bits);
    append_big_endian(out, bits, sizeof bits);
    return true;
}

static void append_double(struct buffer *out, uint32_t number) {
    double value = number;
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    append_big_endian(out, bits, sizeof bits);
}

bool cql_append_number_value(struct buffer *out, uint16_t type, uint32_t number) {
    switch (type) {
    case CQL_TYPE_TINYINT:
        return append_signed(out, number, 1);
    case CQL_TYPE_SMALLINT:
        return append_signed(out, number, 2);
    case CQL_TYPE_INT:
        append_big_endian(out, number, 4);
        return true;
    case CQL_TYPE_BIGINT:
        append_big_endian(out, number, 8);
        return true;
    case CQL_TYPE_VARINT:
        append_varint(out, number);
        return true;
    case CQL_TYPE_FLOAT:
        return append_float(out, number);
    case CQL_TYPE_DOUBLE:
        append_double(out, number);
        return true;
    case CQL_TYPE_VARCHAR:
    case CQL_TYPE_ASCII:
        buffer_append_number(out, number);
        return true;
    default:
        return false;
    }
}

bool cql_append_flag_value(struct buffer *out, uint16_t type, bool flag) {
    switch (type) {
    case CQL_TYPE_BOOLEAN:
        cql_append_byte(out, flag);
        return true;
    case CQL_TYPE_VARCHAR:
    case CQL_TYPE_ASCII:
        buffer_append_string(out, flag ? "true" : "false");
        return true;
    case CQL_TYPE_FLOAT:
    case CQL_TYPE_DOUBLE:
        return false;
    default:
        return cql_append_number_value(out, type, flag);
    }
}

void cql_append_timestamp_value(struct buffer *out, uint64_t wall_ms) {
    append_big_endian(out, wall_ms, 8);
}

/* --- reading --- */

static bool read_integer(struct slice value, int64_t *number) {
    uint64_t bits;

    if (value.length < 1 || value.length > 8)
        return false;
    bits = (value.data[0] & 0x80) != 0 ? UINT64_MAX : 0; /* sign extension */
    for (size_t i = 0; i < value.length; i++)
        bits = bits << 8 | (uint8_t)value.data[i];
    *number = (int64_t)bits;
    return true;
}

/* False for a fraction, and for a number that a double does not hold exactly. */
static bool whole_number(double value, int64_t *number) {
    if (!(value > -9007199254740992.0 && value < 9007199254740992.0) || value != (double)(int64_t)value)
        return false;
    *number = (int64_t)value;
    return true;
}

/* The number of bytes of a value of this type, except of a varint. */
static size_t width_of(uint16_t type) {
    switch (type) {
    case CQL_TYPE_TINYINT:
        return 1;
    case CQL_TYPE_SMALLINT:
        return 2;
    case CQL_TYPE_INT:
    case CQL_TYPE_FLOAT:
        return 4;
    default:
        return 8;
    }
}

static bool read_float(struct slice value, int64_t *number) {
    int64_t integer;
    uint32_t bits;
    float single;

    if (!read_integer(value, &integer))
        return false;
    bits = (uint32_t)integer;
    memcpy(&single, &bits, sizeof single);
    return whole_number(single, number);
}

static bool read_double(struct slice value, int64_t *number) {
    int64_t bits;
    double wide;

    if (!read_integer(value, &bits))
        return false;
    memcpy(&wide, &bits, sizeof wide);
    return whole_number(wide, number);
}

bool cql_number_of(uint16_t type, struct slice value, int64_t *number) {
    if (type != CQL_TYPE_VARINT && value.length != width_of(type))
        return false;
    switch (type) {
    case CQL_TYPE_FLOAT:
        return read_float(value, number);
    case CQL_TYPE_DOUBLE:
        return read_double(value, number);
    case CQL_TYPE_VARINT:
    case CQL_TYPE_TINYINT:
    case CQL_TYPE_SMALLINT:
    case CQL_TYPE_INT:
    case CQL_TYPE_BIGINT:
    case CQL_TYPE_COUNTER:
    case CQL_TYPE_TIMESTAMP:
        return read_integer(value, number);
    default:
        return false;
    }
}

bool cql_uuid_text(struct slice value, char text[CQL_UUID_TEXT]) {
    if (value.length != UUID_BYTES)
        return false;
    for (size_t i = 0; i < UUID_BYTES; i++) {
        bool hyphen = i == 4 || i == 6 || i == 8 || i == 10;
        text += sprintf(text, "%s%02x", hyphen ? "-" : "", (uint8_t)value.data[i]);
    }
    return true;
}
