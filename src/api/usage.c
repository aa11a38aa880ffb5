/*
 * GET /usage: the memory of the machine, or of the control group.
 */
#include "api/api_call.h"
#include "base/memory_usage.h"

void api_get_usage(struct api_call *call) {
    struct memory_usage usage;
    struct buffer answer = {0};

    if (!memory_usage(&usage)) {
        api_refuse(call, 503, REFUSED_REQUEST, "the system does not tell how much memory is in use");
        return;
    }
    buffer_append(&answer, SLICE("{\"memory\":{\"free\":"));
    buffer_append_number(&answer, usage.total_bytes - usage.used_bytes);
    buffer_append(&answer, SLICE(",\"used\":"));
    buffer_append_number(&answer, usage.used_bytes);
    buffer_append(&answer, SLICE(",\"total\":"));
    buffer_append_number(&answer, usage.total_bytes);
    buffer_appendf(&answer, ",\"percent\":%.2f}}", 100 * memory_usage_share(&usage));
    api_answer(call, buffer_slice(&answer));
    buffer_dispose(&answer);
}

void api_get_public_usage(struct api_call *call) {
    if (call->api->config->http_api.usage_enabled)
        api_get_usage(call);
    else
        api_refuse(call, 404, REFUSED_REQUEST, "/usage is off here: http_api.usage_enabled is false");
}
