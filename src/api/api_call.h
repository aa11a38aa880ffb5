/*
 * One request to the API, from its route to its answer.
 *
 *   request --> call --> (app looked up: at once or later) --> signature checked --> route->handle --> one answer
 *
 * A handler answers exactly once: before it returns, or later after api_call_wait. The call is freed after the answer.
 * Slices of the request are valid until the answer.
 */
#pragma once

#include <stdbool.h>

#include "api/api.h"
#include "base/error.h"
#include "base/query.h"

struct api_call;
struct call_claim;
struct idempotency_entry;

/* What a route needs before its handler runs. */
enum route_needs {
    ROUTE_NOTHING,
    ROUTE_TOKEN,  /* the request has the token of the admin API */
    ROUTE_APP,    /* the app has been looked up, with any answer */
    ROUTE_SIGNED, /* the app exists and is enabled, and the request is signed with its secret */
    /* The same for the app whose key is in the query. Without auth_key the handler runs with lookup.app NULL. */
    ROUTE_SIGNED_BY_KEY,
};

/* The limit per second of the app that a request counts against; see request_rates.h. */
enum route_costs { ROUTE_COSTS_NOTHING, ROUTE_COSTS_READ, ROUTE_COSTS_EVENTS };

struct api_route {
    const char *method; /* GET is HEAD too */
    const char *path;   /* `{}` is one segment of the path, `{...}` one or more */
    void (*handle)(struct api_call *call);
    enum route_needs needs;
    enum route_costs costs; /* of ROUTE_SIGNED and ROUTE_SIGNED_BY_KEY */
};

#define ROUTE_PARAMETERS 2

struct api_call {
    struct app_lookup lookup; /* ROUTE_SIGNED: found */
    struct api *api;
    struct worker *worker;
    struct http_connection *connection;
    struct http_request *request;
    const struct api_route *route;
    struct slice path;                         /* as received, with the path_prefix; without scheme and host */
    struct slice parameters[ROUTE_PARAMETERS]; /* of the path: the app's id, then another; percent-decoded */
    struct buffer decoded;                     /* the memory of decoded parameters */
    const struct query *query;                 /* ROUTE_SIGNED only */
    struct idempotency_entry *repeat;          /* a publish with an idempotency key, under way; see publish_repeat.h */
    struct call_claim *claim;                  /* of its key for all nodes; see publish_claim.h */
    void (*on_release)(struct api_call *call); /* called before the call is freed; NULL: nothing is to be done */
    struct frame *listed;                      /* see list_thread.h and publish_counts.h */
    struct frame *repeated;                    /* the answer to the request that this one repeats, once it is known */
    struct buffer answers;                     /* see `asked` */
    void *waits_for;                           /* see api_call_wait */
    void (*on_abort)(struct api_call *call);   /* likewise; NULL: the call does not wait */
    const char *refusal; /* the text of the refusal that is being answered, for the log; NULL: none */
    /* The rate of which this call took the token of a read, which a refusal gives back; limit 0: none. */
    struct token_rate read_rate;
    bool unsigned_request; /* ROUTE_SIGNED_BY_KEY without auth_key */
    bool heard;            /* other nodes were asked for the state of the channel that the call is about */
    bool asked;            /* they were asked for their channels, and `answers` has what they have (requests.h) */
    bool incomplete;       /* a live node has not answered */
    bool head_only;        /* the body has not arrived: only what the head decides is checked; see dispatch.h */
    bool cross_origin;     /* web pages of other origins may read the answer, by the `cors` section */
};

struct api_call *api_call_create(struct http_connection *connection, struct http_request *request);
/* Frees the call, unless it waits. */
void api_call_release(struct api_call *call);

/* Puts the answer off: the handler returns without one. If the client goes away before api_call_resume, `on_abort` is
 * called, and the call is then freed. `waits_for` is the handler's. */
void api_call_wait(struct api_call *call, void *waits_for, void (*on_abort)(struct api_call *call));
/* The wait is over: answer, then release the call. */
void api_call_resume(struct api_call *call);
/* The client has gone while the call waited. */
void api_call_abort(struct api_call *call);

/* A job on the app store that an answer waits for. Embedded in memory from alloc() that job.destroy frees. */
struct api_job {
    struct app_job job; /* its `done` is set by api_submit */
    struct api_call *call;
    /* Answers the call; not called if the client has gone. */
    void (*ended)(struct api_call *call, struct api_job *job);
};

/* Submits the job to the app manager, and lets the call wait for it; see app_manager_submit. */
void api_submit(struct api_call *call, struct api_job *job, uint32_t timeout_ms);

/* Answers 200 with a JSON body. */
void api_answer(struct api_call *call, struct slice body);

/* Answers with any status, type (empty: JSON) and further header lines. */
void api_answer_with(struct api_call *call, unsigned status, struct slice type, struct slice headers,
                     struct slice body);

/* The same with a body that is sent without a copy. The call takes a reference of its own to the frame. */
void api_answer_frame(struct api_call *call, struct slice type, struct frame *frame);

/* Answers {"error":text} and counts the refusal for the app, if there is one. */
void api_refuse(struct api_call *call, unsigned status, enum refusal reason, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The same with a ready text and further header lines. */
void api_refuse_with(struct api_call *call, unsigned status, enum refusal reason, struct slice headers,
                     const char *text);

/* --- the handlers of the tables in route_table.c --- */

void api_post_event(struct api_call *call);
void api_post_batch(struct api_call *call);
void api_get_channels(struct api_call *call);
void api_get_channel(struct api_call *call);
void api_get_channel_users(struct api_call *call);
void api_terminate_user(struct api_call *call);
void api_reconnect_user(struct api_call *call);
void api_get_connections(struct api_call *call);
void api_get_up(struct api_call *call);
void api_get_up_app(struct api_call *call);
void api_get_live(struct api_call *call);
void api_get_ready(struct api_call *call);
void api_get_stats(struct api_call *call);
void api_get_usage(struct api_call *call);
/* The same on the main port, where http_api.usage_enabled may turn it off. */
void api_get_public_usage(struct api_call *call);
/* The path of WebSockets, requested without an upgrade. */
void api_get_without_upgrade(struct api_call *call);
void api_get_metrics(struct api_call *call);
void api_admin_stats(struct api_call *call);
void api_admin_nodes(struct api_call *call);
void api_admin_list(struct api_call *call);
void api_admin_create(struct api_call *call);
void api_admin_show(struct api_call *call);
void api_admin_replace(struct api_call *call);
void api_admin_patch(struct api_call *call);
void api_admin_delete(struct api_call *call);
void api_admin_refresh(struct api_call *call);
void api_admin_previous_secret(struct api_call *call);
void api_admin_log_level(struct api_call *call);
void api_admin_set_log_level(struct api_call *call);
void api_admin_confirm_removal(struct api_call *call);
