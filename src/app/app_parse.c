#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "app/delta_pattern.h"
#include "app/record_json.h"
#include "app/secret_keyring.h"
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/hash.h"

#define TEXT_MAX_BYTES SECRET_MAX_BYTES
/* The fields that are texts are the first ones. */
#define TEXTS (APP_PREVIOUS_SECRET + 1)

/* The parameters of one call of app_parse. */
struct parser {
    const struct app_defaults *defaults;
    enum app_source source;
    app_warning_function *warn;
    void *context;
    const char *id; /* for warnings; set after the id was read */
    /* Of the secrets that were read: see struct app. */
    uint32_t sealed;
    bool sealed_by_old_key;
    bool has_policy;
};

/* True if the value may be as a column of a store has it: not in a policy, which is JSON wherever it is kept. */
static bool is_of_column(const struct parser *parser, const struct app_field_info *info) {
    return parser->source == APP_FROM_STORE && !(parser->has_policy && app_policy_covers(info->name));
}

/* The memory of a text that is not in the record as it is meant: an integer, or an encrypted secret. */
struct text_memory {
    char digits[RECORD_NAME_BYTES];
    char opened[SECRET_MAX_BYTES];
};

/* True if the record is about to be written: what a record that is read may have is then refused. */
static bool is_written(const struct parser *parser) {
    return parser->source == APP_FROM_COMMAND || parser->source == APP_FROM_REQUEST;
}

static bool is_quiet(const struct parser *parser) {
    return parser->source == APP_FROM_COMMAND || parser->source == APP_FROM_COPY;
}

static void send_app_warning(const struct parser *parser, app_warning_function *warn, const char *text) {
    struct buffer buffer = {0};

    buffer_appendf(&buffer, "app \"%s\": %s", parser->id, text);
    warn(parser->context, buffer_string(&buffer));
    buffer_dispose(&buffer);
}

static void warn_about_app(const struct parser *parser, const char *text) {
    if (parser->warn != NULL)
        send_app_warning(parser, parser->warn, text);
}

static void note_oddity(void *context, const char *text) {
    warn_about_app(context, text);
}

/* Reports a member of a policy that has no meaning here, once for all apps: such members are in every record of the
 * servers that write them. The number of different names is bounded. */
static void note_unused_member(void *context, const char *text) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static uint64_t noted[64];
    static size_t count;
    const struct parser *parser = context;
    uint64_t hash = hash_bytes(slice_of(text));
    bool is_new;

    if (is_quiet(parser))
        return;
    pthread_mutex_lock(&mutex);
    is_new = count < sizeof noted / sizeof noted[0];
    for (size_t i = 0; i < count && is_new; i++)
        is_new = noted[i] != hash;
    if (is_new)
        noted[count++] = hash;
    pthread_mutex_unlock(&mutex);
    if (is_new)
        send_app_warning(parser, parser->warn != NULL ? parser->warn : app_warn_to_log, text);
}

/* A secret may be any printable ASCII; id and key are also part of a URL's path. */
static bool valid_text(enum app_field field, struct slice text, size_t longest) {
    if (!app_fields[field].hidden)
        return app_name_valid(text);
    if (text.length == 0 || text.length > longest)
        return false;
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] < ' ' || text.data[i] > '~')
            return false;
    return true;
}

/* Decrypts a secret of a store. A new secret may not look like an encrypted one, or like the name of a file. */
static bool check_form(struct parser *parser, enum app_field field, struct slice id, struct text_memory *memory,
                       struct slice *text, struct error *error) {
    const char *name = app_fields[field].name;
    bool first;

    if (!app_fields[field].hidden || parser->source == APP_FOR_STORE)
        return true;
    if (parser->source == APP_FROM_STORE) {
        if (!secret_is_sealed(*text))
            return true;
        if (!keyring_open(parser->defaults->keyring, id, slice_of(name), *text, memory->opened, text, &first, error))
            return false;
        parser->sealed |= 1u << field;
        parser->sealed_by_old_key |= !first;
        return true;
    }
    if (secret_is_sealed(*text) || slice_starts_with(*text, SLICE("file:")))
        return error_set(error, "%s may not begin with enc: or file:, which have a meaning of their own", name);
    return true;
}

/* Reads the id, the key or a secret of the app `id`. The empty previous secret of a column that cannot be NULL is
 * none. */
static bool read_text_field(struct parser *parser, const json_t *record, enum app_field field, struct slice id,
                            struct text_memory *memory, struct slice *text, struct error *error) {
    const json_t *json = json_object_get(record, app_fields[field].name);
    size_t longest = parser->source == APP_FOR_STORE ? SEALED_MAX_BYTES : TEXT_MAX_BYTES;

    *text = (struct slice){0};
    if (app_fields[field].optional && (record_unset(json) || (json_is_string(json) && json_string_length(json) == 0)))
        return true;
    if (record_unset(json))
        return error_set(error, "%s is missing", app_fields[field].name);
    *text = record_name(json, memory->digits);
    if (text->data == NULL && json_is_number(json))
        return error_set(error, "%s must be a text, or a number of digits only: put it in quotes",
                         app_fields[field].name);
    if (text->data == NULL)
        return error_set(error, "%s must be a text", app_fields[field].name);
    if (!check_form(parser, field, id, memory, text, error))
        return false;
    if (!valid_text(field, *text, longest))
        return error_set(error, "%s must have 1 to %d bytes of printable ASCII%s", app_fields[field].name,
                         TEXT_MAX_BYTES, app_fields[field].hidden ? "" : " without / ? # % and blanks");
    return true;
}

/* Allocates the record and its texts together. */
static struct app *create_app(const struct slice texts[TEXTS]) {
    size_t bytes = TEXTS;
    struct app *app;
    char *at;

    for (size_t i = 0; i < TEXTS; i++)
        bytes += texts[i].length;
    app = alloc_zero(sizeof *app + bytes);
    at = (char *)(app + 1);
    atomic_init(&app->references, 1);
    for (unsigned i = 0; i < TEXTS; i++) {
        if (texts[i].length == 0)
            continue;
        memcpy(at, texts[i].data, texts[i].length);
        *(struct slice *)((char *)app + app_fields[i].offset) = (struct slice){at, texts[i].length};
        at += texts[i].length + 1;
        app->set |= 1u << i;
    }
    hmac_key_init(&app->hmac, app->secret);
    if (app->previous_secret.length != 0)
        hmac_key_init(&app->previous_hmac, app->previous_secret);
    return app;
}

static bool parse_number_field(const struct parser *parser, struct app *app, enum app_field field, const json_t *json,
                               struct error *error) {
    const struct app_field_info *info = &app_fields[field];
    uint32_t *number = (uint32_t *)((char *)app + info->offset);

    if (!record_unset(json))
        return record_number(json, is_of_column(parser, info) ? RECORD_NEGATIVE_WRAPS : RECORD_MINUS_ONE_IS_ZERO,
                             info->name, number, error);
    *number = info->defaults_offset >= 0 ? *(const uint32_t *)((const char *)parser->defaults + info->defaults_offset)
                                         : info->fallback;
    return true;
}

static bool parse_time_field(const struct parser *parser, struct app *app, enum app_field field, const json_t *json,
                             struct error *error) {
    enum record_negative negatives = parser->source == APP_FROM_STORE ? RECORD_NEGATIVE_WRAPS : RECORD_NEGATIVE_REFUSED;
    uint32_t *seconds = (uint32_t *)((char *)app + app_fields[field].offset);

    return record_unset(json) || record_number(json, negatives, "", seconds, NULL) ||
           error_set(error, "%s must be a time in whole seconds since 1970", app_fields[field].name);
}

static bool parse_flag_field(const struct parser *parser, struct app *app, enum app_field field, const json_t *json,
                             struct error *error) {
    const struct app_field_info *info = &app_fields[field];
    bool *flag = (bool *)((char *)app + info->offset);

    if (!record_unset(json))
        return record_flag(json, is_of_column(parser, info), info->name, flag, error);
    *flag = info->fallback != 0;
    return true;
}

/* Allocates the slices and the texts that they point to together. */
static bool parse_origins(struct app *app, const json_t *json, struct error *error) {
    size_t count = json_array_size(json), bytes = 0;
    char *at;

    if (!json_is_array(json))
        return error_set(error, "allowed_origins must be a list of texts");
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(json, i);

        if (!json_is_string(item))
            return error_set(error, "allowed_origins[%zu] must be a text", i);
        if (json_string_length(item) == 0)
            return error_set(error, "allowed_origins[%zu] is empty; use * to allow every origin", i);
        if (record_count(record_slice(item), '*') > 1)
            return error_set(error, "allowed_origins[%zu]: a pattern may hold one * only", i);
        bytes += json_string_length(item);
    }
    if (count == 0)
        return true;
    app->allowed_origins = alloc(count * sizeof *app->allowed_origins + bytes);
    at = (char *)(app->allowed_origins + count);
    for (size_t i = 0; i < count; i++) {
        struct slice origin = record_slice(json_array_get(json, i));

        memcpy(at, origin.data, origin.length);
        app->allowed_origins[i] = (struct slice){at, origin.length};
        app->origins_hash = (app->origins_hash * 31 + hash_bytes(origin)) | 1;
        at += origin.length;
    }
    app->allowed_origin_count = count;
    return true;
}

static bool parse_structure(struct parser *parser, struct app *app, enum app_field field, const json_t *json,
                            struct error *error) {
    if (record_unset(json))
        return true;
    if (field == APP_ALLOWED_ORIGINS)
        return parse_origins(app, json, error);
    if (field == APP_POLICY) {
        app->policy_json = json_deep_copy(json);
        return app_policy_parse(json, &app->policy, note_unused_member, parser, error);
    }
    if (field == APP_CHANNEL_DELTA_COMPRESSION) {
        app->delta_json =
            app_delta_settings_parse(json, &app->delta_settings, &app->delta_setting_count, note_oddity, parser, error);
        app->delta_name_count = app_delta_sort(app->delta_settings, app->delta_setting_count);
        return app->delta_json != NULL;
    }
    app->webhooks_json =
        app_webhooks_parse(json, is_written(parser), &app->webhooks, &app->webhook_count, note_oddity, parser, error);
    for (size_t i = 0; i < app->webhook_count; i++)
        app->webhook_kinds |= app->webhooks[i].event_types;
    return app->webhooks_json != NULL;
}

static bool parse_field(struct parser *parser, struct app *app, enum app_field field, const json_t *json,
                        struct error *error) {
    bool good = true;

    switch (app_fields[field].type) {
    case APP_TYPE_TEXT: /* read before the record was allocated */
        return true;
    case APP_TYPE_FLAG:
        good = parse_flag_field(parser, app, field, json, error);
        break;
    case APP_TYPE_NUMBER:
        good = parse_number_field(parser, app, field, json, error);
        break;
    case APP_TYPE_TIME:
        good = parse_time_field(parser, app, field, json, error);
        break;
    case APP_TYPE_JSON:
        good = parse_structure(parser, app, field, json, error);
        break;
    }
    if (good && !record_unset(json))
        app->set |= 1u << field;
    return good;
}

/* Keeps fields that this version does not know, since a newer server may have written them. */
static void keep_unknown_fields(const struct parser *parser, struct app *app, const json_t *record) {
    enum app_field field;
    const char *name;
    json_t *value;

    /* Jansson's iteration needs a pointer that is not const, but changes nothing. */
    json_object_foreach((json_t *)record, name, value) {
        struct buffer text = {0};
        struct slice meant;

        if (app_field_from_name(slice_of(name), &field))
            continue;
        if (app->unknown == NULL)
            app->unknown = json_object();
        json_object_set_new(app->unknown, name, json_deep_copy(value));
        if (is_quiet(parser))
            continue;
        meant = app_field_meant(slice_of(name));
        buffer_appendf(&text, "%s is not a field that this server knows; it is kept", name);
        if (meant.length != 0)
            buffer_appendf(&text, "; did you mean %.*s?", SLICE_ARGS(meant));
        warn_about_app(parser, buffer_string(&text));
        buffer_dispose(&text);
    }
}

/* The record with the values of its policy in its flat fields, a new reference. What the policy leaves out has the
 * meaning that the servers which write policies give it: no limit for the two numbers that every record has. */
static json_t *apply_policy(const json_t *record) {
    const json_t *policy = json_object_get(record, app_fields[APP_POLICY].name);
    json_t *applied = json_copy((json_t *)record);

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        const struct app_field_info *info = &app_fields[i];
        json_t *value = app_policy_get(policy, info->name);
        if (!app_policy_covers(info->name))
            continue;
        if (!record_unset(value))
            json_object_set(applied, info->name, value);
        else if (info->type == APP_TYPE_NUMBER && !info->optional)
            json_object_set_new(applied, info->name, json_integer(0));
        else
            json_object_del(applied, info->name);
    }
    return applied;
}

/* Reads the fields that are texts. Returns the one that is refused, or APP_FIELD_COUNT. */
static enum app_field read_texts(struct parser *parser, const json_t *record, struct text_memory memory[TEXTS],
                                 struct slice texts[TEXTS], struct error *error) {
    char id_digits[RECORD_NAME_BYTES];
    struct slice id = record_name(json_object_get(record, "id"), id_digits);

    for (unsigned i = 0; i < TEXTS; i++) {
        enum app_field field = (enum app_field)i;
        if (read_text_field(parser, record, field, id, &memory[i], &texts[i], error))
            continue;
        if (id.data == NULL)
            error_prefix(error, record_unset(json_object_get(record, "id")) ? "an app without an id"
                                                                            : "an app with an invalid id");
        else
            error_prefix(error, "app \"%.*s\"", (int)(id.length < TEXT_MAX_BYTES ? id.length : TEXT_MAX_BYTES),
                         id.data);
        return field;
    }
    return APP_FIELD_COUNT;
}

/* Reads all other fields. Returns the field that is refused, or APP_FIELD_COUNT. */
static enum app_field parse_fields(struct parser *parser, struct app *app, const json_t *record, struct error *error) {
    bool has_policy = json_is_object(json_object_get(record, app_fields[APP_POLICY].name));
    json_t *applied = has_policy ? apply_policy(record) : NULL;
    const json_t *source = has_policy ? applied : record;
    enum app_field refused = APP_FIELD_COUNT;

    parser->has_policy = has_policy;
    app_policy_init(&app->policy);
    for (unsigned i = 0; i < APP_FIELD_COUNT && refused == APP_FIELD_COUNT; i++)
        if (!parse_field(parser, app, (enum app_field)i, json_object_get(source, app_fields[i].name), error))
            refused = (enum app_field)i;
    json_decref(applied);
    if (refused == APP_FIELD_COUNT)
        return refused;
    if (has_policy && app_policy_covers(app_fields[refused].name)) {
        error_prefix(error, "policy");
        refused = APP_POLICY;
    }
    error_prefix(error, "app \"%s\"", parser->id);
    return refused;
}

struct app *app_parse_or_name_field(const json_t *record, const struct app_defaults *defaults, enum app_source source,
                                    app_warning_function *warn_function, void *context, const char **refused,
                                    struct error *error) {
    struct parser parser = {defaults, source, warn_function, context};
    struct text_memory memory[TEXTS];
    struct slice texts[TEXTS];
    enum app_field field;
    struct app *app;

    *refused = NULL;
    if (!json_is_object(record)) {
        error_set(error, "an app must be an object with id, key and secret");
        return NULL;
    }
    field = read_texts(&parser, record, memory, texts, error);
    app = field == APP_FIELD_COUNT ? create_app(texts) : NULL;
    if (parser.sealed != 0)
        explicit_bzero(memory, sizeof memory);
    if (app == NULL) {
        *refused = app_fields[field].name;
        return NULL;
    }
    parser.id = app->id.data;
    app->sealed = parser.sealed;
    app->sealed_by_old_key = parser.sealed_by_old_key;
    field = parse_fields(&parser, app, record, error);
    if (field != APP_FIELD_COUNT) {
        *refused = app_fields[field].name;
        app_unref(app);
        return NULL;
    }
    keep_unknown_fields(&parser, app, record);
    return app;
}

struct app *app_parse(const json_t *record, const struct app_defaults *defaults, enum app_source source,
                      app_warning_function *warn_function, void *context, struct error *error) {
    const char *ignored;

    return app_parse_or_name_field(record, defaults, source, warn_function, context, &ignored, error);
}
