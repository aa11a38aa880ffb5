/*
 * The server under test and the app on it.
 */
#pragma once

#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/crypto.h"

struct target {
    const char *url; /* as given */
    char host[300];  /* host:port, for the Host header */
    struct sockaddr_storage address;
    socklen_t address_length;
    const char *app_id;
    const char *app_key;
    struct hmac_key secret;
    pid_t pid; /* 0 when unknown: no CPU time and no memory then */
};

/* Takes http://HOST:PORT apart and resolves it; ends the program with a usage error if that does not work. */
void target_set_url(struct target *target, const char *url);

/*
 * A non-blocking TCP socket with TCP_NODELAY whose connection to the target is under way. To a loopback address it
 * comes from 127.0.0.2 and on, some thousand sockets from each, so that ephemeral ports do not run out.
 */
int target_connect(const struct target *target);
