/*
 * Any bytes as a `.env` file, in both dialects: every value is valid UTF-8 within the bound, and an error names nothing
 * that came from the file.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "convert/dotenv.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_dialect(struct slice text, enum dotenv_dialect dialect) {
    json_t *variables = json_object(), *value;
    struct error error = {0};
    const char *name;
    size_t bytes = 0;
    bool good = dotenv_read(text, dialect, variables, &error);

    MUST(good == (error.text[0] == '\0'));
    json_object_foreach(variables, name, value) {
        MUST(name[0] != '\0' && (json_is_string(value) || json_is_null(value)));
        bytes += json_string_length(value);
        MUST(utf8_valid((struct slice){json_string_value(value), json_string_length(value)}));
    }
    MUST(bytes <= DOTENV_MAX_BYTES);
    json_decref(variables);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice text = {(const char *)data, size};

    read_dialect(text, DOTENV_LARAVEL);
    read_dialect(text, DOTENV_NODE);
    return 0;
}
