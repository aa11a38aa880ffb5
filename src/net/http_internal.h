/*
 * What the files of HTTP share.
 *
 *   http_request.c  a request: parsing it with llhttp's callbacks, its headers, reuse of its memory
 *   http.c          a connection: from one request to the next, answers, timers, its end
 */
#pragma once

#include <llhttp.h>

#include "net/http.h"

#define HTTP_HEAD_TIMEOUT_MS 10000
#define HTTP_BODY_TIMEOUT_MS 30000
#define HTTP_DRAIN_TIMEOUT_MS 2000 /* for the rest of a request during shutdown */

enum request_state {
    REQUEST_IDLE,      /* between requests; owns no request */
    REQUEST_HEAD,      /* a part of the head has arrived; timer: 10 s for all of it */
    REQUEST_BODY,      /* the head is complete; timer: 30 s for the body */
    REQUEST_COMPLETE,  /* parsed to the end; on_request is next */
    REQUEST_ANSWERING, /* the handler has it; parsing is stopped until it answers */
    REQUEST_CLOSING,   /* the last answer is queued; input is ignored */
};

struct http_connection {
    struct stream *stream;
    const struct http_handler *handler;
    void *pending;
    struct http_request *request;
    llhttp_t parser;
    enum request_state state;
    bool in_value;   /* the last header callback was about a value */
    bool value_done; /* the last header is complete: only a name may follow */
    bool too_large;  /* the head is over its limits */
    bool no_memory;  /* for the body */
    bool keep_alive; /* after the request in hand */
    bool draining;   /* close after the next answer */
    bool in_handler; /* inside on_request: an answer needs no resume */
    bool chunked;
    uint64_t unsent;     /* bytes of a large answer at the last look: a client that reads slowly is not idle */
    const char *refusal; /* why our checks ended parsing; NULL: llhttp did */
};

/* Prepares the connection's parser for the first request. */
void http_parser_init(struct http_connection *connection);

/* Gives the request back: its worker keeps one for the next. */
void http_request_return(struct http_connection *connection);
