/*
 * What a node of a Cassandra cluster may send: a header and the body behind it, read as a result with all its values,
 * and these as fields of an app.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "memory_socket.h"
#include "store/scylladb/scylladb_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As every field would take it. */
static void read_value(const struct cql_column *column, struct slice value) {
    json_t *record = json_object();

    for (unsigned field = 0; field < APP_FIELD_COUNT; field++)
        scylladb_read_field(record, (enum app_field)field, column, value);
    MUST(json_object_size(record) <= APP_FIELD_COUNT);
    json_decref(record);
}

static void read_schema_name(struct slice name) {
    uint16_t type, element;

    cql_type_from_name(name, &type, &element);
    MUST(element == 0 || type == CQL_TYPE_LIST || type == CQL_TYPE_SET);
}

static void read_values(struct cql_rows *rows) {
    for (uint32_t row = 0; row < rows->row_count; row++) {
        for (uint32_t i = 0; i < rows->column_count; i++) {
            struct slice value;
            if (cql_next_value(rows, &value))
                read_value(&rows->columns[i], value);
        }
    }
    MUST(!rows->reader.failed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct cql_rows rows;
    struct cql_header header;
    struct cql_reader reader;
    struct error error;
    uint8_t *body;

    if (size < CQL_HEADER_BYTES || !cql_read_header(data, &header, &error))
        return 0;
    size -= CQL_HEADER_BYTES;
    body = malloc(size + 1); /* a copy of just this size, so that reading beyond it is noticed */
    MUST(body != NULL);
    memcpy(body, data + CQL_HEADER_BYTES, size);
    reader = (struct cql_reader){body, body + size, false};
    cql_skip_extras(&reader, header.flags);
    if (header.opcode == CQL_OPCODE_ERROR) {
        cql_read_int(&reader);
        cql_read_string(&reader);
    } else if (cql_read_rows(reader, &rows, &error)) {
        for (uint32_t i = 0; i < rows.column_count; i++)
            read_schema_name(rows.columns[i].name);
        read_values(&rows);
    }
    free(body);
    return 0;
}
