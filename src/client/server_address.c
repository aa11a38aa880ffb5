#include "client/server_address.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "net/http_client.h"

/* The schemes of WebSocket URLs are those of HTTP under another name. */
static const struct {
    struct slice scheme;
    const char *http;
} schemes[] = {
    {SLICE_INIT("http://"), "http://"},
    {SLICE_INIT("https://"), "https://"},
    {SLICE_INIT("ws://"), "http://"},
    {SLICE_INIT("wss://"), "https://"},
};

#define SCHEME_COUNT (sizeof schemes / sizeof schemes[0])

static char *take_buffer(struct buffer *buffer) {
    char *text = alloc_copy(buffer->data, buffer->length);

    buffer_dispose(buffer);
    return text;
}

/* The URL with a scheme of HTTP; NULL if it has another scheme. */
static char *with_http_scheme(const char *url) {
    for (size_t i = 0; i < SCHEME_COUNT; i++) {
        struct buffer text = {0};
        if (strncasecmp(url, schemes[i].scheme.data, schemes[i].scheme.length) != 0)
            continue;
        buffer_append_string(&text, schemes[i].http);
        buffer_append_string(&text, url + schemes[i].scheme.length);
        while (text.length > 0 && text.data[text.length - 1] == '/')
            text.length--;
        return take_buffer(&text);
    }
    return NULL;
}

bool server_address_parse(struct server_address *address, const char *url, bool insecure, struct error *error) {
    *address = (struct server_address){.url = with_http_scheme(url), .insecure = insecure};
    if (address->url != NULL && strpbrk(address->url, "?#") == NULL && http_url_valid(address->url, &address->direct))
        return true;
    server_address_dispose(address);
    /* The URL may hold a password, so it is not repeated. */
    return error_set(error,
                     "--url must be a URL of http, https, ws or wss without user, password and query, like "
                     "http://127.0.0.1:6001");
}

/* The address to connect to for a server that listens on `host`. */
static const char *reachable_host(const char *host) {
    if (strcmp(host, "0.0.0.0") == 0)
        return "127.0.0.1";
    return strcmp(host, "::") == 0 ? "::1" : host;
}

bool server_address_from_config(struct server_address *address, const struct config *config, struct error *error) {
    const char *host = reachable_host(config->host);
    bool ipv6 = strchr(host, ':') != NULL;
    struct buffer url = {0};

    *address = (struct server_address){.insecure = true, .direct = true};
    if (!config->unix_socket.enabled && config->port == 0)
        return error_set(error, "port is 0 in the configuration, so the kernel chooses it: name the server with --url");
    buffer_append_string(&url, config->ssl.enabled ? "https://" : "http://");
    if (config->unix_socket.enabled) {
        address->unix_socket = alloc_copy(config->unix_socket.path, strlen(config->unix_socket.path));
        buffer_append_string(&url, "localhost");
    } else {
        buffer_appendf(&url, "%s%s%s:%u", ipv6 ? "[" : "", host, ipv6 ? "]" : "", config->port);
    }
    buffer_append_string(&url, config->path_prefix);
    address->url = take_buffer(&url);
    return true;
}

void server_address_dispose(struct server_address *address) {
    free(address->url);
    free(address->unix_socket);
    *address = (struct server_address){0};
}
