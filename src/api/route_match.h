/*
 * Matching a path with the patterns of a table of routes.
 */
#pragma once

#include "api/api_call.h"

/*
 * True if `path` has the form of `pattern`; `parameters` gets what stands at its braces, as received. A parameter is
 * never empty, and `{...}` takes as much as the rest of the pattern leaves it.
 */
bool route_matches(const char *pattern, struct slice path, struct slice parameters[ROUTE_PARAMETERS]);

/* Takes scheme and host off a target in absolute form (RFC 9112 section 3.2.2). */
struct slice route_path(struct slice path);

/* Takes `prefix` (empty, or "/a/b") off the front of `path`; false if it is not there. */
bool route_strip_prefix(struct slice prefix, struct slice *path);
