/*
 * Any bytes as the file of a snapshot, as they are and with the right checksum: what is read lies within the file, and
 * without a key that sealed it nothing is opened.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "app_manager/cache/snapshot_format.h"
#include "base/secret_text.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_text(struct slice text) {
    struct buffer place = {0};
    struct slice rest = text;
    uint64_t read_s;
    json_t *app;

    snapshot_read_place(&rest, &place);
    while (snapshot_read_app(&rest, &read_s, &app)) {
        MUST(json_is_object(app) && rest.length < text.length);
        json_decref(app);
    }
    MUST(rest.length == 0 || (rest.data >= text.data && rest.data + rest.length == text.data + text.length));
    buffer_dispose(&place);
}

static void read_file(struct slice file, const struct secret_keyring *keyring, bool is_ours) {
    struct buffer memory = {0};
    struct slice text;
    struct error error = {0};

    if (snapshot_unwrap(file, keyring, &memory, &text, &error))
        read_text(text);
    else
        MUST(!is_ours && error.text[0] != '\0');
    secret_buffer_dispose(&memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice input = {(const char *)data, size};
    struct error error;
    struct secret_keyring *keyring =
        keyring_parse(SLICE("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), "key", &error);
    struct buffer file = {0};

    read_file(input, NULL, false);
    read_file(input, keyring, false);
    read_text(input);
    snapshot_wrap(input, NULL, &file);
    read_file(buffer_slice(&file), NULL, true);
    file.length = 0;
    snapshot_wrap(input, keyring, &file);
    read_file(buffer_slice(&file), keyring, true);
    buffer_dispose(&file);
    keyring_destroy(keyring);
    return 0;
}
