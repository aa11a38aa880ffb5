/*
 * Statistics as JSON: the totals of one app, or of all.
 *
 *   GET /stats        of the app whose key signs the request; of all apps, if http_api.stats_public is on and the
 *                     request is not signed
 *   GET /admin/stats  of all apps
 */
#pragma once

#include "api/api_call.h"
#include "base/buffer.h"

/* Appends the page of all apps, in the members that operators' dashboards know. Any thread. */
void stats_append_page(const struct api *api, struct buffer *text);

/* Answers with that page. Only while api->stats is set. */
void stats_answer_all(struct api_call *call);
