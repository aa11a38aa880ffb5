/*
 * Values by the type of their column (section 6 of native_protocol_v4.spec): what a text, a number, a flag or a list of
 * texts is in each type that can hold one.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/slice.h"
#include "store/scylladb/cql/cql_frame.h"

/* A type by the name that system_schema.columns has for it, and of a list or set that of its elements;
 * CQL_TYPE_CUSTOM: one that these functions do not know. */
void cql_type_from_name(struct slice name, uint16_t *type, uint16_t *element);

/* --- writing: each appends a value's bytes, or is false, with nothing appended, if the type cannot hold it --- */

bool cql_append_text_value(struct buffer *out, uint16_t type, struct slice text);

/* A number above the most of a signed type becomes the negative one of the same 32 bits, if that fits: int holds
 * 4294967295 as -1. Texts get digits. */
bool cql_append_number_value(struct buffer *out, uint16_t type, uint32_t number);
bool cql_append_flag_value(struct buffer *out, uint16_t type, bool flag);

/* Milliseconds, as timestamp and bigint have them. */
void cql_append_timestamp_value(struct buffer *out, uint64_t wall_ms);

/* --- reading --- */

/* An integer of a type made of 1, 2, 4 or 8 bytes, a varint or a float without a fraction; false if it is none, or not
 * within 64 bits. */
bool cql_number_of(uint16_t type, struct slice value, int64_t *number);

#define CQL_UUID_TEXT 37

/* Writes a UUID as people do; false if the value is none. */
bool cql_uuid_text(struct slice value, char text[CQL_UUID_TEXT]);
