#include "aws/credential_chain.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#define RENEW_BEFORE_MS UINT64_C(300000)
#define RENEW_AGAIN_MS 10000  /* after a renewal, whether it failed or not */
#define DEADLINE_CHECK_MS 50u /* how often a thread that waits for another's renewal checks its deadline */

struct aws_chain {
    struct aws_provider_settings settings;
    pthread_mutex_t mutex;
    pthread_cond_t renewed;
    struct aws_credentials current; /* without a key: none yet */
    bool renewing;                  /* a thread is renewing them */
    uint64_t retry_ms;              /* no renewal before that, on the monotonic clock */
};

struct aws_chain *aws_chain_create(const struct aws_provider_settings *settings) {
    struct aws_chain *chain = alloc_zero(sizeof *chain);

    chain->settings = *settings;
    pthread_mutex_init(&chain->mutex, NULL);
    condition_init(&chain->renewed);
    return chain;
}

void aws_chain_destroy(struct aws_chain *chain) {
    aws_credentials_dispose(&chain->current);
    pthread_cond_destroy(&chain->renewed);
    pthread_mutex_destroy(&chain->mutex);
    free(chain);
}

/* --- the current credentials; all with the mutex held --- */

/* Whether they are still valid `ms` from now. */
static bool valid_in(const struct aws_credentials *credentials, uint64_t ms) {
    return credentials->access_key_id != NULL &&
           (credentials->expires_ms == 0 || clock_wall_ms() + ms < credentials->expires_ms);
}

static bool wants_renewal(const struct aws_chain *chain) {
    if (!valid_in(&chain->current, 0))
        return true;
    return !valid_in(&chain->current, RENEW_BEFORE_MS) && clock_monotonic_ms() >= chain->retry_ms;
}

/* Waits for the thread that renews; false after the deadline. */
static bool wait_for_renewal(struct aws_chain *chain, const struct deadline *deadline) {
    condition_wait_until(&chain->renewed, &chain->mutex, clock_monotonic_ns() + DEADLINE_CHECK_MS * UINT64_C(1000000));
    return !deadline_passed(deadline);
}

/* While the current credentials still work, a renewal leaves half of the time to the request that it delays. */
static struct deadline renewal_deadline(const struct aws_chain *chain, const struct deadline *deadline) {
    if (!valid_in(&chain->current, 0))
        return *deadline;
    return deadline_after(deadline_remaining_ms(deadline) / 2, deadline->cancel_fd);
}

/* Releases the mutex while it asks the providers. */
static void renew_credentials(struct aws_chain *chain, const struct deadline *deadline, struct error *error) {
    const struct deadline enough = renewal_deadline(chain, deadline);
    struct aws_credentials fetched = {0};
    bool done;

    chain->renewing = true;
    pthread_mutex_unlock(&chain->mutex);
    done = aws_credentials_fetch(&chain->settings, &enough, &fetched, error);
    pthread_mutex_lock(&chain->mutex);
    chain->renewing = false;
    chain->retry_ms = clock_monotonic_ms() + RENEW_AGAIN_MS;
    if (done) {
        aws_credentials_dispose(&chain->current);
        chain->current = fetched;
    } else if (valid_in(&chain->current, 0)) {
        log_warning("app", "AWS credentials that expire soon could not be renewed: %s", error->text);
    }
    pthread_cond_broadcast(&chain->renewed);
}

bool aws_chain_get(struct aws_chain *chain, const struct deadline *deadline, struct aws_credentials *credentials,
                   struct error *error) {
    bool have;

    *credentials = (struct aws_credentials){0};
    pthread_mutex_lock(&chain->mutex);
    error_set(error, "AWS credentials: no answer in time");
    while (!valid_in(&chain->current, 0) && chain->renewing)
        if (!wait_for_renewal(chain, deadline))
            break;
    if (!chain->renewing && wants_renewal(chain))
        renew_credentials(chain, deadline, error);
    have = valid_in(&chain->current, 0);
    if (have)
        aws_credentials_copy(credentials, &chain->current);
    pthread_mutex_unlock(&chain->mutex);
    return have;
}

void aws_chain_reject(struct aws_chain *chain, const struct aws_credentials *credentials) {
    pthread_mutex_lock(&chain->mutex);
    if (chain->current.access_key_id != NULL && strcmp(chain->current.access_key_id, credentials->access_key_id) == 0 &&
        strcmp(chain->current.secret_access_key, credentials->secret_access_key) == 0)
        aws_credentials_dispose(&chain->current);
    pthread_mutex_unlock(&chain->mutex);
}
