#include "store/scylladb/cql/cql_frame.h"

#include <string.h>

#define VERSION_REQUEST 0x04
#define RESPONSE_BIT 0x80u
#define VERSION_RESPONSE 0x84
#define NESTING_MAX 16 /* types within types */

#define FLAG_COMPRESSION 0x01
#define FLAG_TRACING 0x02
#define FLAG_CUSTOM_PAYLOAD 0x04
#define FLAG_WARNING 0x08

#define ROWS_GLOBAL_TABLE 0x01
#define ROWS_MORE_PAGES 0x02
#define ROWS_NO_METADATA 0x04

/* --- writing --- */

void cql_append_byte(struct buffer *out, uint8_t value) {
    buffer_append_byte(out, (char)value);
}

void cql_append_short(struct buffer *out, uint16_t value) {
    cql_append_byte(out, (uint8_t)(value >> 8));
    cql_append_byte(out, (uint8_t)value);
}

void cql_append_int(struct buffer *out, uint32_t value) {
    cql_append_short(out, (uint16_t)(value >> 16));
    cql_append_short(out, (uint16_t)value);
}

void cql_append_string(struct buffer *out, struct slice text) {
    cql_append_short(out, (uint16_t)text.length);
    buffer_append(out, text);
}

void cql_append_long_string(struct buffer *out, struct slice text) {
    cql_append_int(out, (uint32_t)text.length);
    buffer_append(out, text);
}

void cql_append_bytes(struct buffer *out, struct slice bytes) {
    cql_append_int(out, bytes.data != NULL ? (uint32_t)bytes.length : UINT32_MAX);
    if (bytes.data != NULL)
        buffer_append(out, bytes);
}

void cql_begin_frame(struct buffer *out, enum cql_opcode opcode, int16_t stream) {
    out->length = 0;
    cql_append_byte(out, VERSION_REQUEST);
    cql_append_byte(out, 0);
    cql_append_short(out, (uint16_t)stream);
    cql_append_byte(out, (uint8_t)opcode);
    cql_append_int(out, 0);
}

void cql_end_frame(struct buffer *out) {
    uint32_t length = (uint32_t)(out->length - CQL_HEADER_BYTES);

    for (unsigned i = 0; i < 4; i++)
        out->data[5 + i] = (char)(length >> (24 - 8 * i));
}

/* --- reading --- */

bool cql_read_header(const uint8_t bytes[CQL_HEADER_BYTES], struct cql_header *header, struct error *error) {
    struct cql_reader reader = {bytes, bytes + CQL_HEADER_BYTES, false};
    uint8_t version = cql_read_byte(&reader);

    header->flags = cql_read_byte(&reader);
    header->stream = (int16_t)cql_read_short(&reader);
    header->opcode = cql_read_byte(&reader);
    header->length = cql_read_int(&reader);
    if ((version & RESPONSE_BIT) == 0)
        return error_set(error, "the other side does not speak the CQL protocol");
    if (version != VERSION_RESPONSE)
        return error_set(error, "the node speaks version %u of the CQL protocol, and not 4", version & ~RESPONSE_BIT);
    if ((header->flags & FLAG_COMPRESSION) != 0)
        return error_set(error, "a compressed answer, although compression was not negotiated");
    return header->length <= CQL_BODY_MAX_BYTES ||
           error_set(error, "an answer of %u bytes is too long", header->length);
}

static const uint8_t *take_bytes(struct cql_reader *reader, size_t count) {
    const uint8_t *at = reader->at;

    if (reader->failed || (size_t)(reader->end - reader->at) < count) {
        reader->failed = true;
        return NULL;
    }
    reader->at += count;
    return at;
}

static uint32_t read_frame_number(struct cql_reader *reader, unsigned bytes) {
    const uint8_t *at = take_bytes(reader, bytes);
    uint32_t value = 0;

    for (unsigned i = 0; at != NULL && i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

uint8_t cql_read_byte(struct cql_reader *reader) {
    return (uint8_t)read_frame_number(reader, 1);
}

uint16_t cql_read_short(struct cql_reader *reader) {
    return (uint16_t)read_frame_number(reader, 2);
}

uint32_t cql_read_int(struct cql_reader *reader) {
    return read_frame_number(reader, 4);
}

static struct slice read_bytes_of(struct cql_reader *reader, size_t length) {
    const uint8_t *at = take_bytes(reader, length);

    return at != NULL ? (struct slice){(const char *)at, length} : SLICE("");
}

struct slice cql_read_string(struct cql_reader *reader) {
    return read_bytes_of(reader, cql_read_short(reader));
}

bool cql_read_bytes(struct cql_reader *reader, struct slice *bytes) {
    int32_t length = (int32_t)cql_read_int(reader);

    *bytes = length >= 0 ? read_bytes_of(reader, (size_t)length) : SLICE("");
    return length >= 0 && !reader->failed;
}

void cql_skip_extras(struct cql_reader *reader, uint8_t flags) {
    struct slice ignored;

    if ((flags & FLAG_TRACING) != 0)
        take_bytes(reader, 16);
    if ((flags & FLAG_WARNING) != 0)
        for (unsigned left = cql_read_short(reader); left > 0 && !reader->failed; left--)
            cql_read_string(reader);
    if ((flags & FLAG_CUSTOM_PAYLOAD) != 0) {
        for (unsigned left = cql_read_short(reader); left > 0 && !reader->failed; left--) {
            cql_read_string(reader);
            cql_read_bytes(reader, &ignored);
        }
    }
}

/* Reads an [option]: the number of a type, and for a list or set the type of its elements. */
static uint16_t read_column_type(struct cql_reader *reader, uint16_t *element, unsigned depth) {
    uint16_t type = cql_read_short(reader), ignored = 0;
    unsigned count;

    *element = 0;
    if (depth > NESTING_MAX)
        reader->failed = true;
    if (reader->failed)
        return 0;
    switch (type) {
    case CQL_TYPE_CUSTOM:
        cql_read_string(reader);
        break;
    case CQL_TYPE_LIST:
    case CQL_TYPE_SET:
        *element = read_column_type(reader, &ignored, depth + 1);
        break;
    case CQL_TYPE_MAP:
        read_column_type(reader, &ignored, depth + 1);
        read_column_type(reader, &ignored, depth + 1);
        break;
    case CQL_TYPE_UDT:
        cql_read_string(reader);
        cql_read_string(reader);
        for (count = cql_read_short(reader); count > 0 && !reader->failed; count--) {
            cql_read_string(reader);
            read_column_type(reader, &ignored, depth + 1);
        }
        break;
    case CQL_TYPE_TUPLE:
        for (count = cql_read_short(reader); count > 0 && !reader->failed; count--)
            read_column_type(reader, &ignored, depth + 1);
        break;
    default:
        break;
    }
    return type;
}

static void read_rows_columns(struct cql_reader *reader, uint32_t flags, struct cql_rows *rows) {
    if ((flags & ROWS_GLOBAL_TABLE) != 0) {
        cql_read_string(reader);
        cql_read_string(reader);
    }
    for (uint32_t i = 0; i < rows->column_count && !reader->failed; i++) {
        struct cql_column *column = &rows->columns[i];
        if ((flags & ROWS_GLOBAL_TABLE) == 0) {
            cql_read_string(reader);
            cql_read_string(reader);
        }
        column->name = cql_read_string(reader);
        column->type = read_column_type(reader, &column->element, 0);
    }
}

/* Whether as many values follow as announced. Each takes at least four bytes, which bounds the loop. */
static bool has_all_values(struct cql_reader reader, const struct cql_rows *rows) {
    uint64_t count = (uint64_t)rows->row_count * rows->column_count;
    struct slice ignored;

    if (reader.failed || (rows->row_count != 0 && rows->column_count == 0) ||
        count > (uint64_t)(reader.end - reader.at) / 4)
        return false;
    for (; count > 0 && !reader.failed; count--)
        cql_read_bytes(&reader, &ignored);
    return !reader.failed;
}

bool cql_read_rows(struct cql_reader reader, struct cql_rows *rows, struct error *error) {
    uint32_t flags = cql_read_int(&reader);

    *rows = (struct cql_rows){.column_count = cql_read_int(&reader), .paging_state = SLICE("")};
    if ((flags & ROWS_MORE_PAGES) != 0)
        cql_read_bytes(&reader, &rows->paging_state);
    if ((flags & ROWS_NO_METADATA) != 0 || rows->column_count > CQL_COLUMNS_MAX)
        return error_set(error, "an answer of %u columns without a usable description", rows->column_count);
    read_rows_columns(&reader, flags, rows);
    rows->row_count = cql_read_int(&reader);
    rows->reader = reader;
    if (has_all_values(reader, rows))
        return true;
    rows->row_count = 0;
    return error_set(error, "an answer that ends too early");
}
