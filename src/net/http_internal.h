/*
 * Types and functions that the files of the HTTP server share.
 *
 *   http_lines.c    what llhttp lets pass in a head
 *   http_request.c  a request: parsing with the callbacks of llhttp, headers, reuse of memory
 *   http_waiting.c  connections that wait for their clients, and which of them are closed when something is short
 *   http.c          a connection: the sequence of requests, answers, timers, closing
 */
#pragma once

#include <llhttp.h>

#include "base/list.h"
#include "net/http.h"
#include "net/http_lines.h"

enum request_state {
    REQUEST_IDLE,      /* between requests; owns no request */
    REQUEST_HEAD,      /* part of the head has arrived; timer, once the input is parsed: 10 s for the whole head */
    REQUEST_BODY,      /* the head is complete; timer, once the input is parsed: 30 s for the body */
    REQUEST_DECIDING,  /* on_head has put its decision off; reading waits for it */
    REQUEST_COMPLETE,  /* parsed to the end; on_request is called next */
    REQUEST_ANSWERING, /* the handler has the request; parsing waits for the answer */
    REQUEST_CLOSING,   /* the last answer is queued; input is ignored */
};

struct http_connection {
    struct stream *stream;
    const struct http_handler *handler;
    void *pending;
    struct http_request *request;
    llhttp_t parser;
    enum request_state state;
    struct http_lines lines;
    bool in_value;   /* the last header callback was for a value */
    bool value_done; /* the last header is complete: only a name may follow */
    bool too_large;  /* the head is over its limits */
    bool no_memory;  /* no memory for the request */
    bool keep_alive; /* keep the connection after the current request */
    bool kept_alive; /* REQUEST_DECIDING: the value of keep_alive if the body is read */
    bool draining;   /* close after the next answer */
    bool begun;      /* the first request has begun to arrive */
    bool in_handler; /* inside on_request: an answer needs no resume */
    bool chunked;
    bool expects;     /* the client waits for 100 Continue before it sends the body */
    bool hurried;     /* 2 s for a head: descriptors or memory are short, its address has too many connections, or the
                         worker ends */
    bool short_lived; /* descriptors were short when it was accepted; see descriptors.h */
    bool one_answer;  /* they or memory were: the connection closes after its first answer */
    uint64_t waiting_from_ms; /* since when it waits for the client */
    struct list waiting;      /* link in one list of the worker's waiting_http */
    /* Unsent bytes of a large answer when the timer was set: a client that reads slowly is not idle. */
    uint64_t unsent;
    /* Reason why our own checks stopped the parser; NULL: llhttp stopped it. */
    const char *refusal;
};

/* --- http_waiting.c --- */

/* Notes that the connection waits for its client from now on, in the state that it is in. */
void http_begin_waiting(struct http_connection *connection);

/* Makes room for others after the descriptor `fd` was accepted. True if it has to be given back soon. */
bool http_make_room(struct worker *worker, int fd);

/* Makes room for others if connections have no room in the account of memory. False if the connection has to be given
 * back soon. */
bool http_make_room_in_memory(struct worker *worker);

/* The same for one more TLS connection; false if there is no room for its handshake. */
bool http_make_room_for_tls(struct worker *worker);

/* Closes, at the end of the turn, the connection that has waited longest for the rest of a request; not `but`. False if
 * none has waited long. */
bool http_close_for_memory(const struct http_connection *but);

/* Closes connections whose clients have not read their answers for long. */
void http_close_unread(struct worker *worker);

/* --- http_request.c --- */

/* Initialises the connection's parser. */
void http_parser_init(struct http_connection *connection);

/* False if the announced body would not find room in the account of memory now. */
bool http_body_has_room(const struct http_connection *connection);

/* Returns the connection's request to its worker, which keeps one as a spare. */
void http_request_return(struct http_connection *connection);
