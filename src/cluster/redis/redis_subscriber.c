#include "cluster/redis/redis_subscriber.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cluster/redis/redis_slot.h"

/* Subjects whose confirmation has not come, at most: Redis takes about 40,000 a second. */
#define WINDOW 4096

/* Subjects in one command, and in one turn. */
#define BATCH 64
#define TURN_SUBJECTS 512

/* No more is appended while so much waits to be written. */
#define OUTPUT_BYTES (64 * 1024)

/* --- subjects --- */

/* Forgets what an earlier connection knew of the subject. */
static void renew_subject(const struct redis_subscriber *subscriber, struct redis_subject *subject) {
    if (subject->epoch == subscriber->epoch)
        return;
    subject->epoch = subscriber->epoch;
    subject->unanswered = 0;
    subject->on_server = subject->in_force = false;
}

static void list_subject(struct redis_subscriber *subscriber, struct redis_subject *subject, bool pending) {
    list_remove(&subject->link);
    subject->pending = pending;
    list_append(pending ? &subscriber->pending : &subscriber->settled, &subject->link);
}

void redis_subscriber_add(struct redis_subscriber *subscriber, struct slice text) {
    struct redis_subject *subject = redis_subjects_find(&subscriber->subjects, text);

    if (text.length > UINT16_MAX)
        return;
    if (subject == NULL)
        subject = redis_subjects_add(&subscriber->subjects, text);
    subject->wanted = true;
    subject->in_force = false;
    list_subject(subscriber, subject, true);
}

void redis_subscriber_end(struct redis_subscriber *subscriber, struct slice text) {
    struct redis_subject *subject = redis_subjects_find(&subscriber->subjects, text);

    if (subject == NULL)
        return;
    subject->wanted = false;
    list_subject(subscriber, subject, true);
}

void redis_subscriber_drop(struct redis_subscriber *subscriber, struct slice text) {
    struct redis_subject *subject = redis_subjects_find(&subscriber->subjects, text);

    if (subject == NULL)
        return;
    renew_subject(subscriber, subject);
    subject->wanted = subject->on_server = subject->in_force = false;
    list_subject(subscriber, subject, false);
    if (subject->unanswered == 0) /* else the last answer removes it */
        redis_subjects_remove(&subscriber->subjects, subject);
}

/* --- commands --- */

static void append_subject_command(struct redis_subscriber *subscriber, struct redis_subject *const *batch,
                                   size_t count, bool subscribes) {
    static const struct slice names[2][2] = {{SLICE_INIT("UNSUBSCRIBE"), SLICE_INIT("SUBSCRIBE")},
                                             {SLICE_INIT("SUNSUBSCRIBE"), SLICE_INIT("SSUBSCRIBE")}};
    struct redis_output *output = redis_connection_output(subscriber->connection);

    redis_output_command(output, 1 + count);
    redis_output_word(output, names[subscriber->kind == REDIS_SHARDED][subscribes]);
    for (size_t i = 0; i < count; i++)
        redis_output_word(output, redis_subject_text(batch[i]));
}

/* Takes subjects from the front of those that are pending until a command is full, or one needs the other command.
 * Returns the number that is in `batch`; `*looked` counts all that were taken. */
static size_t take_subject_batch(struct redis_subscriber *subscriber, struct redis_subject **batch, size_t max,
                                 size_t *looked) {
    size_t count = 0;

    while (count < max && *looked < TURN_SUBJECTS && !list_empty(&subscriber->pending)) {
        struct redis_subject *subject = container_of(subscriber->pending.next, struct redis_subject, link);
        renew_subject(subscriber, subject);
        if (subject->wanted != subject->on_server && count > 0 && batch[0]->on_server != subject->wanted)
            break;
        ++*looked;
        list_subject(subscriber, subject, false);
        if (subject->wanted != subject->on_server) {
            subject->on_server = subject->wanted;
            subject->unanswered++;
            batch[count++] = subject;
        } else if (subject->unanswered == 0 && !subject->wanted) {
            redis_subjects_remove(&subscriber->subjects, subject);
        } else if (subject->unanswered == 0) {
            subject->in_force = true; /* it was ended and begun anew before Redis heard of it */
            subscriber->events.in_force(subscriber->events.context, redis_subject_text(subject));
        }
    }
    return count;
}

static void send_pending_subjects(struct redis_subscriber *subscriber) {
    struct redis_subject *batch[BATCH];
    size_t max = subscriber->kind == REDIS_SHARDED || subscriber->held ? 1 : BATCH;
    size_t looked = 0;

    if (subscriber->held && subscriber->kind == REDIS_SHARDED)
        return;
    while (redis_subscriber_is_up(subscriber) && !list_empty(&subscriber->pending) && looked < TURN_SUBJECTS &&
           subscriber->unanswered < WINDOW && (!subscriber->held || list_empty(&subscriber->settled)) &&
           redis_connection_output(subscriber->connection)->waiting < OUTPUT_BYTES) {
        size_t count = take_subject_batch(subscriber, batch, max, &looked);
        if (count == 0 || !redis_subscriber_is_up(subscriber))
            continue;
        append_subject_command(subscriber, batch, count, batch[0]->on_server);
        if (subscriber->asked != NULL)
            subscriber->asked[(subscriber->asked_at + subscriber->unanswered) % WINDOW] =
                (struct redis_asked){batch[0], batch[0]->on_server};
        subscriber->unanswered += count;
    }
}

void redis_subscriber_flush(struct redis_subscriber *subscriber) {
    if (!redis_subscriber_is_up(subscriber))
        return;
    send_pending_subjects(subscriber);
    if (subscriber->connection != NULL)
        redis_connection_flush(subscriber->connection);
}

/* --- what Redis sends --- */

/* With REDIS_SHARDED: the command that is answered next; without a subject: there is none. */
static struct redis_asked next_asked(const struct redis_subscriber *subscriber) {
    return subscriber->unanswered > 0 ? subscriber->asked[subscriber->asked_at] : (struct redis_asked){0};
}

static void count_subject_answer(struct redis_subscriber *subscriber, struct redis_subject *subject) {
    subscriber->asked_at = (subscriber->asked_at + 1) % WINDOW;
    subscriber->unanswered--;
    subject->unanswered--;
}

/* False if nobody asked for it. */
static bool take_confirmation(struct redis_subscriber *subscriber, const struct redis_value *value) {
    struct redis_subject *subject = redis_subjects_find(&subscriber->subjects, redis_value_item_text(value, 1));

    if (subject == NULL || subject->epoch != subscriber->epoch || subject->unanswered == 0)
        return false;
    if (subscriber->asked != NULL) {
        struct redis_asked asked = next_asked(subscriber);
        bool subscribes = slice_equal(redis_value_item_text(value, 0), SLICE("ssubscribe"));
        if (asked.subject != subject || asked.subscribes != subscribes)
            return false;
    }
    count_subject_answer(subscriber, subject);
    if (subject->unanswered > 0 || subject->pending)
        return true;
    if (!subject->wanted) {
        redis_subjects_remove(&subscriber->subjects, subject);
    } else if (subject->on_server && !subject->in_force) {
        subject->in_force = true;
        subscriber->events.in_force(subscriber->events.context, redis_subject_text(subject));
    }
    return true;
}

/* A message holds the value that its texts are in. */
struct redis_message {
    struct bus_message message;
    struct redis_value *value;
};

static void release_redis_message(struct bus_message *message) {
    struct redis_message *held = container_of(message, struct redis_message, message);

    redis_value_free(held->value);
    free(held);
}

/* Takes the value over if it returns true. */
static bool take_redis_message(struct redis_subscriber *subscriber, struct redis_value *value) {
    struct slice text = redis_value_item_text(value, 1);
    const struct redis_subject *subject = redis_subjects_find(&subscriber->subjects, text);
    struct redis_message *held;

    if (subject == NULL || !subject->wanted || !subject->in_force || subject->epoch != subscriber->epoch)
        return false;
    held = alloc(sizeof *held);
    *held = (struct redis_message){
        {.subject = text, .payload = redis_value_item_text(value, 2), .release = release_redis_message}, value};
    subscriber->events.message(subscriber->events.context, &held->message);
    return true;
}

/* True if the error answers a command that counts as answered: it names another slot than that of the next command.
 *
 * A server that loses a slot sends `sunsubscribe` for its subjects unasked. If this node has just sent SUNSUBSCRIBE for
 * one of them, it takes that for the answer. The true answer comes later: MOVED. */
static bool is_late_refusal(struct redis_asked asked, const struct redis_value *value) {
    return redis_value_begins_with(value, "MOVED ") &&
           strtoul(value->text.data + strlen("MOVED "), NULL, 10) != redis_slot_of(redis_subject_text(asked.subject));
}

/* False if it is no answer to a command, or the owner does not deal with it. */
static bool take_refusal(struct redis_subscriber *subscriber, const struct redis_value *value) {
    struct redis_subject *subject;
    char text[UINT16_MAX];
    size_t length;

    if (subscriber->asked == NULL || value->type != REDIS_ERROR || subscriber->unanswered == 0 ||
        is_late_refusal(next_asked(subscriber), value))
        return false;
    subject = next_asked(subscriber).subject;
    count_subject_answer(subscriber, subject);
    length = subject->length;
    memcpy(text, subject->text, length);
    if (!subject->wanted && !subject->pending && subject->unanswered == 0)
        redis_subjects_remove(&subscriber->subjects, subject);
    return subscriber->events.refused(subscriber->events.context, (struct slice){text, length}, value);
}

static void take_other_value(struct redis_subscriber *subscriber, const struct redis_value *value) {
    if (take_refusal(subscriber, value))
        return;
    if (subscriber->events.other != NULL && subscriber->events.other(subscriber->events.context, value))
        return;
    if (subscriber->connection != NULL)
        redis_connection_refused(subscriber->connection, "subscribe", value);
}

enum subscriber_value { VALUE_MESSAGE, VALUE_CONFIRMATION, VALUE_PONG, VALUE_OTHER };

static enum subscriber_value kind_of_subscriber_value(const struct redis_subscriber *subscriber,
                                                      const struct redis_value *value) {
    static const struct slice names[2][3] = {
        {SLICE_INIT("message"), SLICE_INIT("subscribe"), SLICE_INIT("unsubscribe")},
        {SLICE_INIT("smessage"), SLICE_INIT("ssubscribe"), SLICE_INIT("sunsubscribe")},
    };
    const struct slice *own = names[subscriber->kind == REDIS_SHARDED];
    struct slice name = redis_value_item_text(value, 0);

    if (slice_equal(name, SLICE("pong")) || redis_value_begins_with(value, "PONG"))
        return VALUE_PONG;
    if (value->type != REDIS_ARRAY || value->item_count != 3)
        return VALUE_OTHER;
    if (slice_equal(name, own[0]))
        return VALUE_MESSAGE;
    return slice_equal(name, own[1]) || slice_equal(name, own[2]) ? VALUE_CONFIRMATION : VALUE_OTHER;
}

static void on_subscriber_value(void *context, struct redis_value *value) {
    struct redis_subscriber *subscriber = context;

    switch (kind_of_subscriber_value(subscriber, value)) {
    case VALUE_MESSAGE:
        if (take_redis_message(subscriber, value))
            return;
        break;
    case VALUE_CONFIRMATION:
        if (!take_confirmation(subscriber, value))
            take_other_value(subscriber, value);
        break;
    case VALUE_PONG:
        redis_connection_answered(subscriber->connection);
        break;
    case VALUE_OTHER:
        take_other_value(subscriber, value);
        break;
    }
    redis_value_free(value);
}

/* --- the connection --- */

static void on_subscriber_up(void *context) {
    struct redis_subscriber *subscriber = context;

    subscriber->events.up(subscriber->events.context);
    redis_subscriber_flush(subscriber);
}

static void on_subscriber_lost(void *context, const char *why) {
    struct redis_subscriber *subscriber = context;
    struct error error;

    error_set(&error, "%s", why);
    redis_subscriber_close(subscriber);
    subscriber->events.lost(subscriber->events.context, error.text);
}

static void on_subscriber_progress(void *context) {
    redis_subscriber_flush(context);
}

static void on_subscriber_probe(void *context) {
    struct redis_subscriber *subscriber = context;
    struct redis_output *output = redis_connection_output(subscriber->connection);

    redis_output_command(output, 1);
    redis_output_word(output, SLICE("PING"));
}

void redis_subscriber_init(struct redis_subscriber *subscriber, struct loop *loop, enum redis_subscriber_kind kind,
                           const struct redis_subscriber_events *events) {
    *subscriber = (struct redis_subscriber){.loop = loop, .kind = kind, .events = *events};
    list_init(&subscriber->pending);
    list_init(&subscriber->settled);
    if (kind == REDIS_SHARDED)
        subscriber->asked = alloc_zero(WINDOW * sizeof *subscriber->asked);
}

bool redis_subscriber_is_up(const struct redis_subscriber *subscriber) {
    return subscriber->connection != NULL && redis_connection_is_up(subscriber->connection);
}

void redis_subscriber_close(struct redis_subscriber *subscriber) {
    redis_connection_destroy(subscriber->connection);
    subscriber->connection = NULL;
    subscriber->epoch++;
    subscriber->unanswered = 0;
    list_move_all(&subscriber->pending, &subscriber->settled);
    list_move_all(&subscriber->settled, &subscriber->pending);
}

void redis_subscriber_dispose(struct redis_subscriber *subscriber) {
    redis_subscriber_close(subscriber);
    redis_subjects_dispose(&subscriber->subjects);
    free(subscriber->asked);
}

void redis_subscriber_open(struct redis_subscriber *subscriber, const struct redis_place *place,
                           const struct redis_access *access, uint64_t timeout_ms) {
    const struct redis_connection_events events = {.up = on_subscriber_up,
                                                   .lost = on_subscriber_lost,
                                                   .value = on_subscriber_value,
                                                   .progress = on_subscriber_progress,
                                                   .probe = on_subscriber_probe,
                                                   .context = subscriber};

    subscriber->connection = redis_connection_open(subscriber->loop, place, access, timeout_ms, &events);
}
