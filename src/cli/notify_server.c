#include "cli/notify_server.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/log.h"
#include "net/http_client.h"

#define TIMEOUT_MS 3000

struct refresher {
    const char *url; /* without user and password: it may be logged */
    size_t url_length;
    bool direct; /* a proxy must not see the token on its way to this machine */
    struct http_caller *caller;
    struct buffer authorization;
    bool gave_up;
    size_t untold;
};

/* Whether there is enough to ask with. Nothing of the URL is repeated: it may hold a password. */
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

struct refresher *refresher_create(const struct config *config) {
    struct refresher *refresher;
    bool loopback;

    if (config->admin.url == NULL || config->admin.url[0] == '\0' || !is_usable_url(config, &loopback))
        return NULL;
    refresher = alloc_zero(sizeof *refresher);
    refresher->url = config->admin.url;
    refresher->url_length = strlen(refresher->url);
    while (refresher->url[refresher->url_length - 1] == '/')
        refresher->url_length--;
    refresher->direct = loopback;
    refresher->caller = http_caller_create();
    buffer_appendf(&refresher->authorization, "Authorization: Bearer %s", config->admin.token);
    buffer_append_byte(&refresher->authorization, '\0');
    return refresher;
}

void refresher_destroy(struct refresher *refresher) {
    if (refresher == NULL)
        return;
    if (refresher->untold > 1)
        log_warning("apps",
                    "CURLEW_ADMIN_URL (%s) was not told of %zu changes; it learns of them as from any other "
                    "server",
                    refresher->url, refresher->untold);
    http_caller_destroy(refresher->caller);
    explicit_bzero(refresher->authorization.data, refresher->authorization.length);
    buffer_dispose(&refresher->authorization);
    free(refresher);
}

static unsigned post_notice(struct refresher *refresher, struct slice id, struct error *error) {
    const char *const headers[] = {refresher->authorization.data, NULL};
    const struct deadline deadline = deadline_after(TIMEOUT_MS, -1);
    struct http_call call = {.method = "POST", .headers = headers, .direct = refresher->direct};
    struct buffer url = {0}, answer = {0};
    unsigned status;

    buffer_appendf(&url, "%.*s/admin/apps/%.*s/refresh", (int)refresher->url_length, refresher->url, SLICE_ARGS(id));
    buffer_append_byte(&url, '\0');
    call.url = url.data;
    status = http_caller_call(refresher->caller, &call, &deadline, &answer, error);
    buffer_dispose(&url);
    buffer_dispose(&answer);
    return status;
}

static void request_refresh(struct refresher *refresher, struct slice id) {
    struct error error;
    unsigned status = post_notice(refresher, id, &error);

    if (status >= 200 && status < 300)
        return;
    refresher->untold++;
    refresher->gave_up = status == 0 || status == 401;
    if (status != 0)
        error_set(&error, "it answered with HTTP %u%s", status, status == 401 ? ": look at CURLEW_ADMIN_TOKEN" : "");
    log_warning("apps", "the change of app %.*s is in the store, but CURLEW_ADMIN_URL (%s) was not told: %s",
                SLICE_ARGS(id), refresher->url, error.text);
}

void refresher_tell(struct refresher *refresher, struct slice id) {
    if (refresher == NULL)
        return;
    if (refresher->gave_up)
        refresher->untold++;
    else
        request_refresh(refresher, id);
}
