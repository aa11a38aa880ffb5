#include "app_manager/cache/cache_secrets.h"

#include "app/app_secret.h"
#include "base/log.h"
#include "config/config_known_secret.h"

#define KNOWN_NAMED 100

void cache_secrets_init(struct cache_secrets *secrets, const struct config *config, const struct app_store *store) {
    secrets->production = config_is_production(config);
    atomic_init(&secrets->known, 0);
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

/* What is known of the secrets that an app accepts; NULL: nothing. */
static const char *known_danger(const struct app *app) {
    if (config_secret_is_known(app->secret))
        return config_secret_danger(app->secret);
    return config_previous_secret_danger(app->previous_secret, app->previous_secret_until);
}

/* Names the first apps only. */
static void warn_of_known_secret(struct cache_secrets *secrets, const struct app *app, const char *danger) {
    unsigned count = atomic_fetch_add(&secrets->known, 1);

    if (count < KNOWN_NAMED)
        log_warning("app", "app \"%s\": %s", app->id.data, danger);
    else if (count == KNOWN_NAMED)
        log_warning("app", "more than %d apps have a secret that is publicly known; `curlew check --strict` names them",
                    KNOWN_NAMED);
}

void cache_secrets_warn(struct cache_secrets *secrets, const struct app *app, bool written) {
    const char *danger = secrets->production ? known_danger(app) : NULL;

    if (danger != NULL)
        warn_of_known_secret(secrets, app, danger);
    if (!written && secrets->has_keys && app_has_plain_secret(app))
        warn_of_plain_secret(secrets, app);
}
