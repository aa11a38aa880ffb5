/*
 * Where NATS servers are, and how to sign in: what the settings `adapter.nats` say, read once at the start.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "cluster/nats/nats_key.h"
#include "config/config.h"

/* One server. */
struct nats_address {
    char *host;
    uint16_t port;
    bool tls;       /* the URL begins with tls:// */
    char *user;     /* from the URL; NULL: as the settings say */
    char *password; /* NULL with a user: that is a token */
};

struct nats_settings {
    struct nats_address *servers; /* as configured; at least one */
    size_t count;
    const char *username, *password, *token; /* NULL: none */
    const char *nkey_seed_path;              /* NULL: none */
    char nkey[NATS_KEY_LENGTH + 1];          /* the public key that belongs to the seed */
    bool tls;                                /* also for servers whose URL does not ask for it */
    const char *ca_path, *cert_path, *key_path;
    uint32_t connection_timeout_ms;
};

/*
 * Parses `[nats://|tls://][USER[:PASSWORD]@]HOST[:PORT]`; user and password are percent-decoded. False with an error
 * that quotes no password.
 */
bool nats_address_parse(struct nats_address *address, struct slice url, struct error *error);
void nats_address_dispose(struct nats_address *address);

/* Reads the settings; strings of `config` are borrowed. False with an error that names the setting. */
bool nats_settings_read(struct nats_settings *settings, const struct config *config, struct error *error);
void nats_settings_dispose(struct nats_settings *settings);
