/*
 * What a NATS server says of itself before anything else: one line, `INFO {...}`.
 *
 * The library reads it too, but tells neither the name of the cluster nor what is wrong when there is no such line. So
 * it is read once before each connect, by a connection that ends with it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/deadline.h"
#include "base/error.h"
#include "base/slice.h"
#include "cluster/nats/nats_address.h"

/* The most servers that are taken over from a server's list. */
#define NATS_OTHERS_MAX 32

/* The longest line that is read. */
#define NATS_INFO_MAX_BYTES 32768

struct nats_info {
    bool in_cluster; /* the server names a cluster: others may have subscribers that it does not know of yet */
    bool tls_required;
    bool auth_required;
    size_t max_payload;
    /* The addresses of all servers of the cluster, HOST:PORT, as this one knows them. */
    char *others[NATS_OTHERS_MAX];
    size_t others_count;
};

/* Parses the line without its end; false if it is no INFO line. */
bool nats_info_parse(struct nats_info *info, struct slice line);
void nats_info_dispose(struct nats_info *info);

/* The longest URL that nats_info_read writes: [IPv6]:PORT. */
#define NATS_URL_MAX 80

/*
 * Connects to the first address of the server's name that accepts, and reads its line. `url` is then that address, in
 * numbers, for the library. False with an error that names the server. Blocks.
 */
bool nats_info_read(const struct nats_address *address, const struct deadline *deadline, struct nats_info *info,
                    char url[NATS_URL_MAX], struct error *error);
