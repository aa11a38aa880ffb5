#include "api/cors.h"

static bool is_any(const char *origin) {
    return origin[0] == '*' && origin[1] == '\0';
}

struct slice cors_headers(const struct config *config, const struct http_request *request, struct buffer *storage) {
    const struct config_list *allowed = &config->cors.origin;
    size_t start = storage->length;
    struct slice origin;

    for (size_t i = 0; i < allowed->count; i++)
        if (is_any(allowed->items[i]))
            return SLICE("Access-Control-Allow-Origin: *\r\n");
    if (allowed->count == 0)
        return SLICE("");
    if (!http_header(request, SLICE("Origin"), &origin))
        return SLICE("Vary: Origin\r\n");
    for (size_t i = 0; i < allowed->count; i++) {
        if (!slice_equal_ignoring_case(slice_of(allowed->items[i]), origin))
            continue;
        buffer_append(storage, SLICE("Access-Control-Allow-Origin: "));
        buffer_append(storage, origin);
        buffer_append(storage, SLICE("\r\nVary: Origin\r\n"));
        if (config->cors.credentials)
            buffer_append(storage, SLICE("Access-Control-Allow-Credentials: true\r\n"));
        return slice_skip(buffer_slice(storage), start);
    }
    return SLICE("Vary: Origin\r\n");
}

static void append_list(struct buffer *headers, struct slice name, const struct config_list *list) {
    if (list->count == 0)
        return;
    buffer_append(headers, name);
    for (size_t i = 0; i < list->count; i++) {
        buffer_append(headers, i == 0 ? SLICE(": ") : SLICE(", "));
        buffer_append_string(headers, list->items[i]);
    }
    buffer_append(headers, SLICE("\r\n"));
}

void cors_append_preflight(const struct config *config, struct buffer *headers) {
    append_list(headers, SLICE("Access-Control-Allow-Methods"), &config->cors.methods);
    append_list(headers, SLICE("Access-Control-Allow-Headers"), &config->cors.allowed_headers);
}
