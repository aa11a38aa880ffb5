#include "cluster/nats/nats_connect.h"

#include <stdio.h>
#include <string.h>

/* The settings that name the user; what the URL says comes first. */
static const char *credentials_in_use(const struct nats_settings *settings, const struct nats_address *address) {
    if (address != NULL && address->user != NULL)
        return "the user in adapter.nats.servers";
    if (settings->nkey_seed_path != NULL)
        return "the key in adapter.nats.nkey_seed_path";
    if (settings->token != NULL)
        return "adapter.nats.token";
    return settings->username != NULL ? "adapter.nats.username and adapter.nats.password" : NULL;
}

static natsStatus set_credentials(natsOptions *options, const struct nats_settings *settings,
                                  const struct nats_address *address) {
    if (address->user != NULL)
        return address->password != NULL ? natsOptions_SetUserInfo(options, address->user, address->password)
                                         : natsOptions_SetToken(options, address->user);
    if (settings->nkey_seed_path != NULL)
        return natsOptions_SetNKeyFromSeed(options, settings->nkey, settings->nkey_seed_path);
    if (settings->token != NULL)
        return natsOptions_SetToken(options, settings->token);
    if (settings->username != NULL)
        return natsOptions_SetUserInfo(options, settings->username,
                                       settings->password != NULL ? settings->password : "");
    return NATS_OK;
}

/* The library's own words for the last error of this thread, without its file and line: "(conn.c:733): ". */
static const char *last_nats_error(natsStatus status) {
    const char *text = nats_GetLastError(NULL);
    const char *end = text != NULL && text[0] == '(' ? strstr(text, "): ") : NULL;

    text = end != NULL ? end + 3 : text;
    return text != NULL && text[0] != '\0' ? text : natsStatus_GetText(status);
}

static bool tls_file_refused(const char *setting, const char *path, struct error *error) {
    return error_set(error, "adapter.nats.tls.%s %s: %s", setting, path, last_nats_error(NATS_SSL_ERROR));
}

static bool set_tls(natsOptions *options, const struct nats_settings *settings, const char *host, struct error *error) {
    const char *key_path = settings->key_path != NULL ? settings->key_path : settings->cert_path;

    if (natsOptions_SetSecure(options, true) != NATS_OK || natsOptions_SetExpectedHostname(options, host) != NATS_OK)
        return error_set(error, "TLS to NATS: the library was built without it");
    if (settings->ca_path != NULL && natsOptions_LoadCATrustedCertificates(options, settings->ca_path) != NATS_OK)
        return tls_file_refused("ca_path", settings->ca_path, error);
    if (settings->cert_path != NULL &&
        natsOptions_LoadCertificatesChain(options, settings->cert_path, key_path) != NATS_OK)
        return tls_file_refused("cert_path", settings->cert_path, error);
    return true;
}

/* --- errors --- */

static bool refused_credentials(const struct nats_settings *settings, const struct nats_address *address,
                                struct error *error) {
    const char *credentials = credentials_in_use(settings, address);

    if (credentials == NULL)
        return error_set(error,
                         "it wants to know who connects: set adapter.nats.username and adapter.nats.password, "
                         "adapter.nats.token or adapter.nats.nkey_seed_path");
    return error_set(error, "it refuses %s", credentials);
}

static bool connect_failed(natsStatus status, const struct nats_settings *settings, const struct nats_address *address,
                           struct error *error) {
    const char *text = last_nats_error(status);

    if (status == NATS_CONNECTION_AUTH_FAILED || strcasestr(text, "authorization") != NULL)
        refused_credentials(settings, address, error);
    else if (status == NATS_SSL_ERROR)
        error_set(error, "TLS failed: %s; look at adapter.nats.tls, and at the name in adapter.nats.servers", text);
    else if (status == NATS_SECURE_CONNECTION_WANTED)
        error_set(error, "it does not offer TLS: write nats:// in place of tls://");
    else if (status == NATS_NO_SERVER_SUPPORT)
        error_set(error, "the server is too old: a connection without an echo needs NATS 1.2");
    else
        error_set(error, "%s", text);
    return error_prefix(error, "NATS at %s:%u", address->host, address->port);
}

void nats_explain(const struct nats_settings *settings, const char *server, const char *text, struct error *error) {
    if (strcasestr(text, "authorization") != NULL || strcasestr(text, "authentication") != NULL)
        refused_credentials(settings, NULL, error);
    else
        error_set(error, "the connection has ended: %s", text);
    error_prefix(error, "NATS at %s", server);
}

/* --- connecting --- */

natsConnection *nats_connect(natsOptions *options, const struct nats_settings *settings,
                             const struct nats_address *address, const struct deadline *deadline,
                             struct nats_info *info, struct error *error) {
    char url[NATS_URL_MAX];
    natsConnection *connection = NULL;
    natsStatus status;

    if (!nats_info_read(address, deadline, info, url, error))
        return NULL;
    if ((address->tls || settings->tls || info->tls_required) && !set_tls(options, settings, address->host, error)) {
        nats_info_dispose(info);
        return NULL;
    }
    status = set_credentials(options, settings, address);
    if (status == NATS_OK)
        status = natsOptions_SetURL(options, url);
    if (status == NATS_OK)
        status = natsOptions_SetTimeout(options, deadline_remaining_ms(deadline) + 1);
    if (status == NATS_OK)
        status = natsConnection_Connect(&connection, options);
    if (status == NATS_OK)
        return connection;
    connect_failed(status, settings, address, error);
    nats_info_dispose(info);
    return NULL;
}
