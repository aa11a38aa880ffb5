#include "cluster/claims.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/list.h"
#include "cluster/key_store.h"
#include "config/config.h"

/* The longest wait of a request for the store. */
#define ANSWER_MS 1000

struct claims {
    struct cluster_core *core;
    struct list open; /* what the store has not answered */
};

/* A claim, or the end of one. */
struct claim {
    struct loop_message message;
    struct redis_request set, get;
    struct claims *claims; /* NULL: the part is gone */
    struct list link;
    struct loop_timer timer;
    void (*answered)(void *context, enum claim_result result); /* NULL: it was called, or is none */
    void *context;
    bool set_now; /* the answer to SET */
    size_t key_length, digest_length;
    char texts[];
};

static struct slice key_of_claim(const struct claim *claim) {
    return (struct slice){claim->texts, claim->key_length};
}

static struct slice digest_of_claim(const struct claim *claim) {
    return (struct slice){claim->texts + claim->key_length, claim->digest_length};
}

static void answer_claim(struct claim *claim, enum claim_result result) {
    if (claim->answered != NULL)
        claim->answered(claim->context, result);
    claim->answered = NULL;
}

/* The last answer of the store. */
static void end_claim(struct claim *claim, enum claim_result result) {
    if (claim->claims != NULL)
        loop_timer_end(claim->claims->core->loop, &claim->timer);
    list_remove(&claim->link);
    answer_claim(claim, result);
    free(claim);
}

static void on_claim_set(struct redis_request *request, const struct redis_value *value) {
    struct claim *claim = container_of(request, struct claim, set);

    claim->set_now = value != NULL && value->type == REDIS_STATUS;
}

static void on_claim_read(struct redis_request *request, const struct redis_value *value) {
    struct claim *claim = container_of(request, struct claim, get);

    if (claim->set_now)
        end_claim(claim, CLAIM_NEW);
    else if (value == NULL || value->type != REDIS_TEXT)
        end_claim(claim, CLAIM_UNKNOWN);
    else
        end_claim(claim, slice_equal(value->text, digest_of_claim(claim)) ? CLAIM_SAME : CLAIM_OTHER);
}

static void on_claim_given_back(struct redis_request *request, const struct redis_value *value) {
    (void)value;
    end_claim(container_of(request, struct claim, get), CLAIM_ENDED);
}

static void on_claim_timer(struct loop_timer *timer) {
    answer_claim(container_of(timer, struct claim, timer), CLAIM_UNKNOWN);
}

static void open_claim(struct claim *claim) {
    list_append(&claim->claims->open, &claim->link);
    claim->timer.fire = on_claim_timer;
    loop_timer_set(claim->claims->core->loop, &claim->timer, ANSWER_MS);
}

static void handle_claim(struct loop *loop, struct loop_message *message) {
    struct claim *claim = container_of(message, struct claim, message);
    struct key_store *store = claim->claims->core->store;
    struct slice key = key_of_claim(claim);
    char digits[NUMBER_DIGITS];
    const struct slice set[] = {
        SLICE("SET"), key, digest_of_claim(claim), SLICE("PX"), slice_of_number(CLAIM_LIFETIME_MS, digits),
        SLICE("NX")};
    const struct slice get[] = {SLICE("GET"), key};

    (void)loop;
    claim->set.answered = on_claim_set;
    claim->get.answered = on_claim_read;
    if (store == NULL || !store->driver->request(store, key, &claim->set, set, 6)) {
        end_claim(claim, CLAIM_UNKNOWN);
        return;
    }
    store->driver->request(store, key, &claim->get, get, 2);
    open_claim(claim);
}

static void handle_claim_back(struct loop *loop, struct loop_message *message) {
    struct claim *claim = container_of(message, struct claim, message);
    struct key_store *store = claim->claims->core->store;
    const struct slice words[] = {SLICE("DEL"), key_of_claim(claim)};

    (void)loop;
    claim->get.answered = on_claim_given_back;
    if (store == NULL || !store->driver->request(store, words[1], &claim->get, words, 2))
        end_claim(claim, CLAIM_UNKNOWN);
    else
        open_claim(claim);
}

/* --- any thread --- */

/* The app's length keeps it apart from the key, both of which may have any byte. */
static struct claim *create_claim(struct claims *claims, const struct claim_key *key) {
    struct buffer text = {0};
    struct claim *claim;

    buffer_appendf(&text, "%scurlew1:k:%c:%zu:", claims->core->config->cache.redis.prefix, key->kind, key->app.length);
    buffer_append(&text, key->app);
    buffer_append_byte(&text, ':');
    buffer_append(&text, key->key);
    claim = alloc_zero(sizeof *claim + text.length + key->digest.length);
    claim->claims = claims;
    claim->key_length = text.length;
    claim->digest_length = key->digest.length;
    memcpy(claim->texts, text.data, text.length);
    if (key->digest.length != 0)
        memcpy(claim->texts + text.length, key->digest.data, key->digest.length);
    buffer_dispose(&text);
    return claim;
}

static void post_claim(struct claim *claim, void (*handle)(struct loop *loop, struct loop_message *message)) {
    struct loop *loop = claim->claims->core->loop;

    claim->message.handle = handle;
    loop_post(loop, &claim->message);
    loop_wake(loop);
}

void claims_take(struct claims *claims, const struct claim_key *key,
                 void (*answered)(void *context, enum claim_result result), void *context) {
    struct claim *claim = create_claim(claims, key);

    claim->answered = answered;
    claim->context = context;
    post_claim(claim, handle_claim);
}

void claims_give_back(struct claims *claims, const struct claim_key *key) {
    post_claim(create_claim(claims, key), handle_claim_back);
}

/* --- the part --- */

/* The bus may answer until it is destroyed, after this. */
static void dispose_claims(void *context) {
    struct claims *claims = context;

    while (!list_empty(&claims->open)) {
        struct claim *claim = container_of(claims->open.next, struct claim, link);
        loop_timer_end(claims->core->loop, &claim->timer);
        list_remove(&claim->link);
        answer_claim(claim, CLAIM_ENDED);
        claim->claims = NULL;
    }
    free(claims);
}

struct claims *claims_create(struct cluster_core *core) {
    struct cluster_part part = {.dispose = dispose_claims};
    struct claims *claims;

    if (core->store == NULL)
        return NULL;
    claims = alloc_zero(sizeof *claims);
    claims->core = core;
    list_init(&claims->open);
    part.context = claims;
    cluster_core_add_part(core, &part);
    return claims;
}
