/*
 * Server under test, and its app.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/crypto.h"

struct target {
    const char *url; /* URL of the command line */
    char host[300];  /* host:port for the Host header */
    struct sockaddr_storage address;
    socklen_t address_length;
    const char *app_id;
    const char *app_key;
    struct hmac_key secret;
    bool tls;      /* the URL begins with https:// */
    bool compress; /* subscribers offer permessage-deflate, and events are so large that their frames have as many bytes
                      on the wire as those of an uncompressed target */
    pid_t pid;     /* 0: unknown, so CPU time and memory are not measured */
};

/* Parses http://HOST:PORT or https://HOST:PORT and resolves the host; ends the program with a usage error if that
 * fails. */
void target_set_url(struct target *target, const char *url);

/*
 * Starts to connect to the target; returns a non-blocking TCP socket with TCP_NODELAY. Connections to a loopback
 * address use the source addresses from 127.0.0.2 on, a few thousand sockets each, so that ephemeral ports do not run
 * out.
 */
int target_connect(const struct target *target);
