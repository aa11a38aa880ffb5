/*
 * The CQL binary protocol, version 4: frames and the types that they are made of (section numbers are those of
 * native_protocol_v4.spec). Writing goes into a buffer. Reading is bounded by the frame; `failed` of the reader says at
 * the end whether it went beyond.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/slice.h"

#define CQL_HEADER_BYTES 9
#define CQL_BODY_MAX_BYTES (16 * 1024 * 1024)

/* Section 2.4. */
enum cql_opcode {
    CQL_OPCODE_ERROR = 0x00,
    CQL_OPCODE_STARTUP = 0x01,
    CQL_OPCODE_READY = 0x02,
    CQL_OPCODE_AUTHENTICATE = 0x03,
    CQL_OPCODE_QUERY = 0x07,
    CQL_OPCODE_RESULT = 0x08,
    CQL_OPCODE_PREPARE = 0x09,
    CQL_OPCODE_EXECUTE = 0x0A,
    CQL_OPCODE_EVENT = 0x0C,
    CQL_OPCODE_AUTH_CHALLENGE = 0x0E,
    CQL_OPCODE_AUTH_RESPONSE = 0x0F,
    CQL_OPCODE_AUTH_SUCCESS = 0x10,
};

/* Section 9. */
enum cql_error_code {
    CQL_ERROR_BAD_CREDENTIALS = 0x0100,
    CQL_ERROR_UNAVAILABLE = 0x1000,
    CQL_ERROR_OVERLOADED = 0x1001,
    CQL_ERROR_IS_BOOTSTRAPPING = 0x1002,
    CQL_ERROR_WRITE_TIMEOUT = 0x1100,
    CQL_ERROR_READ_TIMEOUT = 0x1200,
    CQL_ERROR_READ_FAILURE = 0x1300,
    CQL_ERROR_WRITE_FAILURE = 0x1500,
    CQL_ERROR_UNAUTHORIZED = 0x2100,
    CQL_ERROR_INVALID = 0x2200,
    CQL_ERROR_ALREADY_EXISTS = 0x2400,
    CQL_ERROR_UNPREPARED = 0x2500,
};

/* Section 4.2.5.2; other types are skipped. */
enum cql_type {
    CQL_TYPE_CUSTOM = 0x00,
    CQL_TYPE_ASCII = 0x01,
    CQL_TYPE_BIGINT = 0x02,
    CQL_TYPE_BLOB = 0x03,
    CQL_TYPE_BOOLEAN = 0x04,
    CQL_TYPE_COUNTER = 0x05,
    CQL_TYPE_DOUBLE = 0x07,
    CQL_TYPE_FLOAT = 0x08,
    CQL_TYPE_INT = 0x09,
    CQL_TYPE_TIMESTAMP = 0x0B,
    CQL_TYPE_UUID = 0x0C,
    CQL_TYPE_VARCHAR = 0x0D,
    CQL_TYPE_VARINT = 0x0E,
    CQL_TYPE_TIMEUUID = 0x0F,
    CQL_TYPE_SMALLINT = 0x13,
    CQL_TYPE_TINYINT = 0x14,
    CQL_TYPE_LIST = 0x20,
    CQL_TYPE_MAP = 0x21,
    CQL_TYPE_SET = 0x22,
    CQL_TYPE_UDT = 0x30,
    CQL_TYPE_TUPLE = 0x31,
};

/* Section 3, [consistency]. */
enum cql_consistency { CQL_ONE = 0x0001, CQL_LOCAL_QUORUM = 0x0006, CQL_LOCAL_SERIAL = 0x0009, CQL_LOCAL_ONE = 0x000A };

/* --- writing --- */

/* Begins a frame; cql_end_frame fills in its length. The response has the same stream number. */
void cql_begin_frame(struct buffer *out, enum cql_opcode opcode, int16_t stream);
void cql_end_frame(struct buffer *out);
void cql_append_byte(struct buffer *out, uint8_t value);
void cql_append_short(struct buffer *out, uint16_t value);
void cql_append_int(struct buffer *out, uint32_t value);
void cql_append_string(struct buffer *out, struct slice text);      /* [string] */
void cql_append_long_string(struct buffer *out, struct slice text); /* [long string] */
void cql_append_bytes(struct buffer *out, struct slice bytes);      /* [bytes]; NULL data: null */

/* --- reading --- */

struct cql_reader {
    const uint8_t *at, *end;
    bool failed; /* it read beyond the end; what it read since is zero or empty */
};

struct cql_header {
    uint8_t flags;
    int16_t stream;
    uint8_t opcode;
    uint32_t length;
};

/* Parses a header. False with an error unless it is of a version 4 response, uncompressed, of at most
 * CQL_BODY_MAX_BYTES. */
bool cql_read_header(const uint8_t bytes[CQL_HEADER_BYTES], struct cql_header *header, struct error *error);

uint8_t cql_read_byte(struct cql_reader *reader);
uint16_t cql_read_short(struct cql_reader *reader);
uint32_t cql_read_int(struct cql_reader *reader);
struct slice cql_read_string(struct cql_reader *reader);             /* [string] and [short bytes] */
bool cql_read_bytes(struct cql_reader *reader, struct slice *bytes); /* [bytes]; false: null */

/* Skips what may precede a body: a tracing id, warnings, a custom payload (section 2.2). */
void cql_skip_extras(struct cql_reader *reader, uint8_t flags);

/* A column of a result. */
struct cql_column {
    struct slice name;
    uint16_t type;
    uint16_t element; /* the type of the elements of a list or set */
};

#define CQL_COLUMNS_MAX 256

struct cql_rows {
    struct cql_reader reader; /* at the next value */
    uint32_t column_count, row_count;
    struct cql_column columns[CQL_COLUMNS_MAX];
    struct slice paging_state; /* empty: this is the last page */
};

/* Reads a result of the kind Rows up to its first value (section 4.2.5.2), and checks that all values are there. False
 * with an error, and then there are no rows. */
bool cql_read_rows(struct cql_reader reader, struct cql_rows *rows, struct error *error);
