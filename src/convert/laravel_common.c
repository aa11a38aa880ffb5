#include "convert/laravel_common.h"

#include <string.h>

#include "base/alloc.h"
#include "convert/php_value.h"

void laravel_set_variables(struct conversion *conversion, const json_t *variables, const struct laravel_variable *table,
                           size_t count, const char *const *prefixes) {
    const char *name;
    json_t *value;

    for (size_t i = 0; i < count; i++) {
        struct source *node = laravel_env(variables, slice_of(table[i].name));

        if (table[i].path == NULL) {
            if (source_is_set(node))
                conversion_dropped(conversion, NULL, "%s: %s", table[i].name, table[i].reason);
            source_destroy(node);
            continue;
        }
        if (node == NULL) {
            node = source_create(SOURCE_NULL, (struct slice){0});
            node->variable = alloc_copy(table[i].name, strlen(table[i].name));
        }
        source_set(conversion->root, table[i].path, node);
    }
    json_object_foreach((json_t *)variables, name, value) {
        bool known = false, theirs = false;

        for (size_t i = 0; i < count; i++)
            known = known || strcmp(table[i].name, name) == 0;
        for (size_t i = 0; prefixes[i] != NULL; i++)
            theirs = theirs || slice_starts_with(slice_of(name), slice_of(prefixes[i]));
        if (theirs && !known)
            conversion_dropped(
                conversion, NULL,
                "%s: the PHP file as it ships does not read it; if yours does, convert that file with --env", name);
    }
}

void laravel_put_no_limits(struct conversion *conversion) {
    static const char *const limits[] = {
        "event_limits.max_channels_at_once",        "event_limits.max_name_length",
        "event_limits.max_payload_in_kb",           "event_limits.max_batch_size",
        "channel_limits.max_name_length",           "presence.max_members_per_channel",
        "presence.max_member_size_in_kb",           "rate_limits.max_read_requests_per_second",
        "rate_limits.max_backend_events_per_second"};

    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        conversion_put(conversion, NULL, limits[i], json_integer(0));
}

void laravel_app_text(struct conversion *conversion, struct source *app, const char *theirs, const char *ours,
                      json_t *record) {
    struct source *node = source_find(app, theirs, NULL);
    enum convert_kind kind = strcmp(ours, "secret") == 0 ? CONVERT_SECRET : CONVERT_TEXT;

    if (source_is_set(node))
        json_object_set_new(record, ours, conversion_value(conversion, node, kind));
    else if (node != NULL && node->variable != NULL)
        conversion_error(conversion, node, "it has no value; set it in the .env file, which --env names");
    else
        conversion_error(conversion, app, "%s is missing", theirs);
}

void laravel_app_connections(struct conversion *conversion, struct source *app, const char *theirs, json_t *record) {
    struct source *node = source_find(app, theirs, NULL);
    double number = 0;
    bool unset = !source_is_set(node) || (node->type == SOURCE_TEXT && node->length == 0);

    if (node != NULL)
        source_take(node);
    if (!unset && !conversion_number(conversion, node, &number))
        return;
    if (!unset && number == 0) {
        json_object_set_new(record, "enabled", json_false());
        conversion_changed(conversion, node,
                           "0 lets nobody in there, and means no limit here; enabled is false instead");
    } else if (number < 0 || number != round_number_up(number) || number > 4294967295) {
        conversion_error(conversion, node, "this must be a whole number from 1 to 4294967295");
        return;
    }
    json_object_set_new(record, "max_connections", json_integer((json_int_t)number));
}

/* Adds the pattern for a host with any port. */
static void add_origin(struct conversion *conversion, const struct source *at, struct slice host, json_t *list) {
    struct buffer any_port = {0};

    if (memchr(host.data, ':', host.length) != NULL || memchr(host.data, '/', host.length) != NULL) {
        conversion_changed(conversion, at,
                           "left out: only the host of an origin is compared there, so that an entry with a scheme or "
                           "a port lets nobody in");
        return;
    }
    json_array_append_new(list, json_stringn(host.data, host.length));
    if (memchr(host.data, '*', host.length) != NULL) {
        conversion_changed(conversion, at,
                           "with a * it matches only the default ports here, and a host that begins with *. also "
                           "matches the domain itself");
        return;
    }
    buffer_append(&any_port, host);
    buffer_append_string(&any_port, ":*");
    json_array_append_new(list, json_stringn(any_port.data, any_port.length));
    buffer_dispose(&any_port);
}

json_t *laravel_origins(struct conversion *conversion, struct source *node) {
    json_t *hosts = conversion_value(conversion, node, CONVERT_LIST), *list, *item;
    size_t i;

    if (hosts == NULL)
        return NULL;
    list = json_array();
    json_array_foreach(hosts, i, item) {
        struct slice host = {json_string_value(item), json_string_length(item)};

        if (slice_equal(host, SLICE("*"))) { /* no list: also those who send no origin */
            json_decref(hosts);
            json_decref(list);
            return NULL;
        }
        if (host.length > 0)
            add_origin(conversion, node, host, list);
    }
    json_decref(hosts);
    if (json_array_size(list) > 0)
        return list;
    conversion_error(conversion, node,
                     "this list lets nobody in there, and an empty list lets everybody in here; write the hosts that "
                     "may connect, or '*'");
    json_decref(list);
    return NULL;
}

void laravel_put_tls(struct conversion *conversion, struct source *tls) {
    static const struct convert_row rows[] = {
        {"local_cert", NULL, CONVERT_TEXT, "ssl.cert_path"},
        {"local_pk", NULL, CONVERT_TEXT, "ssl.key_path"},
        {"passphrase", NULL, CONVERT_SECRET, "ssl.passphrase"},
    };
    struct source *certificate = tls != NULL ? source_find(tls, "local_cert", NULL) : NULL,
                  *key = tls != NULL ? source_find(tls, "local_pk", NULL) : NULL;

    if (tls == NULL)
        return;
    if (!source_is_set(certificate) || (certificate->type == SOURCE_TEXT && certificate->length == 0)) {
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            if (source_find(tls, rows[i].theirs, NULL) != NULL)
                source_take(source_find(tls, rows[i].theirs, NULL));
        conversion_drop_rest(conversion, tls, "without local_cert there is no TLS");
        return;
    }
    conversion_put(conversion, tls, "ssl.enabled", json_true());
    conversion_apply(conversion, tls, rows, sizeof rows / sizeof rows[0]);
    if (!source_is_set(key)) /* PHP then looks for the key in the certificate's file */
        conversion_put(conversion, certificate, "ssl.key_path",
                       conversion_value(conversion, certificate, CONVERT_TEXT));
    conversion_drop_rest(conversion, tls, "an option of PHP's streams without a counterpart");
}

void laravel_put_message_size(struct conversion *conversion, const struct source *at, double bytes) {
    conversion_put(conversion, at, "websocket.max_message_size", json_integer((json_int_t)bytes));
    if (bytes > 64 * 1024)
        conversion_put(conversion, at, "websocket_max_payload_kb",
                       json_integer((json_int_t)round_number_up(bytes / 1024)));
    if (bytes > 16 * 1024 * 1024)
        conversion_put(conversion, at, "websocket.max_frame_size", json_integer((json_int_t)bytes));
}
