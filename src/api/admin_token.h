/*
 * The token of the admin API, which every request to it carries.
 */
#pragma once

#include "api/api_call.h"

/* True if the request has the token; otherwise it is answered with 401, and its address is logged. */
bool admin_token_admits(struct api_call *call);
