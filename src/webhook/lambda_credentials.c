#include "webhook/lambda_credentials.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "aws/credential_chain.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"
#include "config/config.h"

#define FETCH_TIMEOUT_MS 10000
/* How long a copy is used before the chain, which renews them in time, is asked again. */
#define FRESH_MS 30000

struct lambda_credentials {
    struct aws_chain *chain;
    void (*fetched)(void *context);
    void *context;
    int cancel_fd;
    pthread_t thread;
    bool started; /* of the webhook thread alone */

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool wanted, stopping, failed;
    struct aws_credentials current; /* without a key: none */
    uint64_t fetched_ms;
    struct error error;
};

static struct aws_provider_settings provider_settings(const struct config *config, bool loopback) {
    return (struct aws_provider_settings){
        .region = config->database.dynamodb.region,
        .access_key_id = config->database.dynamodb.aws_access_key_id,
        .secret_access_key = config->database.dynamodb.aws_secret_access_key,
        .profile_name = config->database.dynamodb.aws_profile_name,
        .may_be_made_up = loopback,
    };
}

struct lambda_credentials *lambda_credentials_create(const struct config *config, bool loopback,
                                                     void (*fetched)(void *context), void *context) {
    const struct aws_provider_settings settings = provider_settings(config, loopback);
    struct lambda_credentials *lambda = alloc_zero(sizeof *lambda);

    lambda->chain = aws_chain_create(&settings);
    lambda->fetched = fetched;
    lambda->context = context;
    lambda->cancel_fd = eventfd(0, EFD_CLOEXEC); /* -1: a fetch is not cancelled */
    pthread_mutex_init(&lambda->mutex, NULL);
    condition_init(&lambda->changed);
    return lambda;
}

void lambda_credentials_destroy(struct lambda_credentials *lambda) {
    uint64_t one = 1;

    if (lambda == NULL)
        return;
    if (lambda->started) {
        pthread_mutex_lock(&lambda->mutex);
        lambda->stopping = true;
        pthread_cond_signal(&lambda->changed);
        pthread_mutex_unlock(&lambda->mutex);
        (void)!write(lambda->cancel_fd, &one, sizeof one);
        pthread_join(lambda->thread, NULL);
    }
    if (lambda->cancel_fd >= 0)
        close(lambda->cancel_fd);
    aws_credentials_dispose(&lambda->current);
    aws_chain_destroy(lambda->chain);
    pthread_cond_destroy(&lambda->changed);
    pthread_mutex_destroy(&lambda->mutex);
    free(lambda);
}

/* Fetches once; called and returns with the mutex held, which it releases meanwhile. */
static void fetch_for_lambda(struct lambda_credentials *lambda) {
    struct aws_credentials fetched = {0};
    struct error error = {0};
    struct deadline deadline;
    bool done;

    pthread_mutex_unlock(&lambda->mutex);
    deadline = deadline_after(FETCH_TIMEOUT_MS, lambda->cancel_fd);
    done = aws_chain_get(lambda->chain, &deadline, &fetched, &error);
    pthread_mutex_lock(&lambda->mutex);
    lambda->wanted = false;
    lambda->failed = !done;
    lambda->error = error;
    if (done) {
        aws_credentials_dispose(&lambda->current);
        lambda->current = fetched;
        lambda->fetched_ms = clock_monotonic_ms();
    }
}

static void *run_lambda_credentials(void *context) {
    struct lambda_credentials *lambda = context;

    pthread_mutex_lock(&lambda->mutex);
    while (!lambda->stopping) {
        if (!lambda->wanted) {
            pthread_cond_wait(&lambda->changed, &lambda->mutex);
            continue;
        }
        fetch_for_lambda(lambda);
        pthread_mutex_unlock(&lambda->mutex);
        lambda->fetched(lambda->context);
        pthread_mutex_lock(&lambda->mutex);
    }
    pthread_mutex_unlock(&lambda->mutex);
    return NULL;
}

/* With the mutex held. False if there is no thread to fetch them. */
static bool want_credentials(struct lambda_credentials *lambda, struct error *error) {
    if (!lambda->started)
        lambda->started = thread_start(&lambda->thread, "lambda-keys", run_lambda_credentials, lambda, error);
    lambda->wanted = lambda->started;
    pthread_cond_signal(&lambda->changed);
    return lambda->started;
}

static bool still_valid(const struct aws_credentials *credentials) {
    return credentials->access_key_id != NULL &&
           (credentials->expires_ms == 0 || clock_wall_ms() < credentials->expires_ms);
}

enum lambda_answer lambda_credentials_get(struct lambda_credentials *lambda, struct aws_credentials *credentials,
                                          struct error *error) {
    enum lambda_answer answer = LAMBDA_PENDING;

    pthread_mutex_lock(&lambda->mutex);
    if (still_valid(&lambda->current)) {
        if (clock_monotonic_ms() - lambda->fetched_ms > FRESH_MS && !lambda->wanted)
            want_credentials(lambda, error);
        aws_credentials_dispose(credentials);
        aws_credentials_copy(credentials, &lambda->current);
        answer = LAMBDA_READY;
    } else if (lambda->failed) {
        lambda->failed = false;
        *error = lambda->error;
        answer = LAMBDA_FAILED;
    } else if (!lambda->wanted && !want_credentials(lambda, error)) {
        answer = LAMBDA_FAILED;
    }
    pthread_mutex_unlock(&lambda->mutex);
    return answer;
}

void lambda_credentials_reject(struct lambda_credentials *lambda, const struct aws_credentials *credentials) {
    aws_chain_reject(lambda->chain, credentials);
    pthread_mutex_lock(&lambda->mutex);
    aws_credentials_dispose(&lambda->current);
    pthread_mutex_unlock(&lambda->mutex);
}

bool lambda_credentials_fetch(const struct config *config, bool loopback, struct aws_credentials *credentials,
                              struct error *error) {
    const struct aws_provider_settings settings = provider_settings(config, loopback);
    const struct deadline deadline = deadline_after(FETCH_TIMEOUT_MS, -1);

    return aws_credentials_fetch(&settings, &deadline, credentials, error);
}
