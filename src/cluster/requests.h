/*
 * Questions of the HTTP API to all other live nodes: which channels they have, with how many subscriptions, or how many
 * connections an app has there.
 *
 *   worker --- requests_ask ---> API_REQUEST on the subject of all <--- API_ANSWER in parts, into the inbox
 *   worker <--- question->answered, with the texts of all answers
 *
 * Of channels each node answers from its table of interests, which has a channel as long as somebody here is subscribed
 * to it. It walks over that in several turns if it has to (loop_has_time). A question is over when all nodes have
 * answered, or after the time of the adapter's settings.
 */
#pragma once

#include "cluster/state/interest.h"
#include "net/worker.h"

struct requests;

/* What is asked. The first three are about channels. */
enum question_kind {
    QUESTION_PREFIX,      /* those whose names begin with `name` */
    QUESTION_CHANNEL,     /* the one that has this name */
    QUESTION_NAMES,       /* `name` has an element of requests_add for each */
    QUESTION_CONNECTIONS, /* how many the app has */
};

/* A question; in memory of the caller until `answered` is called. */
struct question {
    enum question_kind kind;
    struct slice app, name;
    struct worker *worker;
    /* Called on the worker. `answers` has elements for requests_next, or is for requests_connections; `complete` is
     * false if a live node has not answered. */
    void (*answered)(struct question *question);
    struct buffer answers;
    bool complete;
    /* Of requests.c. */
    struct loop_message message;
    struct message back;
    struct requests *requests;
    struct list link;
    uint64_t number, awaited, due_ms;
    uint32_t parts[NODES_MAX]; /* that came of each node */
};

/* What one node has of a channel. */
struct channel_answer {
    struct slice name;
    uint32_t subscriptions; /* on that node */
    uint32_t users;         /* of all nodes, as far as that one knows */
};

/* Adds the part. `interests` outlives it. */
struct requests *requests_create(struct cluster_core *core, struct interests *interests);

/* Asks, unless this node is alone: false. Any worker. */
bool requests_ask(struct requests *requests, struct question *question);

/* Append an element to answers, and take the next one; false at the end. Any thread. */
void requests_add(struct buffer *answers, const struct channel_answer *answer);
bool requests_next(struct slice *answers, struct channel_answer *answer);

/* The sum of what nodes have answered about connections. Any thread. */
uint64_t requests_connections(struct slice answers);
