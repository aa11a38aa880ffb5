#include "app_manager/cache/snapshot_format.h"

#include "app/record_json.h"
#include "base/alloc.h"
#include "base/json_load.h"
#include "base/secret_text.h"

#define PLAIN "curlew-apps-1 plain\n"
#define SEALED "curlew-apps-1 sealed\n"

static void append_json_line(struct buffer *text, json_t *line) {
    char *dumped = json_dumps(line, JSON_COMPACT);

    if (dumped != NULL) { /* a text that is not UTF-8 */
        buffer_append_string(text, dumped);
        buffer_append_byte(text, '\n');
    }
    secret_free(dumped);
    json_decref(line);
}

void snapshot_append_place(struct buffer *text, struct slice place) {
    append_json_line(text, json_pack("{s:s%}", "place", place.data, place.length));
}

void snapshot_append_app(struct buffer *text, uint64_t read_s, json_t *app) {
    append_json_line(text, json_pack("{s:I, s:o}", "read", (json_int_t)read_s, "app", app));
}

void snapshot_wrap(struct slice text, const struct secret_keyring *keyring, struct buffer *file) {
    char hex[SHA256_HEX];

    if (keyring != NULL) {
        buffer_append(file, SLICE(SEALED));
        keyring_seal_bytes(keyring, SLICE(SEALED), text, file);
        return;
    }
    sha256_hex(text, hex);
    buffer_append(file, SLICE(PLAIN));
    buffer_append_bytes(file, hex, sizeof hex);
    buffer_append_byte(file, '\n');
    buffer_append(file, text);
}

static bool check_plain(struct slice rest, struct slice *text, struct error *error) {
    char hex[SHA256_HEX];

    if (rest.length > SHA256_HEX && rest.data[SHA256_HEX] == '\n') {
        *text = slice_skip(rest, SHA256_HEX + 1);
        sha256_hex(*text, hex);
        if (memcmp(hex, rest.data, sizeof hex) == 0)
            return true;
    }
    return error_set(error, "it is not complete, or was changed: its checksum is wrong");
}

bool snapshot_unwrap(struct slice file, const struct secret_keyring *keyring, struct buffer *memory, struct slice *text,
                     struct error *error) {
    if (slice_starts_with(file, SLICE(SEALED))) {
        if (!keyring_open_bytes(keyring, SLICE(SEALED), slice_skip(file, sizeof SEALED - 1), memory))
            return error_set(error, keyring == NULL
                                        ? "it is encrypted, and there is no key: set app_manager.secrets.key_file"
                                        : "no key of app_manager.secrets opens it, or it was changed");
        *text = buffer_slice(memory);
        return true;
    }
    if (!slice_starts_with(file, SLICE(PLAIN)))
        return error_set(error, "it is no snapshot of this version");
    if (keyring != NULL)
        return error_set(error, "it is not encrypted, and there is a key now");
    return check_plain(slice_skip(file, sizeof PLAIN - 1), text, error);
}

/* The next line as JSON; NULL at the end, and for what is none. */
static json_t *read_json_line(struct slice *rest) {
    const char *end = rest->length != 0 ? memchr(rest->data, '\n', rest->length) : NULL;
    struct slice line = {rest->data, end != NULL ? (size_t)(end - rest->data) : 0};
    json_error_t ignored;

    if (end == NULL)
        return NULL;
    *rest = slice_skip(*rest, line.length + 1);
    return json_load_text(line, JSON_REJECT_DUPLICATES, &ignored);
}

bool snapshot_read_place(struct slice *rest, struct buffer *place) {
    json_t *line = read_json_line(rest);
    const json_t *text = json_object_get(line, "place");
    bool good = json_is_string(text);

    if (good)
        buffer_append(place, record_slice(text));
    json_decref(line);
    return good;
}

bool snapshot_read_app(struct slice *rest, uint64_t *read_s, json_t **app) {
    json_t *line = read_json_line(rest), *record = json_object_get(line, "app");
    const json_t *read = json_object_get(line, "read");
    bool good = json_is_object(record) && json_is_integer(read) && json_integer_value(read) >= 0;

    if (good) {
        *read_s = (uint64_t)json_integer_value(read);
        *app = json_incref(record);
    }
    json_decref(line);
    return good;
}
