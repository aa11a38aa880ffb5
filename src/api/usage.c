/*
 * GET /usage: the memory of the machine, or of the control group.
 */
#include "api/usage.h"

#include "api/api_call.h"
#include "base/memory_usage.h"

bool usage_append_memory(struct buffer *text) {
    struct memory_usage usage;

    if (!memory_usage(&usage))
        return false;
    buffer_append(text, SLICE("\"memory\":{\"free\":"));
    buffer_append_number(text, usage.total_bytes - usage.used_bytes);
    buffer_append(text, SLICE(",\"used\":"));
    buffer_append_number(text, usage.used_bytes);
    buffer_append(text, SLICE(",\"total\":"));
    buffer_append_number(text, usage.total_bytes);
    buffer_appendf(text, ",\"percent\":%.2f}", 100 * memory_usage_share(&usage));
    return true;
}

void api_get_usage(struct api_call *call) {
    struct buffer answer = {0};

    buffer_append_byte(&answer, '{');
    if (usage_append_memory(&answer)) {
        buffer_append_byte(&answer, '}');
        api_answer(call, buffer_slice(&answer));
    } else {
        api_refuse(call, 503, REFUSED_REQUEST, "cannot read from the system how much memory is in use");
    }
    buffer_dispose(&answer);
}

void api_get_public_usage(struct api_call *call) {
    if (call->api->config->http_api.usage_enabled)
        api_get_usage(call);
    else
        api_refuse(call, 404, REFUSED_REQUEST, "/usage is off here: http_api.usage_enabled is false");
}
