/*
 * Server-wide defaults for tests that parse apps without a configuration.
 */
#pragma once

#include "app/app.h"

/* Sets every number to 100. */
static inline void app_defaults_of_100(struct app_defaults *defaults) {
    *defaults = (struct app_defaults){
        .max_read_requests_per_second = 100,
        .max_backend_events_per_second = 100,
        .max_presence_members_per_channel = 100,
        .max_presence_member_size_in_kb = 100,
        .max_channel_name_length = 100,
        .max_event_channels_at_once = 100,
        .max_event_name_length = 100,
        .max_event_payload_in_kb = 100,
        .max_event_batch_size = 100,
    };
}
