/*
 * One request to the API on its way through routes, lookup, authentication and handler.
 *
 *   api_handle --> call --> (app looked up: at once or later) --> authenticated --> route->handle --> one answer
 *
 * A handler answers exactly once, with api_answer or api_refuse, before it returns or when the job ends that it handed
 * over with api_submit; the call is freed behind it. What the call points to in the request is gone after the answer.
 */
#pragma once

#include <stdbool.h>

#include "api/api.h"
#include "base/error.h"
#include "base/query.h"

struct api_call;

/* What has to be known before a route's handler runs. */
enum route_needs {
    ROUTE_NOTHING,
    ROUTE_APP,    /* the app has been looked up, whatever the answer */
    ROUTE_SIGNED, /* the app is there and enabled, and the request is signed with its secret */
};

struct api_route {
    const char *method; /* GET is HEAD too */
    const char *path;   /* `{}` is one piece of the path, `{...}` all up to what follows in the pattern */
    void (*handle)(struct api_call *call);
    enum route_needs needs;
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
    struct buffer decoded;                     /* where parameters point that had to be decoded */
    const struct query *query;                 /* ROUTE_SIGNED only */
    struct api_job *waits_for;                 /* the job that is under way, or NULL */
    bool cross_origin; /* pages of other origins may read the answer: the `cors` section holds */
};

/* Work on the app store that a handler's answer waits for. Part of something from alloc() that job.destroy frees. */
struct api_job {
    struct app_job job; /* its `done` is set by api_submit */
    struct api_call *call;
    void (*ended)(struct api_call *call, struct api_job *job); /* answers the call; not called if the client has gone */
};

/* Hands the job to the app manager; see app_manager_submit. */
void api_submit(struct api_call *call, struct api_job *job, uint32_t timeout_ms);

/* Answers 200 with a JSON body. */
void api_answer(struct api_call *call, struct slice body);

/* Answers with any status, type (empty: JSON) and further header lines. */
void api_answer_with(struct api_call *call, unsigned status, struct slice type, struct slice headers,
                     struct slice body);

/* Answers {"error":text} and counts the refusal for the app, if there is one. */
void api_refuse(struct api_call *call, unsigned status, enum refusal reason, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The same with a text that is there and further header lines. */
void api_refuse_with(struct api_call *call, unsigned status, enum refusal reason, struct slice headers,
                     const char *text);

/* --- routes.c: the handlers of its tables --- */

void api_post_event(struct api_call *call);
void api_post_batch(struct api_call *call);
void api_get_channels(struct api_call *call);
void api_get_channel(struct api_call *call);
void api_get_channel_users(struct api_call *call);
void api_terminate_user(struct api_call *call);
void api_get_up(struct api_call *call);
void api_get_up_app(struct api_call *call);
void api_get_usage(struct api_call *call);
void api_get_metrics(struct api_call *call);
void api_admin_list(struct api_call *call);
void api_admin_create(struct api_call *call);
void api_admin_show(struct api_call *call);
void api_admin_replace(struct api_call *call);
void api_admin_patch(struct api_call *call);
void api_admin_delete(struct api_call *call);
void api_admin_refresh(struct api_call *call);
