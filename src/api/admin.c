/*
 * The admin API: /admin/apps and others on a listener of its own, for clients with the token. It reads and writes
 * the store, not the cache. A write is in force on this server before its answer.
 */
#include <stdlib.h>
#include <string.h>

#include "api/api_call.h"
#include "api/stats.h"
#include "app/app_change.h"
#include "app/app_policy.h"
#include "app/app_secret.h"
#include "app/record_json.h"
#include "base/alloc.h"
#include "base/hash.h"
#include "base/json_load.h"
#include "base/log.h"
#include "base/utf8.h"
#include "net/client_address.h"

#define LIMIT_DEFAULT 100
#define LIMIT_MAX 1000
/* Longer than an id may be: a list must continue after a broken record, too. DynamoDB takes keys of this size. */
#define AFTER_MAX_BYTES 2048

enum admin_action { ADMIN_LIST, ADMIN_SHOW, ADMIN_CREATE, ADMIN_REPLACE, ADMIN_PATCH, ADMIN_DELETE, ADMIN_REFRESH };

struct admin_job {
    struct api_job base;
    enum admin_action action;
    bool secrets; /* show them */
    char *id;     /* of the path, or after which a list continues */
    uint32_t limit;
    json_t *body;
    json_t *result;
    uint64_t mark;     /* of the write */
    const char *field; /* that breaks a rule */
    char address[CLIENT_ADDRESS_TEXT];
};

/* --- on a connection to the store --- */

static json_t *record_to_show(const struct admin_job *own, const struct app *app) {
    json_t *record = app_to_json(app);

    if (!own->secrets)
        app_record_hide_secrets(record);
    return record;
}

/* An unknown field is probably a typing error, and most stores would lose it; one that the app has already is kept. */
static bool knows_all_fields(struct admin_job *own, const struct app *before) {
    enum app_field field;
    struct slice meant;
    const char *name;
    json_t *value;

    json_object_foreach(own->body, name, value) {
        if (app_field_from_name(slice_of(name), &field) ||
            (before != NULL && json_object_get(before->unknown, name) != NULL))
            continue;
        own->field = name;
        meant = app_field_meant(slice_of(name));
        if (meant.length != 0)
            return error_set(&own->base.job.error, "%s is not a field of an app; did you mean %.*s?", name,
                             SLICE_ARGS(meant));
        return error_set(&own->base.job.error, "%s is not a field of an app", name);
    }
    return true;
}

static struct app *parse_record(struct admin_job *own, const json_t *record, const struct app *before) {
    if (!knows_all_fields(own, before))
        return NULL;
    return app_parse_or_name_field(record, app_manager_defaults(own->base.job.manager), APP_FROM_REQUEST, NULL, NULL,
                                   &own->field, &own->base.job.error);
}

static void add_listed(void *context, struct slice id, struct slice key, struct app *app, const struct error *error) {
    struct admin_job *own = context;
    json_t *item;

    if (app != NULL)
        item = record_to_show(own, app);
    else
        item =
            json_pack("{s:s%, s:s%, s:s}", "id", id.data, id.length, "key", key.data, key.length, "error", error->text);
    if (item == NULL) /* a name that is not UTF-8 */
        item = json_pack("{s:s, s:s, s:s}", "id", "", "key", "", "error", error->text);
    json_array_append_new(json_object_get(own->result, "apps"), item);
    app_unref(app);
}

/* Adds `next`, after which the list continues, if it does. */
static enum store_answer run_list(struct admin_job *own, struct store_connection *connection) {
    enum store_answer answer;
    const json_t *apps;
    json_t *last;

    own->result = json_pack("{s:[]}", "apps");
    answer = store_list(connection, slice_of(own->id), own->limit, add_listed, own, &own->base.job.error);
    apps = json_object_get(own->result, "apps");
    if (answer != STORE_OK || json_array_size(apps) < own->limit)
        return answer;
    last = json_object_get(json_array_get(apps, own->limit - 1), "id");
    if (json_string_length(last) == 0) { /* the list could only begin again */
        error_set(&own->base.job.error,
                  "a record in the store has no id that can be read; those behind it are out of reach");
        return STORE_INVALID;
    }
    json_object_set(own->result, "next", last);
    return STORE_OK;
}

/* Logs who changed an app, with the names of the fields, never their values. The one that replaces a broken record
 * counts as new. */
static void log_admin_change(const struct admin_job *own, const struct app *before, const struct app *after,
                             struct slice id, uint64_t connections) {
    char who[CLIENT_ADDRESS_TEXT + 64];

    snprintf(who, sizeof who, "through the admin API by %s", own->address);
    if (after != NULL)
        app_change_log(id, before, after, who);
    else
        app_change_log_removal(id, connections, who);
}

/* Tells the cache of a write. Without an answer of the store, both the old and the new record are possible. */
static enum store_answer note_written(struct admin_job *own, enum store_answer answer, const struct app *before,
                                      struct app *after, struct slice id) {
    struct app_manager *manager = own->base.job.manager;

    if (answer == STORE_OK) {
        uint64_t connections = app_manager_written(manager, own->mark, id, before, after);
        log_admin_change(own, before, after, id, connections);
        own->result = json_object();
    } else if (answer == STORE_UNAVAILABLE) {
        app_manager_invalidate(manager, id, after != NULL ? after->key : SLICE(""));
    }
    app_unref(after);
    return answer;
}

/* Notes that `after` was written, and answers with the record as the store has it, with the defaults of its columns. */
static enum store_answer note_stored(struct admin_job *own, struct store_connection *connection,
                                     enum store_answer answer, const struct app *before, struct app *after) {
    struct app *stored = NULL;
    struct error error;

    if (answer == STORE_OK && store_find_by_id(connection, after->id, &stored, &error) != STORE_OK)
        stored = app_ref(after); /* another change came between */
    answer = note_written(own, answer, before, after, after->id);
    if (stored != NULL) {
        json_decref(own->result);
        own->result = record_to_show(own, stored);
        app_unref(stored);
    }
    return answer;
}

static enum store_answer run_create(struct admin_job *own, struct store_connection *connection) {
    struct app *app = parse_record(own, own->body, NULL);

    if (app == NULL)
        return STORE_INVALID;
    return note_stored(own, connection, store_create(connection, app, &own->base.job.error), NULL, app);
}

/* A body that names neither field of the previous secret leaves a rotation as it is, since a client that does not ask
 * for secrets does not see it; unless the body changes the secret: then only the new one is valid. */
static void merge_previous_secret(const struct admin_job *own, const struct app *before, json_t *record) {
    const json_t *secret = json_object_get(record, app_fields[APP_SECRET].name);
    bool same = json_is_string(secret) && slice_equal(record_slice(secret), before->secret);

    for (enum app_field i = APP_PREVIOUS_SECRET; i <= APP_PREVIOUS_SECRET_UNTIL; i++)
        if (json_object_get(own->body, app_fields[i].name) != NULL)
            return;
    app_record_forget_previous(record);
    if (same)
        app_record_keep_previous(record, before);
}

/* The new record: the body (PUT), or the old record with the fields of the body (PATCH); null unsets a field. A policy
 * stays in step with the flat fields; a body with a policy replaces it. */
static json_t *merge_records(const struct admin_job *own, const struct app *before) {
    json_t *record = own->action == ADMIN_PATCH ? app_to_json(before) : json_deep_copy(own->body), *value;
    json_t *policy = json_object_get(own->body, app_fields[APP_POLICY].name);
    const char *name;

    if (own->action == ADMIN_PATCH) {
        if (policy != NULL)
            app_record_change(record, app_fields[APP_POLICY].name, json_is_null(policy) ? NULL : policy);
        json_object_foreach(own->body, name, value) {
            if (value != policy)
                app_record_change(record, name, json_is_null(value) ? NULL : value);
        }
    } else if (policy == NULL && before != NULL && app_field_is_set(before, APP_POLICY)) {
        app_record_put_policy(record, before->policy_json);
    }
    if (json_object_get(record, "id") == NULL)
        json_object_set_new(record, "id", json_string(own->id));
    if (before != NULL)
        merge_previous_secret(own, before, record);
    return record;
}

static enum store_answer run_change(struct admin_job *own, struct store_connection *connection,
                                    const struct app *before) {
    struct error *error = &own->base.job.error;
    json_t *record = merge_records(own, before);
    struct app *app = parse_record(own, record, before);

    json_decref(record);
    if (app == NULL)
        return STORE_INVALID;
    if (!slice_equal(app->id, slice_of(own->id))) {
        error_set(error, "the id of an app does not change: id must be %s, or not there", own->id);
        own->field = "id";
        app_unref(app);
        return STORE_INVALID;
    }
    return note_stored(own, connection, store_update(connection, app, error), before, app);
}

static enum store_answer run_delete(struct admin_job *own, struct store_connection *connection,
                                    const struct app *before) {
    struct slice id = slice_of(own->id);

    return note_written(own, store_remove(connection, id, &own->base.job.error), before, NULL, id);
}

/* Runs an action on an existing app. A broken record can be replaced and deleted. */
static enum store_answer run_on_app(struct admin_job *own, struct store_connection *connection) {
    struct error *error = &own->base.job.error;
    struct app *before = NULL;
    enum store_answer answer = store_find_by_id(connection, slice_of(own->id), &before, error);
    bool readable = answer == STORE_OK;

    if (answer == STORE_NOT_FOUND)
        error_set(error, "there is no app with the id %s", own->id);
    if (own->action == ADMIN_REFRESH && (readable || answer == STORE_NOT_FOUND || answer == STORE_INVALID)) {
        log_info("app", "app %s is read again: %s asked for it, as `curlew apps` does after a change", own->id,
                 own->address);
        app_manager_invalidate(own->base.job.manager, slice_of(own->id), readable ? before->key : SLICE(""));
        own->result = json_object();
        answer = STORE_OK;
    } else if (own->action == ADMIN_SHOW && readable) {
        own->result = record_to_show(own, before);
    } else if (own->action == ADMIN_DELETE && (readable || answer == STORE_INVALID)) {
        answer = run_delete(own, connection, before);
    } else if ((own->action == ADMIN_PATCH && readable) ||
               (own->action == ADMIN_REPLACE && (readable || answer == STORE_INVALID))) {
        answer = run_change(own, connection, before);
    } else if (answer == STORE_INVALID) {
        own->field = NULL; /* the record in the store is broken, not the body */
    }
    app_unref(before);
    return answer;
}

static enum store_answer run_admin_job(struct app_job *job, struct store_connection *connection) {
    struct admin_job *own = container_of(job, struct admin_job, base.job);

    json_decref(own->result); /* of an attempt on a lost connection */
    own->result = NULL;
    own->mark = app_manager_write_version(job->manager);
    switch (own->action) {
    case ADMIN_LIST:
        return run_list(own, connection);
    case ADMIN_CREATE:
        return run_create(own, connection);
    default:
        return run_on_app(own, connection);
    }
}

/* --- on the worker --- */

static void answer_json(struct api_call *call, unsigned status, const json_t *json) {
    char *text = json_dumps(json, JSON_COMPACT);

    api_answer_with(call, status, SLICE(""), SLICE("Cache-Control: no-store\r\n"), slice_of(text));
    free(text);
}

static void answer_error(struct api_call *call, unsigned status, const char *text, const char *field) {
    json_t *json = json_pack("{s:s, s:s*}", "error", text, "field", field);

    answer_json(call, status, json);
    json_decref(json);
}

static void on_admin_job_ended(struct api_call *call, struct api_job *job) {
    const struct admin_job *own = container_of(job, struct admin_job, base);
    const char *text = job->job.error.text;

    switch (job->job.answer) {
    case STORE_OK:
        answer_json(call, own->action == ADMIN_CREATE ? 201 : 200, own->result);
        break;
    case STORE_NOT_FOUND:
        answer_error(call, 404, text, NULL);
        break;
    case STORE_INVALID:
        answer_error(call, own->field != NULL ? 422 : 500, text, own->field);
        break;
    case STORE_ID_TAKEN:
        answer_error(call, 409, text, "id");
        break;
    case STORE_KEY_TAKEN:
        answer_error(call, 409, text, "key");
        break;
    case STORE_REFUSED:
        answer_error(call, 507, text, NULL);
        break;
    case STORE_UNAVAILABLE:
        api_refuse_with(call, 503, REFUSED_REQUEST, SLICE("Retry-After: 1\r\n"), text);
        break;
    }
}

static void destroy_admin_job(struct app_job *job) {
    struct admin_job *own = container_of(job, struct admin_job, base.job);

    free(own->id);
    json_decref(own->body);
    json_decref(own->result);
    free(own);
}

/* Reads where a list continues. False after a 400: every store must be able to compare the id. */
static bool read_after(struct api_call *call, const struct query *query, struct admin_job *own) {
    struct slice after;

    if (!query_find(query, SLICE("after"), &after) || after.length == 0)
        return true;
    if (after.length > AFTER_MAX_BYTES || !utf8_valid(after) || memchr(after.data, '\0', after.length) != NULL) {
        answer_error(call, 400, "after must be the id of an app: at most 2048 bytes of UTF-8 without a zero byte",
                     "after");
        return false;
    }
    own->id = alloc_copy(after.data, after.length);
    return true;
}

/* Reads how many apps a list may have. False after a 400. */
static bool read_limit(struct api_call *call, const struct query *query, struct admin_job *own) {
    unsigned long long limit = LIMIT_DEFAULT;
    struct slice text;

    if (query_find(query, SLICE("limit"), &text) && (!slice_to_number(text, LIMIT_MAX, &limit) || limit == 0)) {
        answer_error(call, 400, "limit must be a whole number from 1 to 1000", "limit");
        return false;
    }
    own->limit = (uint32_t)limit;
    return true;
}

/* Reads the parameters of the query. False after a 400 that names the bad one. */
static bool read_query(struct api_call *call, struct admin_job *own) {
    struct query query;
    struct slice value;
    bool good = true;

    query_parse(&query, call->request->query);
    if (query_find(&query, SLICE("secrets"), &value))
        own->secrets = slice_equal(value, SLICE("1"));
    if (own->action == ADMIN_LIST)
        good = read_limit(call, &query, own) && read_after(call, &query, own);
    query_dispose(&query);
    return good;
}

static bool read_body(struct api_call *call, struct admin_job *own) {
    struct slice body = call->request->body;
    json_error_t error;
    struct error text;

    if (own->action != ADMIN_CREATE && own->action != ADMIN_REPLACE && own->action != ADMIN_PATCH)
        return true;
    own->body = json_load_text(body, JSON_REJECT_DUPLICATES, &error);
    if (json_is_object(own->body))
        return true;
    error_set(&text, "the body must be a JSON object%s%s", own->body == NULL ? ": " : "",
              own->body == NULL ? error.text : "");
    answer_error(call, 400, text.text, NULL);
    return false;
}

static void start_admin_job(struct api_call *call, enum admin_action action) {
    struct admin_job *own;

    if (!app_manager_has_store(call->api->apps)) {
        answer_error(call, 404, "app_manager.driver is memory: its apps are in the configuration", NULL);
        return;
    }
    if (call->request->body_too_large) {
        answer_error(call, 413, "the body is over 1 MB", NULL);
        return;
    }
    if (action != ADMIN_LIST && action != ADMIN_CREATE && !app_name_valid(call->parameters[0])) {
        answer_error(call, 404, "the path holds no id that an app could have", NULL);
        return;
    }
    own = alloc_zero(sizeof *own);
    own->action = action;
    client_address_write(call->connection, call->request, 0, own->address);
    own->base.ended = on_admin_job_ended;
    own->base.job = (struct app_job){.run = run_admin_job, .destroy = destroy_admin_job};
    own->base.job.operation.priority = STORE_URGENT;
    own->base.job.operation.repeatable = action == ADMIN_LIST || action == ADMIN_SHOW || action == ADMIN_REFRESH;
    if (!read_query(call, own) || !read_body(call, own)) {
        destroy_admin_job(&own->base.job);
        return;
    }
    if (own->id == NULL)
        own->id = alloc_copy(call->parameters[0].data, call->parameters[0].length);
    api_submit(call, &own->base, 0);
}

void api_admin_list(struct api_call *call) {
    start_admin_job(call, ADMIN_LIST);
}

void api_admin_create(struct api_call *call) {
    start_admin_job(call, ADMIN_CREATE);
}

void api_admin_show(struct api_call *call) {
    start_admin_job(call, ADMIN_SHOW);
}

void api_admin_replace(struct api_call *call) {
    start_admin_job(call, ADMIN_REPLACE);
}

void api_admin_patch(struct api_call *call) {
    start_admin_job(call, ADMIN_PATCH);
}

void api_admin_delete(struct api_call *call) {
    start_admin_job(call, ADMIN_DELETE);
}

void api_admin_refresh(struct api_call *call) {
    start_admin_job(call, ADMIN_REFRESH);
}

struct slot_search {
    struct slice id;
    uint64_t seen_s; /* when the previous secret of its app was last seen; 0: never */
};

static void look_at_slot(struct app_slot *slot, void *context) {
    struct slot_search *search = context;
    const struct app *app = slot_app(slot);

    if (app != NULL && app->previous_secret.length != 0 && slice_equal(slice_of(slot->id), search->id))
        search->seen_s = slot_previous_secret_last_seen(slot, app->previous_secret_until);
}

/* Answers from memory, about the record that is in force on this server. */
void api_admin_previous_secret(struct api_call *call) {
    struct slot_search search = {.id = call->parameters[0]};
    json_t *answer;

    app_manager_each_slot(call->api->apps, look_at_slot, &search);
    answer =
        json_pack("{s:o}", "last_seen", search.seen_s != 0 ? json_integer((json_int_t)search.seen_s) : json_null());
    answer_json(call, 200, answer);
    json_decref(answer);
}

void api_admin_confirm_removal(struct api_call *call) {
    char address[CLIENT_ADDRESS_TEXT];
    json_t *answer;
    size_t count;

    client_address_write(call->connection, call->request, 0, address);
    count = app_manager_has_store(call->api->apps) ? app_manager_confirm_removal(call->api->apps) : 0;
    if (count != 0)
        log_info("app", "%s confirms the removal of %zu app%s", address, count, count == 1 ? "" : "s");
    answer = json_pack("{s:I}", "confirmed", (json_int_t)count);
    answer_json(call, 200, answer);
    json_decref(answer);
}

void api_admin_stats(struct api_call *call) {
    stats_answer_all(call);
}

static void answer_log_level(struct api_call *call) {
    json_t *answer = json_pack("{s:s}", "level", log_level_name(log_current_level()));

    answer_json(call, 200, answer);
    json_decref(answer);
}

void api_admin_log_level(struct api_call *call) {
    answer_log_level(call);
}

/* Holds until the next restart. A line about it is written in any case. */
void api_admin_set_log_level(struct api_call *call) {
    char address[CLIENT_ADDRESS_TEXT];
    enum log_level level;
    json_error_t error;
    json_t *body;
    bool good;

    body = json_load_text(call->request->body, JSON_REJECT_DUPLICATES, &error);
    good = log_level_from_name(record_member(body, "level"), &level);
    json_decref(body);
    if (!good) {
        answer_error(call, 422, "the body must be {\"level\":LEVEL}, with error, warn, info or debug", "level");
        return;
    }
    log_set_level(level < LOG_INFO ? LOG_INFO : level);
    log_info("server", "the log level is %s now, through the admin API by %s", log_level_name(level),
             client_address_write(call->connection, call->request, 0, address));
    log_set_level(level);
    answer_log_level(call);
}
