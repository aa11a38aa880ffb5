/*
 * Events of webhooks as JSON.
 */
#pragma once

#include "app/webhook_event.h"
#include "base/buffer.h"

/* Appends the event as one object: `{"name":"member_added","channel":"presence-a","user_id":"1"}`. Any thread. */
void webhook_event_append(struct buffer *out, const struct webhook_event *event);
