#include "cluster/nats/nats_address.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/query.h"
#include "base/secret_text.h"

#define NATS_PORT 4222

void nats_address_dispose(struct nats_address *address) {
    free(address->host);
    free(address->user);
    secret_free(address->password);
    *address = (struct nats_address){0};
}

static char *decoded_part(struct slice text) {
    struct buffer out = {0};
    char *copy;

    percent_decode(text, &out);
    copy = alloc_copy(out.data, out.length);
    secret_buffer_dispose(&out);
    return copy;
}

static bool take_scheme(struct slice *url, bool *tls) {
    const char *end = memmem(url->data, url->length, "://", 3);
    struct slice scheme = {url->data, end != NULL ? (size_t)(end - url->data) : 0};

    if (end == NULL)
        return true;
    *tls = slice_equal_ignoring_case(scheme, SLICE("tls"));
    *url = slice_skip(*url, scheme.length + 3);
    return *tls || slice_equal_ignoring_case(scheme, SLICE("nats"));
}

static void take_user(struct nats_address *address, struct slice *url) {
    const char *at = memrchr(url->data, '@', url->length);
    struct slice user = {url->data, at != NULL ? (size_t)(at - url->data) : 0};
    const char *colon = memchr(user.data, ':', user.length);

    if (at == NULL)
        return;
    *url = slice_skip(*url, user.length + 1);
    if (colon != NULL) {
        size_t length = (size_t)(colon - user.data);
        address->password = decoded_part(slice_skip(user, length + 1));
        user.length = length;
    }
    address->user = decoded_part(user);
}

static bool take_host(struct nats_address *address, struct slice url) {
    struct slice host = url, port = {NULL, 0};
    const char *colon = memrchr(url.data, ':', url.length);
    unsigned long long number = NATS_PORT;

    if (url.length > 0 && url.data[url.length - 1] == '/')
        host.length--;
    if (host.length > 0 && host.data[0] == '[') { /* an IPv6 address */
        const char *end = memchr(host.data, ']', host.length);
        if (end == NULL)
            return false;
        port = slice_skip(host, (size_t)(end + 1 - host.data));
        host = (struct slice){host.data + 1, (size_t)(end - host.data - 1)};
        if (port.length > 0 && port.data[0] != ':')
            return false;
        port = port.length > 0 ? slice_skip(port, 1) : port;
    } else if (colon != NULL) {
        port = (struct slice){colon + 1, (size_t)(host.data + host.length - colon - 1)};
        host.length = (size_t)(colon - host.data);
    }
    if (host.length == 0 || memchr(host.data, ' ', host.length) != NULL || memchr(host.data, 0, host.length) != NULL)
        return false;
    if (port.data != NULL && port.length > 0 && (!slice_to_number(port, UINT16_MAX, &number) || number == 0))
        return false;
    address->host = alloc_copy(host.data, host.length);
    address->port = (uint16_t)number;
    return true;
}

bool nats_address_parse(struct nats_address *address, struct slice url, struct error *error) {
    struct slice rest = slice_trim(url);

    *address = (struct nats_address){0};
    if (rest.length > 0 && take_scheme(&rest, &address->tls)) {
        take_user(address, &rest);
        if (take_host(address, rest))
            return true;
    }
    nats_address_dispose(address);
    return error_set(error,
                     "adapter.nats.servers has an entry that is no address of a NATS server: write nats://HOST:PORT or "
                     "tls://HOST:PORT");
}

/* --- settings --- */

void nats_settings_dispose(struct nats_settings *settings) {
    for (size_t i = 0; i < settings->count; i++)
        nats_address_dispose(&settings->servers[i]);
    free(settings->servers);
    *settings = (struct nats_settings){0};
}

static bool tls_file_readable(const char *setting, const char *path, struct error *error) {
    return path == NULL || access(path, R_OK) == 0 ||
           error_set(error, "adapter.nats.tls.%s %s: %s", setting, path, strerror(errno));
}

static bool read_servers(struct nats_settings *settings, const struct config_list *urls, struct error *error) {
    settings->servers = alloc_array(NULL, urls->count > 0 ? urls->count : 1, sizeof *settings->servers);
    for (size_t i = 0; i < urls->count; i++) {
        if (!nats_address_parse(&settings->servers[i], slice_of(urls->items[i]), error))
            return false;
        settings->count++;
    }
    return settings->count > 0 || error_set(error, "adapter.nats.servers is empty: name a NATS server");
}

bool nats_settings_read(struct nats_settings *settings, const struct config *config, struct error *error) {
    *settings = (struct nats_settings){
        .username = config->adapter.nats.username,
        .password = config->adapter.nats.password,
        .token = config->adapter.nats.token,
        .nkey_seed_path = config->adapter.nats.nkey_seed_path,
        .ca_path = config->adapter.nats.tls.ca_path,
        .cert_path = config->adapter.nats.tls.cert_path,
        .key_path = config->adapter.nats.tls.key_path,
        .connection_timeout_ms = config->adapter.nats.connection_timeout_ms,
    };
    settings->tls = settings->ca_path != NULL || settings->cert_path != NULL || settings->key_path != NULL;
    if (read_servers(settings, &config->adapter.nats.servers, error) &&
        tls_file_readable("ca_path", settings->ca_path, error) &&
        tls_file_readable("cert_path", settings->cert_path, error) &&
        tls_file_readable("key_path", settings->key_path, error) &&
        (settings->nkey_seed_path == NULL || nats_key_from_file(settings->nkey_seed_path, settings->nkey, error)))
        return true;
    nats_settings_dispose(settings);
    return false;
}
