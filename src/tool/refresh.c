#include "tool/refresh.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/log.h"

#define TIMEOUT_MS 3000L

struct refresher {
    const char *url;
    CURL *curl;
    struct curl_slist *headers;
    bool failed;
};

static size_t drop(char *data, size_t size, size_t count, void *context) {
    (void)data;
    (void)context;
    return size * count;
}

static void add_token(struct refresher *refresher, const char *token) {
    struct buffer header = {0};

    buffer_appendf(&header, "Authorization: Bearer %s", token);
    buffer_append_byte(&header, '\0');
    refresher->headers = curl_slist_append(refresher->headers, header.data);
    explicit_bzero(header.data, header.length);
    buffer_dispose(&header);
}

struct refresher *refresher_create(const struct config *config) {
    struct refresher *refresher;

    if (config->admin.url == NULL || config->admin.url[0] == '\0')
        return NULL;
    refresher = alloc_zero(sizeof *refresher);
    refresher->url = config->admin.url;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    refresher->curl = curl_easy_init();
    if (refresher->curl == NULL) {
        refresher_destroy(refresher);
        return NULL;
    }
    if (config->admin.token != NULL)
        add_token(refresher, config->admin.token);
    curl_easy_setopt(refresher->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(refresher->curl, CURLOPT_HTTPHEADER, refresher->headers);
    curl_easy_setopt(refresher->curl, CURLOPT_POSTFIELDS, "");
    curl_easy_setopt(refresher->curl, CURLOPT_PATH_AS_IS, 1L); /* an app may be called ".." */
    curl_easy_setopt(refresher->curl, CURLOPT_TIMEOUT_MS, TIMEOUT_MS);
    curl_easy_setopt(refresher->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(refresher->curl, CURLOPT_WRITEFUNCTION, drop);
    return refresher;
}

void refresher_destroy(struct refresher *refresher) {
    if (refresher == NULL)
        return;
    curl_easy_cleanup(refresher->curl);
    curl_slist_free_all(refresher->headers);
    curl_global_cleanup();
    free(refresher);
}

void refresher_tell(struct refresher *refresher, struct slice id) {
    struct buffer url = {0};
    long status = 0;
    CURLcode code;
    size_t length;

    if (refresher == NULL || refresher->failed)
        return;
    length = strlen(refresher->url);
    while (length > 0 && refresher->url[length - 1] == '/')
        length--;
    buffer_appendf(&url, "%.*s/admin/apps/%.*s/refresh", (int)length, refresher->url, SLICE_ARGS(id));
    buffer_append_byte(&url, '\0');
    curl_easy_setopt(refresher->curl, CURLOPT_URL, url.data);
    code = curl_easy_perform(refresher->curl);
    curl_easy_getinfo(refresher->curl, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK)
        log_warning("apps", "the store is written, but CURLEW_ADMIN_URL (%s) was not told: %s", refresher->url,
                    curl_easy_strerror(code));
    else if (status < 200 || status >= 300)
        log_warning("apps", "the store is written, but CURLEW_ADMIN_URL (%s) answered the refresh with HTTP %ld%s",
                    refresher->url, status, status == 401 ? ": look at CURLEW_ADMIN_TOKEN" : "");
    refresher->failed = code != CURLE_OK || status < 200 || status >= 300;
    buffer_dispose(&url);
}
