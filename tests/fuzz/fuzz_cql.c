/*
 * What a node of a Cassandra cluster may send: a header and the body behind it, read as a result with all its values.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "app/store/cql/cql_frame.h"
#include "loop.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_values(struct cql_rows *rows) {
    for (uint32_t row = 0; row < rows->row_count && !rows->reader.failed; row++) {
        for (uint32_t i = 0; i < rows->column_count; i++) {
            struct slice value;
            int64_t number;
            if (!cql_read_bytes(&rows->reader, &value))
                continue;
            MUST(value.length <= CQL_BODY_MAX_BYTES);
            cql_number_of(CQL_TYPE_INT, value, &number);
        }
    }
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
        read_values(&rows);
    }
    free(body);
    return 0;
}
