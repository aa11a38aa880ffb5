#include "cluster/requests.h"

#include <stdlib.h>
#include <string.h>

#include "app/app_slot.h"
#include "app_manager/app_manager.h"
#include "base/alloc.h"
#include "channel/channel_name.h"

/* The operations of API_REQUEST. The payload of the first is a byte, the question_kind, and the name or names. The
 * second has none; its answer is a number of 4 bytes. */
#define OPERATION_CHANNELS 1
#define OPERATION_CONNECTIONS 2

/* Bytes of an answer's part, a little more, and of all answers to a question; with more it is not complete. */
#define ANSWER_PART_BYTES (48 * 1024)
#define ANSWERS_BYTES_MAX (64 * 1024 * 1024)

/* The names of a question, at most; with more it is not asked, and not complete. */
#define NAMES_BYTES_MAX (60 * 1024)

/* Questions of other nodes that are answered at the same time. */
#define WALKS_MAX 64

/* A question of another node, which is being answered. */
struct question_walk {
    struct list link;
    struct list *at; /* the next interest */
    struct node_id asker;
    uint64_t number;
    uint32_t part;
    size_t app_length;
    struct buffer text; /* the app's id and what names begin with */
    struct buffer answer;
};

struct requests {
    struct cluster_core *core;
    struct interests *interests;
    struct list questions; /* by time */
    struct loop_timer timer;
    uint64_t number;
    uint64_t timeout_ms;
    struct list walks;
    unsigned walk_count;
    struct loop_message slice;
    bool slice_posted;
};

/* --- elements: length of the name, subscriptions, users, 4 bytes each, and the name --- */

static void append_wire_number(struct buffer *out, uint32_t number) {
    const char bytes[] = {(char)(number >> 24), (char)(number >> 16), (char)(number >> 8), (char)number};

    buffer_append_bytes(out, bytes, sizeof bytes);
}

static uint32_t wire_number_at(const char *text) {
    const unsigned char *bytes = (const unsigned char *)text;

    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

void requests_add(struct buffer *answers, const struct channel_answer *answer) {
    append_wire_number(answers, (uint32_t)answer->name.length);
    append_wire_number(answers, answer->subscriptions);
    append_wire_number(answers, answer->users);
    buffer_append(answers, answer->name);
}

bool requests_next(struct slice *answers, struct channel_answer *answer) {
    uint32_t length;

    if (answers->length < 12)
        return false;
    length = wire_number_at(answers->data);
    if (length > answers->length - 12)
        return false;
    answer->subscriptions = wire_number_at(answers->data + 4);
    answer->users = wire_number_at(answers->data + 8);
    answer->name = (struct slice){answers->data + 12, length};
    *answers = slice_skip(*answers, 12 + (size_t)length);
    return channel_name_valid(answer->name);
}

uint64_t requests_connections(struct slice answers) {
    uint64_t sum = 0;

    for (; answers.length >= 4; answers = slice_skip(answers, 4))
        sum += wire_number_at(answers.data);
    return sum;
}

/* --- asking --- */

/* The setting of the adapter that is in use. */
static uint64_t question_timeout_ms(const struct config *config) {
    const struct slice driver = slice_of(config->adapter.driver);

    if (slice_equal(driver, SLICE("nats")))
        return config->adapter.nats.request_timeout_ms;
    if (slice_equal(driver, SLICE("redis-cluster")))
        return config->adapter.cluster.request_timeout_ms;
    return config->adapter.redis.requests_timeout_ms;
}

static void handle_answered(struct worker *worker, struct message *message, struct message **rest) {
    struct question *question = container_of(message, struct question, back);

    (void)worker;
    (void)rest;
    question->answered(question);
}

static void end_question(struct requests *requests, struct question *question) {
    list_remove(&question->link);
    question->complete &= question->awaited == 0;
    question->back.handle = handle_answered;
    cluster_core_post(requests->core, question->worker, &question->back);
}

static void on_question_timer(struct loop_timer *timer) {
    struct requests *requests = container_of(timer, struct requests, timer);
    uint64_t now_ms = loop_now_ms(requests->core->loop);

    while (!list_empty(&requests->questions)) {
        struct question *question = container_of(requests->questions.next, struct question, link);

        if (question->due_ms > now_ms) {
            loop_timer_set(requests->core->loop, timer, question->due_ms - now_ms);
            return;
        }
        end_question(requests, question);
    }
}

static void handle_question(struct loop *loop, struct loop_message *message) {
    struct question *question = container_of(message, struct question, message);
    struct requests *requests = question->requests;
    struct cluster_message request = {.kind = MESSAGE_API_REQUEST};
    struct buffer payload = {0};
    bool connections = question->kind == QUESTION_CONNECTIONS;

    question->number = ++requests->number;
    question->awaited = nodes_alive(requests->core->nodes);
    question->complete = true;
    question->due_ms = loop_now_ms(loop) + requests->timeout_ms;
    list_append(&requests->questions, &question->link);
    if (!connections) {
        buffer_append_byte(&payload, (char)question->kind);
        buffer_append(&payload, question->name);
    }
    request.api_request =
        (struct message_api_request){.request = question->number,
                                     .operation = connections ? OPERATION_CONNECTIONS : OPERATION_CHANNELS,
                                     .app = question->app,
                                     .payload = buffer_slice(&payload)};
    if (question->awaited == 0 || payload.length > NAMES_BYTES_MAX ||
        !cluster_core_say_to_all(requests->core, &request))
        end_question(requests, question);
    else if (!loop_timer_is_set(&requests->timer))
        loop_timer_set(loop, &requests->timer, requests->timeout_ms);
    buffer_dispose(&payload);
}

bool requests_ask(struct requests *requests, struct question *question) {
    if (atomic_load_explicit(&requests->core->alive, memory_order_relaxed) == 0)
        return false;
    question->requests = requests;
    question->answers = (struct buffer){0};
    memset(question->parts, 0, sizeof question->parts);
    question->message.handle = handle_question;
    loop_post(requests->core->loop, &question->message);
    loop_wake(requests->core->loop);
    return true;
}

static struct question *find_question(const struct requests *requests, uint64_t number) {
    for (struct list *link = requests->questions.next; link != &requests->questions; link = link->next)
        if (container_of(link, struct question, link)->number == number)
            return container_of(link, struct question, link);
    return NULL;
}

static bool on_api_answer(void *context, unsigned node, const struct cluster_message *message,
                          struct bus_message *bus_message) {
    const struct message_api_answer *answer = &message->api_answer;
    struct requests *requests = context;
    struct question *question = find_question(requests, answer->request);

    (void)bus_message;
    if (question == NULL || (question->awaited >> node & 1) == 0)
        return false;
    if (answer->part != question->parts[node]) /* one was lost */
        question->complete = false;
    question->parts[node] = answer->part + 1;
    if (answer->status != 0 || question->answers.length + answer->payload.length > ANSWERS_BYTES_MAX)
        question->complete = false;
    else
        buffer_append(&question->answers, answer->payload);
    if (answer->last)
        question->awaited &= ~(UINT64_C(1) << node);
    if (question->awaited == 0)
        end_question(requests, question);
    return false;
}

static void on_questioned_node_gone(void *context, unsigned node) {
    struct requests *requests = context;

    for (struct list *link = requests->questions.next; link != &requests->questions;) {
        struct question *question = container_of(link, struct question, link);

        link = link->next;
        question->awaited &= ~(UINT64_C(1) << node);
        if (question->awaited == 0)
            end_question(requests, question);
    }
}

static void on_questioned_node_replaced(void *context, unsigned before, unsigned now) {
    (void)now;
    on_questioned_node_gone(context, before);
}

static void on_questions_down(void *context) {
    struct requests *requests = context;

    while (!list_empty(&requests->questions))
        end_question(requests, container_of(requests->questions.next, struct question, link));
}

/* --- answering --- */

static void say_answer(struct requests *requests, struct question_walk *walk, bool last, uint32_t status) {
    struct cluster_message message = {.kind = MESSAGE_API_ANSWER};

    message.api_answer = (struct message_api_answer){.request = walk->number,
                                                     .part = walk->part++,
                                                     .last = last,
                                                     .status = status,
                                                     .payload = buffer_slice(&walk->answer)};
    cluster_core_say_to(requests->core, walk->asker, &message);
    walk->answer.length = 0;
}

static void answer_interest(struct requests *requests, struct question_walk *walk, const struct interest *interest) {
    struct slice name = channel_name(interest->channel);
    struct channel_counts counts;

    channel_own_counts(interest->channel, &counts);
    if (counts.subscriptions == 0)
        return;
    requests_add(&walk->answer, &(struct channel_answer){name, counts.subscriptions, counts.users});
    if (walk->answer.length >= ANSWER_PART_BYTES)
        say_answer(requests, walk, false, 0);
}

static bool walk_wants(const struct question_walk *walk, const struct interest *interest) {
    struct slice text = buffer_slice(&walk->text), app = {text.data, walk->app_length};

    return slice_equal(interest_app(interest), app) && channel_type(interest->channel).kind != CHANNEL_USER &&
           slice_starts_with(channel_name(interest->channel), slice_skip(text, walk->app_length));
}

static void end_walk(struct requests *requests, struct question_walk *walk) {
    list_remove(&walk->link);
    requests->walk_count--;
    buffer_dispose(&walk->text);
    buffer_dispose(&walk->answer);
    free(walk);
}

static void post_walk_slice(struct requests *requests) {
    if (!requests->slice_posted)
        loop_post(requests->core->loop, &requests->slice);
    requests->slice_posted = true;
}

static void step_question_walk(struct requests *requests, struct question_walk *walk) {
    const struct interest *interest;

    if (walk->at == &requests->interests->table.all) {
        say_answer(requests, walk, true, 0);
        end_walk(requests, walk);
        return;
    }
    interest = container_of(walk->at, struct interest, link);
    walk->at = walk->at->next;
    if (walk_wants(walk, interest))
        answer_interest(requests, walk, interest);
}

/* Goes on with the oldest walk. */
static void run_walk_slice(struct loop *loop, struct loop_message *message) {
    struct requests *requests = container_of(message, struct requests, slice);

    requests->slice_posted = false;
    while (!list_empty(&requests->walks)) {
        step_question_walk(requests, container_of(requests->walks.next, struct question_walk, link));
        if (!loop_has_time(loop)) {
            post_walk_slice(requests);
            return;
        }
    }
}

static void answer_name(struct requests *requests, struct question_walk *walk, struct slice app, struct slice name) {
    struct buffer subject = {0};
    const struct interest *interest;

    subject_append_channel(&subject, &requests->core->subjects, app, name);
    interest = interest_find_by_subject(&requests->interests->table, buffer_slice(&subject));
    if (interest != NULL && slice_equal(channel_name(interest->channel), name))
        answer_interest(requests, walk, interest);
    buffer_dispose(&subject);
}

/* Answers a question about one channel, or some, at once. */
static void answer_names(struct requests *requests, struct question_walk *walk, struct slice app,
                         struct slice payload) {
    struct slice names = slice_skip(payload, 1);
    struct channel_answer asked;

    if (payload.data[0] == QUESTION_NAMES) {
        while (requests_next(&names, &asked))
            answer_name(requests, walk, app, asked.name);
    } else {
        answer_name(requests, walk, app, names);
    }
    say_answer(requests, walk, true, 0);
    buffer_dispose(&walk->answer);
}

struct asked_app {
    struct slice id;
    uint64_t connections;
};

static void add_asked_app(struct app_slot *slot, void *context) {
    struct asked_app *asked = context;

    if (slice_equal(slice_of(slot->id), asked->id))
        asked->connections += slot_connections(slot);
}

static void answer_connections(struct requests *requests, struct question_walk *walk, struct slice app) {
    struct asked_app asked = {app, 0};

    if (requests->core->apps != NULL)
        app_manager_each_slot(requests->core->apps, add_asked_app, &asked);
    append_wire_number(&walk->answer, asked.connections < UINT32_MAX ? (uint32_t)asked.connections : UINT32_MAX);
    say_answer(requests, walk, true, 0);
    buffer_dispose(&walk->answer);
}

static bool on_api_request(void *context, unsigned node, const struct cluster_message *message,
                           struct bus_message *bus_message) {
    const struct message_api_request *request = &message->api_request;
    struct requests *requests = context;
    struct question_walk one = {.asker = nodes_at(requests->core->nodes, node)->id, .number = request->request}, *walk;

    (void)bus_message;
    if (request->operation == OPERATION_CONNECTIONS) {
        answer_connections(requests, &one, request->app);
        return false;
    }
    if (request->operation != OPERATION_CHANNELS || request->payload.length == 0 || requests->walk_count == WALKS_MAX) {
        say_answer(requests, &one, true, 1);
        return false;
    }
    if (request->payload.data[0] != QUESTION_PREFIX) {
        answer_names(requests, &one, request->app, request->payload);
        return false;
    }
    walk = alloc(sizeof *walk);
    *walk = one;
    walk->at = requests->interests->table.all.next;
    walk->app_length = request->app.length;
    buffer_append(&walk->text, request->app);
    buffer_append(&walk->text, slice_skip(request->payload, 1));
    list_append(&requests->walks, &walk->link);
    requests->walk_count++;
    post_walk_slice(requests);
    return false;
}

/* --- making and freeing --- */

/* An interest leaves its place in the list of all. */
static void skip_in_walks(void *context, const struct interest *interest) {
    struct requests *requests = context;

    for (struct list *link = requests->walks.next; link != &requests->walks; link = link->next) {
        struct question_walk *walk = container_of(link, struct question_walk, link);

        if (walk->at == &interest->link)
            walk->at = interest->link.next;
    }
}

static void dispose_requests(void *context) {
    struct requests *requests = context;

    on_questions_down(requests);
    loop_timer_end(requests->core->loop, &requests->timer);
    while (!list_empty(&requests->walks))
        end_walk(requests, container_of(requests->walks.next, struct question_walk, link));
    requests->interests->moves = NULL;
    free(requests);
}

struct requests *requests_create(struct cluster_core *core, struct interests *interests) {
    struct requests *requests = alloc_zero(sizeof *requests);

    requests->core = core;
    requests->interests = interests;
    requests->timeout_ms = question_timeout_ms(core->config);
    requests->timer.fire = on_question_timer;
    requests->slice.handle = run_walk_slice;
    list_init(&requests->questions);
    list_init(&requests->walks);
    interests->moves = skip_in_walks;
    interests->moves_context = requests;
    cluster_core_handle(core, MESSAGE_API_REQUEST, on_api_request, false, requests);
    cluster_core_handle(core, MESSAGE_API_ANSWER, on_api_answer, false, requests);
    cluster_core_add_part(core, &(struct cluster_part){.down = on_questions_down,
                                                       .node_left = on_questioned_node_gone,
                                                       .node_replaced = on_questioned_node_replaced,
                                                       .dispose = dispose_requests,
                                                       .context = requests});
    return requests;
}
