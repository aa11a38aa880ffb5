/*
 * Matching of paths with the patterns of routes.
 */
#pragma once

#include "api/api_call.h"

/*
 * True if `path` matches `pattern`; `parameters` gets the text at its braces, as received. A parameter is never empty,
 * and
 * `{...}` matches as much as the rest of the pattern allows.
 */
bool route_matches(const char *pattern, struct slice path, struct slice parameters[ROUTE_PARAMETERS]);

/* The path of a target, without scheme and host if it has the absolute form (RFC 9112 section 3.2.2). */
struct slice route_path(struct slice path);

/* Removes `prefix` (empty, or "/a/b") from the front of `path`; false if `path` does not begin with it. */
bool route_strip_prefix(struct slice prefix, struct slice *path);
