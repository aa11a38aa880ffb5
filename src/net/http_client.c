#include "net/http_client.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define ANSWER_MAX_MB 16u /* a page of DynamoDB is 1 MB before it is encoded as JSON */

struct http_caller {
    CURLM *multi; /* owns the kept connection */
    CURL *easy;
    char why[CURL_ERROR_SIZE];
};

static void start_curl(void) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

void http_client_init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, start_curl);
}

struct http_caller *http_caller_create(void) {
    struct http_caller *caller = alloc_zero(sizeof *caller);

    http_client_init();
    caller->multi = curl_multi_init();
    caller->easy = curl_easy_init();
    if (caller->multi == NULL || caller->easy == NULL)
        abort(); /* out of memory */
    return caller;
}

void http_caller_destroy(struct http_caller *caller) {
    curl_easy_cleanup(caller->easy);
    curl_multi_cleanup(caller->multi);
    free(caller);
}

static size_t collect_body(char *data, size_t size, size_t count, void *context) {
    struct buffer *answer = context;
    size_t length = size * count;

    if (answer->length + length > ANSWER_MAX_MB << 20 || !buffer_try_reserve(answer, length + 1))
        return CURL_WRITEFUNC_ERROR;
    buffer_append_bytes(answer, data, length);
    return length;
}

static struct curl_slist *with_header(struct curl_slist *list, const char *header) {
    struct curl_slist *longer = curl_slist_append(list, header);

    if (longer == NULL)
        abort(); /* out of memory */
    return longer;
}

static struct curl_slist *headers_of(const struct http_call *call) {
    /* libcurl signs all of these, so none may be a header that it leaves out, like `Expect:`. */
    struct curl_slist *list = NULL;

    for (const char *const *header = call->headers; header != NULL && *header != NULL; header++)
        list = with_header(list, *header);
    if (call->signature != NULL && call->signature->session_token != NULL) {
        struct buffer token = {0};
        buffer_append_string(&token, "X-Amz-Security-Token: ");
        buffer_append_string(&token, call->signature->session_token);
        buffer_append_byte(&token, '\0');
        list = with_header(list, token.data);
        buffer_dispose(&token);
    }
    return list;
}

static void sign_request(CURL *easy, const struct http_call *call) {
    struct buffer scope = {0};

    buffer_appendf(&scope, "aws:amz:%s:%s", call->signature->region, call->signature->service);
    buffer_append_byte(&scope, '\0');
    curl_easy_setopt(easy, CURLOPT_AWS_SIGV4, scope.data);
    curl_easy_setopt(easy, CURLOPT_USERNAME, call->signature->access_key_id);
    curl_easy_setopt(easy, CURLOPT_PASSWORD, call->signature->secret_access_key);
    buffer_dispose(&scope);
}

static void set_up(struct http_caller *caller, const struct http_call *call, struct curl_slist *headers,
                   const struct deadline *deadline, struct buffer *answer) {
    CURL *easy = caller->easy;

    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* do not join a resolver thread that hangs */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "curlew");
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, caller->why);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, collect_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(easy, CURLOPT_URL, call->url);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L); /* an app id may be ".." */
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    if (strcmp(call->method, "GET") != 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)call->body.length);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body.length != 0 ? call->body.data : "");
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
    }
    curl_easy_setopt(
        easy, CURLOPT_CONNECTTIMEOUT_MS,
        (long)(call->connect_timeout_ms != 0 ? call->connect_timeout_ms : deadline_remaining_ms(deadline) + 1));
    if (call->direct)
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    if (call->unix_socket != NULL)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, call->unix_socket);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, call->insecure ? 0L : 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, call->insecure ? 0L : 2L);
    if (call->signature != NULL)
        sign_request(easy, call);
}

bool http_explain_failure(const char *why, struct error *error) {
    /* OpenSSL's words for an answer that is not TLS. */
    if (strstr(why, "wrong version number") != NULL)
        return error_set(error, "the port answers without TLS: use http in place of https (%s)", why);
    return error_set(error, "%s", why);
}

static bool give_up(const struct deadline *deadline, struct error *error) {
    return error_set(error, deadline_remaining_ms(deadline) == 0 ? "no answer in time" : "stopped");
}

/* Runs the transfer to its end; false with an error if it failed or the deadline passed. */
static bool perform_transfer(struct http_caller *caller, const struct deadline *deadline, struct error *error) {
    /* After the deadline nothing may be sent. */
    if (deadline_passed(deadline))
        return give_up(deadline, error);
    for (;;) {
        struct curl_waitfd stop = {.fd = deadline->cancel_fd, .events = CURL_WAIT_POLLIN};
        int running = 0, left;
        CURLMsg *message;

        curl_multi_perform(caller->multi, &running);
        message = curl_multi_info_read(caller->multi, &left);
        if (message != NULL && message->msg == CURLMSG_DONE) {
            CURLcode code = message->data.result;
            if (code == CURLE_WRITE_ERROR)
                return error_set(error, "the answer is over %u MB", ANSWER_MAX_MB);
            return code == CURLE_OK ||
                   http_explain_failure(caller->why[0] != '\0' ? caller->why : curl_easy_strerror(code), error);
        }
        if (deadline_passed(deadline))
            return give_up(deadline, error);
        curl_multi_poll(caller->multi, &stop, deadline->cancel_fd >= 0 ? 1 : 0, (int)deadline_remaining_ms(deadline),
                        NULL);
    }
}

unsigned http_caller_call(struct http_caller *caller, const struct http_call *call, const struct deadline *deadline,
                          struct buffer *answer, struct error *error) {
    struct curl_slist *headers = headers_of(call);
    long status = 0;
    bool done;

    answer->length = 0;
    caller->why[0] = '\0';
    set_up(caller, call, headers, deadline, answer);
    curl_multi_add_handle(caller->multi, caller->easy);
    done = perform_transfer(caller, deadline, error);
    if (done)
        curl_easy_getinfo(caller->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(caller->multi, caller->easy);
    curl_slist_free_all(headers);
    buffer_append_byte(answer, '\0');
    answer->length--;
    if (done && status == 0)
        error_set(error, "the answer is not HTTP");
    return (unsigned)status;
}

static bool is_loopback(const char *host) {
    struct in_addr v4;

    return strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
           (inet_pton(AF_INET, host, &v4) == 1 && (ntohl(v4.s_addr) >> 24) == 127);
}

bool http_url_valid(const char *url, bool *loopback) {
    CURLU *parts = curl_url();
    char *scheme = NULL, *host = NULL, *user = NULL;
    bool valid = parts != NULL && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
                 curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                 curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                 curl_url_get(parts, CURLUPART_USER, &user, 0) == CURLUE_NO_USER &&
                 (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) && host[0] != '\0';

    if (loopback != NULL)
        *loopback = valid && is_loopback(host);
    curl_free(scheme);
    curl_free(host);
    curl_free(user);
    curl_url_cleanup(parts);
    return valid;
}
