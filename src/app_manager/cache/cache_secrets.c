#include "app_manager/cache/cache_secrets.h"

#include "app/app_secret.h"
#include "base/log.h"

void cache_secrets_init(struct cache_secrets *secrets, const struct app_store *store) {
    secrets->has_keys = store_has_keys(store);
    atomic_init(&secrets->plain, 0);
}

/* 1, 10, 100, ... */
static bool is_power_of_ten(unsigned number) {
    while (number % 10 == 0 && number != 0)
        number /= 10;
    return number == 1;
}

/* Logs the first one, and then the number each time that it has grown tenfold. */
static void warn_of_plain_secret(struct cache_secrets *secrets, const struct app *app) {
    unsigned count = atomic_fetch_add(&secrets->plain, 1) + 1;

    if (is_power_of_ten(count))
        log_warning("app",
                    "app \"%s\": its secret is plain text in the store, although there is a key; so far %u such "
                    "record%s been read; `curlew apps encrypt-secrets` encrypts them",
                    app->id.data, count, count == 1 ? " has" : "s have");
}

void cache_secrets_warn(struct cache_secrets *secrets, const struct app *app) {
    if (secrets->has_keys && app_has_plain_secret(app))
        warn_of_plain_secret(secrets, app);
}
