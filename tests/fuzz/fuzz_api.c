/*
 * What an API request is taken apart into: the first line of the input is a path and query, the rest a body. Nothing
 * that is accepted breaks a promise, and what is refused says why.
 */
#include <stdint.h>
#include <stdlib.h>

#include "api/auth.h"
#include "api/publish_body.h"
#include "api/route_match.h"
#include "base/utf8.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_path(struct slice path) {
    static const char *const patterns[] = {"/up", "/apps/{}/channels/{}/users",
                                           "/apps/{}/users/{...}/terminate_connections"};

    path = route_path(path);
    (void)route_strip_prefix(SLICE("/p"), &path);
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct slice parameters[ROUTE_PARAMETERS] = {0};
        if (route_matches(patterns[i], path, parameters) && i != 0)
            MUST(parameters[0].length != 0 && parameters[1].length != 0);
    }
}

static void check_query(struct slice text) {
    struct buffer once = {0};
    struct query query;

    query_parse(&query, text);
    auth_append_query(&query, &once);
    MUST(once.length <= text.length + query.count);
    buffer_dispose(&once);
    query_dispose(&query);
}

static void check_event(struct slice text) {
    static const struct app app = {
        .max_event_name_length = 10, .max_channel_name_length = 20, .max_event_payload_in_kb = 1};
    struct buffer scratch = {0}, storage = {0};
    struct event_refusal refusal = {0};
    struct slice channel;
    struct event event;

    if (utf8_valid(text)) {
        if (event_scan(text, &event, &refusal) && event_fits(&app, 0, &event, &refusal) &&
            event_check(&app, &event, &scratch, &refusal) &&
            event_check_channel(&app, event.members[EVENT_CHANNEL], "channel", &storage, &channel, &refusal)) {
            struct json_value value;
            struct error error;
            MUST(channel_name_valid(channel));
            MUST(json_scan(event_data(&event, &scratch), &value, &error) && value.type == JSON_TYPE_STRING);
        } else {
            MUST(refusal.status == 400 || refusal.status == 413);
            MUST(refusal.error.text[0] != '\0');
        }
        event_dispose(&event);
    }
    buffer_dispose(&scratch);
    buffer_dispose(&storage);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice input = {(const char *)data, size};
    const char *newline = size != 0 ? memchr(data, '\n', size) : NULL;
    struct slice line = {input.data, newline != NULL ? (size_t)(newline - input.data) : size};
    const char *mark = line.length != 0 ? memchr(line.data, '?', line.length) : NULL;

    check_path((struct slice){line.data, mark != NULL ? (size_t)(mark - line.data) : line.length});
    if (mark != NULL)
        check_query(slice_skip(line, (size_t)(mark - line.data) + 1));
    if (newline != NULL)
        check_event(slice_skip(input, line.length + 1));
    return 0;
}
