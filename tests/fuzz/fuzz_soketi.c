/*
 * Any bytes as a configuration of soketi, and behind a zero byte as its variables: converting ends, and what it writes
 * is JSON.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "convert/dotenv.h"
#include "convert/soketi.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = size > 0 ? memchr(data, '\0', size) : NULL;
    struct slice file = {(const char *)data, zero != NULL ? (size_t)(zero - data) : size};
    struct conversion conversion = {
        .file = "soketi.json", .root = source_create(SOURCE_MAP, (struct slice){0}), .output = json_object()};
    json_t *variables = json_object();
    struct error error = {0};
    char *text;

    if (zero != NULL)
        dotenv_read(slice_skip((struct slice){(const char *)data, size}, file.length + 1), DOTENV_NODE, variables,
                    NULL);
    MUST(soketi_convert(&conversion, file, variables, &error) == (error.text[0] == '\0'));
    conversion_escape_output(conversion.output);
    text = json_dumps(conversion.output, 0);
    MUST(text != NULL);
    free(text);
    json_decref(variables);
    conversion_dispose(&conversion);
    return 0;
}
