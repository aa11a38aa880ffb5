/*
 * Values by the type of their column (section 6 of native_protocol_v4.spec): how each type holds a text, a number, a
 * flag or a list of texts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/slice.h"
#include "store/scylladb/cql/cql_frame.h"

/* The type that system_schema.columns calls by this name, and the type of the elements of a list or set.
 * CQL_TYPE_CUSTOM: a type that these functions do not know. */
void cql_type_from_name(struct slice name, uint16_t *type, uint16_t *element);

/* --- writing: each appends the bytes of a value; false, with nothing appended, if the type cannot hold it --- */

bool cql_append_text_value(struct buffer *out, uint16_t type, struct slice text);

/* A number above the range of a signed type becomes the negative number of the same 32 bits if that fits: int holds
 * 4294967295 as -1. A text gets digits. */
bool cql_append_number_value(struct buffer *out, uint16_t type, uint32_t number);
bool cql_append_flag_value(struct buffer *out, uint16_t type, bool flag);

/* Milliseconds since 1970, for a timestamp or bigint. */
void cql_append_timestamp_value(struct buffer *out, uint64_t wall_ms);

/* --- reading --- */

/* The number in a value of an integer type of 1, 2, 4 or 8 bytes, a varint, or a float without a fraction. False for
 * another type or value, or more than 64 bits. */
bool cql_number_of(uint16_t type, struct slice value, int64_t *number);

#define CQL_UUID_TEXT 37

/* Writes a UUID in its usual form with hyphens; false if the value is not one. */
bool cql_uuid_text(struct slice value, char text[CQL_UUID_TEXT]);
