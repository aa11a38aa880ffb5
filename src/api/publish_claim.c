#include "api/publish_claim.h"

#include <stdlib.h>
#include <string.h>

#include "api/dispatch.h"
#include "api/idempotency.h"
#include "base/alloc.h"
#include "base/list.h"
#include "cluster/cluster.h"

struct call_claim {
    struct message message; /* from the cluster's thread to the worker */
    struct worker *worker;
    struct api *api;
    struct api_call *call;           /* NULL: the client has gone; the worker's */
    struct idempotency_entry *entry; /* under way here; NULL: the call has it, or it has ended */
    enum claim_result result;
    bool kept;
    struct claim_key key; /* its texts are below */
    char texts[];
};

bool claim_is_due(const struct api_call *call) {
    return call->claim == NULL && cluster_claims(call->api->cluster) != NULL;
}

/* Ends a claim whose publish was not accepted. */
static void drop_claim(struct call_claim *claim) {
    if (claim->entry != NULL)
        idempotency_abandon(claim->api->idempotency, claim->entry);
    if (claim->result == CLAIM_NEW && !claim->kept)
        claims_give_back(cluster_claims(claim->api->cluster), &claim->key);
    free(claim);
}

static void release_claim(struct api_call *call) {
    drop_claim(call->claim);
    call->claim = NULL;
}

static void forget_claim(struct api_call *call) {
    ((struct call_claim *)call->waits_for)->call = NULL;
}

/* On the worker. The app may have changed or gone meanwhile, so the call begins again with the search for it. */
static void on_claim_answered(struct worker *worker, struct message *message, struct message **rest) {
    struct call_claim *claim = container_of(message, struct call_claim, message);
    struct api_call *call = claim->call;

    (void)rest;
    if (call == NULL) {
        drop_claim(claim);
        return;
    }
    api_call_resume(call);
    if (claim->result == CLAIM_SAME) {
        /* Another node has published it. What it answered is not known. */
        idempotency_finish(claim->api->idempotency, claim->entry, SLICE("{}"), worker->now_ms);
        free(claim);
    } else {
        call->claim = claim;
        call->on_release = release_claim;
    }
    api_dispatch_again(call);
}

/* On the cluster's thread. */
static void post_claim_answer(void *context, enum claim_result result) {
    struct call_claim *claim = context;

    claim->result = result;
    if (result == CLAIM_ENDED)
        drop_claim(claim);
    else
        worker_post(claim->worker, &claim->message);
}

static struct slice copy_claim_text(char **at, struct slice text) {
    char *begin = *at;

    if (text.length != 0)
        memcpy(begin, text.data, text.length);
    *at += text.length;
    return (struct slice){begin, text.length};
}

void claim_begin(struct api_call *call, const struct claim_key *key) {
    struct call_claim *claim = alloc_zero(sizeof *claim + key->app.length + key->key.length + key->digest.length);
    char *at = claim->texts;

    claim->message.handle = on_claim_answered;
    claim->worker = call->worker;
    claim->api = call->api;
    claim->call = call;
    claim->entry = call->repeat;
    call->repeat = NULL;
    claim->key.kind = key->kind;
    claim->key.app = copy_claim_text(&at, key->app);
    claim->key.key = copy_claim_text(&at, key->key);
    claim->key.digest = copy_claim_text(&at, key->digest);
    api_call_wait(call, claim, forget_claim);
    claims_take(cluster_claims(call->api->cluster), &claim->key, post_claim_answer, claim);
}

bool claim_ended(struct api_call *call) {
    struct call_claim *claim = call->claim;

    if (claim->result == CLAIM_OTHER)
        return false;
    call->repeat = claim->entry;
    claim->entry = NULL;
    return true;
}

void claim_keep(struct api_call *call) {
    if (call->claim != NULL)
        call->claim->kept = true;
}
