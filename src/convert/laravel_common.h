/* What the servers of the Laravel family have in common: no limits of names and payloads, hosts as origins, PHP's TLS.
 */
#pragma once

#include "convert/conversion.h"

struct laravel_variable {
    const char *name;
    const char *path; /* NULL: dropped with `reason` */
    const char *reason;
};

/* Sets each path to its variable, or to null with the variable's name. Reports other variables with that prefix. */
void laravel_set_variables(struct conversion *conversion, const json_t *variables, const struct laravel_variable *table,
                           size_t count, const char *const *prefixes);

/* These servers have no limits of names, payloads, members and requests. */
void laravel_put_no_limits(struct conversion *conversion);

/* Id, key or secret of an app, and limits on its connections; adds to `record`. */
void laravel_app_text(struct conversion *conversion, struct source *app, const char *theirs, const char *ours,
                      json_t *record);
void laravel_app_connections(struct conversion *conversion, struct source *app, const char *theirs, json_t *record);

/* Hosts become origins: each with any port. NULL: every origin may connect, or an error. Takes the node. */
json_t *laravel_origins(struct conversion *conversion, struct source *list);

/* `ssl` from PHP's stream context: local_cert, local_pk, passphrase. `tls` may be NULL. */
void laravel_put_tls(struct conversion *conversion, struct source *tls);

/* Largest message of a client, in bytes. */
void laravel_put_message_size(struct conversion *conversion, const struct source *at, double bytes);
