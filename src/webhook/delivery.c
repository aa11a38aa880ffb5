#include "webhook/delivery.h"

#include <curl/curl.h>
#include <limits.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "net/http_client.h"

struct delivery {
    const struct config *config;
    CURLM *multi;
};

struct delivery *delivery_create(const struct config *config, struct error *error) {
    struct delivery *delivery = alloc_zero(sizeof *delivery);

    http_client_init();
    delivery->config = config;
    delivery->multi = curl_multi_init();
    if (delivery->multi != NULL)
        return delivery;
    error_set(error, "webhooks: no memory for libcurl");
    free(delivery);
    return NULL;
}

void delivery_destroy(struct delivery *delivery) {
    if (delivery == NULL)
        return;
    curl_multi_cleanup(delivery->multi);
    free(delivery);
}

void delivery_add(struct delivery *delivery, struct app *app, size_t index, struct slice channel, struct slice json,
                  uint64_t time_ms) {
    (void)delivery, (void)app, (void)index, (void)channel, (void)json, (void)time_ms;
}

void delivery_app_changed(struct delivery *delivery, struct slice app_id, struct app *app) {
    (void)delivery, (void)app_id, (void)app;
}

uint64_t delivery_run(struct delivery *delivery, uint64_t now_ms) {
    (void)delivery, (void)now_ms;
    return UINT64_MAX;
}

bool delivery_wait(struct delivery *delivery, int event_fd, uint64_t now_ms, uint64_t until_ms) {
    struct curl_waitfd mailbox = {.fd = event_fd, .events = CURL_WAIT_POLLIN};
    uint64_t wait_ms = until_ms > now_ms ? until_ms - now_ms : 0;

    curl_multi_poll(delivery->multi, &mailbox, 1, wait_ms < INT_MAX ? (int)wait_ms : INT_MAX, NULL);
    return mailbox.revents != 0;
}

void delivery_drain(struct delivery *delivery) {
    (void)delivery;
}

bool delivery_idle(const struct delivery *delivery) {
    (void)delivery;
    return true;
}
