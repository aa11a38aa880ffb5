/*
 * The patterns of an app's allowed_origins, and the Origin header of a browser (RFC 6454 section 7).
 *
 *     pattern   [scheme://] host [:port]     with at most one `*` anywhere
 *     origin    scheme://host[:port]         or `null`
 *
 * The parts are compared one by one and without regard to case, so a `*` never reaches into the next part. Without a
 * scheme a pattern stands for any. Without a port it stands for the default port of the origin's scheme. A host that
 * begins with `*.` is also the domain itself. The pattern `*` matches every origin, and is the only one for `null`.
 */
#pragma once

#include <stdbool.h>

#include "app/app.h"

/* True if the origin matches the pattern. Any bytes may be in both. */
bool origin_matches(struct slice pattern, struct slice origin);

/* True if connections with this Origin header may connect to the app; `origin` without data: there is no such header.
 */
bool app_allows_origin(const struct app *app, struct slice origin);
