#include "cli/notify_server.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/log.h"
#include "net/http_client.h"

#define TIMEOUT_MS 3000

struct notifier {
    const char *url; /* without user and password, so it may be printed */
    size_t url_length;
    bool direct; /* a proxy must not see the token */
    struct http_caller *caller;
    struct buffer authorization;
    bool gave_up;
    size_t not_notified;
};

/* True if the URL can be used. The warning does not repeat it: it may hold a password. */
static bool is_usable_url(const struct config *config, bool *loopback) {
    if (!http_url_valid(config->admin.url, loopback)) {
        log_warning("apps",
                    "CURLEW_ADMIN_URL must be a URL of http or https, without user and password; the server is "
                    "not told of changes");
        return false;
    }
    if (config->admin.token == NULL)
        log_warning("apps", "CURLEW_ADMIN_URL is set, but no CURLEW_ADMIN_TOKEN; the server is not told of changes");
    return config->admin.token != NULL;
}

struct notifier *notifier_create(const struct config *config) {
    struct notifier *notifier;
    bool loopback;

    if (config->admin.url == NULL || config->admin.url[0] == '\0' || !is_usable_url(config, &loopback))
        return NULL;
    notifier = alloc_zero(sizeof *notifier);
    notifier->url = config->admin.url;
    notifier->url_length = strlen(notifier->url);
    while (notifier->url[notifier->url_length - 1] == '/')
        notifier->url_length--;
    notifier->direct = loopback;
    notifier->caller = http_caller_create();
    buffer_appendf(&notifier->authorization, "Authorization: Bearer %s", config->admin.token);
    buffer_append_byte(&notifier->authorization, '\0');
    return notifier;
}

void notifier_destroy(struct notifier *notifier) {
    if (notifier == NULL)
        return;
    if (notifier->not_notified > 1)
        log_warning("apps",
                    "CURLEW_ADMIN_URL (%s) was not told of %zu changes; it learns of them as from any other "
                    "server",
                    notifier->url, notifier->not_notified);
    http_caller_destroy(notifier->caller);
    explicit_bzero(notifier->authorization.data, notifier->authorization.length);
    buffer_dispose(&notifier->authorization);
    free(notifier);
}

/* Calls {url}/admin/{path}. Returns the status of the answer; 0 with an error if there is none. */
static unsigned call_admin_api(struct notifier *notifier, const char *method, struct slice path, struct buffer *answer,
                               struct error *error) {
    const char *const headers[] = {notifier->authorization.data, NULL};
    const struct deadline deadline = deadline_after(TIMEOUT_MS, -1);
    struct http_call call = {.method = method, .headers = headers, .direct = notifier->direct};
    struct buffer url = {0};
    unsigned status;

    buffer_appendf(&url, "%.*s/admin/%.*s", (int)notifier->url_length, notifier->url, SLICE_ARGS(path));
    call.url = buffer_string(&url);
    status = http_caller_call(notifier->caller, &call, &deadline, answer, error);
    if (status != 0)
        error_set(error, "it answered with HTTP %u%s", status, status == 401 ? ": look at CURLEW_ADMIN_TOKEN" : "");
    buffer_dispose(&url);
    return status;
}

/* Calls {url}/admin/apps/{id}/{what}. */
static unsigned call_about_app(struct notifier *notifier, const char *method, struct slice id, const char *what,
                               struct buffer *answer, struct error *error) {
    struct buffer path = {0};
    unsigned status;

    buffer_appendf(&path, "apps/%.*s/%s", SLICE_ARGS(id), what);
    status = call_admin_api(notifier, method, buffer_slice(&path), answer, error);
    buffer_dispose(&path);
    return status;
}

static void request_refresh(struct notifier *notifier, struct slice id) {
    struct buffer answer = {0};
    struct error error;
    unsigned status = call_about_app(notifier, "POST", id, "refresh", &answer, &error);

    buffer_dispose(&answer);
    if (status >= 200 && status < 300)
        return;
    notifier->not_notified++;
    notifier->gave_up = status == 0 || status == 401;
    log_warning("apps", "the change of app %.*s is in the store, but CURLEW_ADMIN_URL (%s) was not told: %s",
                SLICE_ARGS(id), notifier->url, error.text);
}

void notifier_notify(struct notifier *notifier, struct slice id) {
    if (notifier == NULL)
        return;
    if (notifier->gave_up)
        notifier->not_notified++;
    else
        request_refresh(notifier, id);
}

bool notifier_previous_secret_seen(struct notifier *notifier, struct slice id, uint64_t *seen_s) {
    struct buffer answer = {0};
    struct error error;
    json_t *json = NULL;

    if (notifier == NULL)
        return false;
    if (call_about_app(notifier, "GET", id, "previous-secret", &answer, &error) == 200)
        json = json_loadb(answer.data, answer.length, 0, NULL);
    if (json == NULL)
        log_warning("apps", "CURLEW_ADMIN_URL (%s) does not say when the previous secret of app %.*s was last used: %s",
                    notifier->url, SLICE_ARGS(id), error.text);
    *seen_s = (uint64_t)json_integer_value(json_object_get(json, "last_seen"));
    buffer_dispose(&answer);
    json_decref(json);
    return json != NULL;
}

bool notifier_confirm_removal(struct notifier *notifier, uint64_t *count, struct error *error) {
    struct buffer answer = {0};
    json_t *json = NULL;

    if (call_admin_api(notifier, "POST", SLICE("confirm-removal"), &answer, error) == 200)
        json = json_loadb(answer.data, answer.length, 0, NULL);
    if (json == NULL)
        error_prefix(error, "CURLEW_ADMIN_URL (%s)", notifier->url);
    *count = (uint64_t)json_integer_value(json_object_get(json, "confirmed"));
    buffer_dispose(&answer);
    json_decref(json);
    return json != NULL;
}

/* Says why a server may not answer there as the admin API does. */
static void explain_missing_admin_api(unsigned status, struct error *error) {
    const struct error said = *error;

    if (status == 0)
        error_set(error, "%s. A server has an admin API if it was started with CURLEW_ADMIN_TOKEN", said.text);
    else if (status == 404)
        error_set(error, "%s: the admin API has a port of its own, see CURLEW_ADMIN_LISTEN", said.text);
    else if (status == 200)
        error_set(error, "%s, which is not the answer of an admin API", said.text);
}

json_t *notifier_read_nodes(struct notifier *notifier, struct error *error) {
    struct buffer answer = {0};
    unsigned status = call_admin_api(notifier, "GET", SLICE("nodes"), &answer, error);
    json_t *json = NULL;

    if (status == 200)
        json = json_loadb(answer.data, answer.length, 0, NULL);
    if (json == NULL) {
        error_prefix(error, "the admin API at %.*s", (int)notifier->url_length, notifier->url);
        explain_missing_admin_api(status, error);
    }
    buffer_dispose(&answer);
    return json;
}
