#include "app/origin.h"

#include <string.h>
#include <strings.h>

struct origin_parts {
    struct slice scheme, host, port;
    bool has_scheme, has_port;
};

static bool same_text(const char *a, const char *b, size_t length) {
    return length == 0 || strncasecmp(a, b, length) == 0;
}

/* True if the text matches the pattern, in which the first `*` stands for any text, also for none. */
static bool matches_star(struct slice pattern, struct slice text) {
    const char *star = pattern.length != 0 ? memchr(pattern.data, '*', pattern.length) : NULL;
    size_t before, after;

    if (star == NULL)
        return slice_equal_ignoring_case(pattern, text);
    before = (size_t)(star - pattern.data);
    after = pattern.length - before - 1;
    return text.length >= before + after && same_text(text.data, pattern.data, before) &&
           same_text(text.data + text.length - after, star + 1, after);
}

/* The port begins after the last colon, but not inside the brackets of an IPv6 address. */
static void split_host(struct origin_parts *parts, struct slice text) {
    for (size_t i = text.length; i != 0 && text.data[i - 1] != ']'; i--) {
        if (text.data[i - 1] != ':')
            continue;
        parts->has_port = true;
        parts->port = slice_skip(text, i);
        text.length = i - 1;
        break;
    }
    parts->host = text;
}

static struct origin_parts split_origin(struct slice text) {
    static const char mark[] = "://";
    struct origin_parts parts = {0};
    const char *at = text.length != 0 ? memmem(text.data, text.length, mark, sizeof mark - 1) : NULL;

    if (at != NULL) {
        parts.has_scheme = true;
        parts.scheme = (struct slice){text.data, (size_t)(at - text.data)};
        text = slice_skip(text, parts.scheme.length + sizeof mark - 1);
    }
    split_host(&parts, text);
    return parts;
}

/* Empty for a scheme without one, such as that of an app on a phone. */
static struct slice default_port(struct slice scheme) {
    if (slice_equal_ignoring_case(scheme, SLICE("https")) || slice_equal_ignoring_case(scheme, SLICE("wss")))
        return SLICE("443");
    if (slice_equal_ignoring_case(scheme, SLICE("http")) || slice_equal_ignoring_case(scheme, SLICE("ws")))
        return SLICE("80");
    return SLICE("");
}

static bool host_matches(struct slice pattern, struct slice host) {
    if (slice_starts_with(pattern, SLICE("*.")) && slice_equal_ignoring_case(slice_skip(pattern, 2), host))
        return true;
    return matches_star(pattern, host);
}

/* True if the text has bytes that the scheme, host or port of an origin cannot have: a `*` must not stand for them. */
static bool has_foreign_byte(struct slice text) {
    for (size_t i = 0; i < text.length; i++)
        if ((unsigned char)text.data[i] <= ' ' || text.data[i] == 0x7f || strchr("/?#@\\", text.data[i]) != NULL)
            return true;
    return false;
}

bool origin_matches(struct slice pattern, struct slice origin) {
    struct origin_parts wanted, given;
    struct slice usual;

    if (slice_equal(pattern, SLICE("*")))
        return true;
    if (slice_ends_with(pattern, SLICE("/"))) /* copied from an address bar */
        pattern.length--;
    wanted = split_origin(pattern);
    given = split_origin(origin);
    if (!given.has_scheme || given.scheme.length == 0 || given.host.length == 0)
        return false;
    if (has_foreign_byte(given.scheme) || has_foreign_byte(given.host) || has_foreign_byte(given.port))
        return false;
    usual = default_port(given.scheme);
    if (!given.has_port)
        given.port = usual;
    return (!wanted.has_scheme || matches_star(wanted.scheme, given.scheme)) && host_matches(wanted.host, given.host) &&
           matches_star(wanted.has_port ? wanted.port : usual, given.port);
}

bool app_allows_origin(const struct app *app, struct slice origin) {
    if (app->allowed_origin_count == 0)
        return true;
    for (size_t i = 0; i < app->allowed_origin_count && origin.data != NULL; i++)
        if (origin_matches(app->allowed_origins[i], origin))
            return true;
    return false;
}
