#include "api/publish_counts.h"

#include <stdlib.h>
#include <string.h>

#include "api/dispatch.h"
#include "api/idempotency.h"
#include "api/publish_body.h"
#include "api/publish_claim.h"
#include "api/publish_repeat.h"
#include "base/json.h"
#include "base/list.h"
#include "cluster/cluster.h"
#include "cluster/requests.h"
#include "net/chunk.h"

/* A channel of the answer. */
struct count_entry {
    size_t name_at; /* in `names`; a slice would not survive its growth */
    struct slice name;
    unsigned info;
    struct channel_counts counts;
};

struct counts {
    struct question question;
    struct api_call *call; /* that waits; NULL: the client has gone */
    struct buffer names;
    struct buffer asked; /* the app's id and the names for the question */
    bool batch;
    bool incomplete;
    size_t count, sorted_count;
    struct count_entry **sorted; /* those that have info, by name */
    struct count_entry entries[];
};

struct counts *counts_create(size_t count, bool batch) {
    struct counts *counts = calloc(1, sizeof *counts + count * sizeof counts->entries[0]);

    if (counts == NULL)
        return NULL;
    counts->batch = batch;
    counts->sorted = malloc((count + 1) * sizeof counts->sorted[0]);
    if (counts->sorted != NULL)
        return counts;
    free(counts);
    return NULL;
}

void counts_free(struct counts *counts) {
    if (counts == NULL)
        return;
    buffer_dispose(&counts->names);
    buffer_dispose(&counts->asked);
    free(counts->sorted);
    free(counts);
}

void counts_add(struct counts *counts, unsigned info, struct slice name, struct channel_counts known) {
    counts->entries[counts->count++] = (struct count_entry){
        .name_at = counts->names.length, .name.length = name.length, .info = info, .counts = known};
    buffer_append(&counts->names, name);
}

/* All names are there. */
static void set_names(struct counts *counts) {
    for (size_t i = 0; i < counts->count; i++)
        counts->entries[i].name.data = buffer_slice(&counts->names).data + counts->entries[i].name_at;
}

/* --- the answer --- */

/* {"channels":{"a":{"subscription_count":1}}} or {"batch":[{"subscription_count":1},{}]} */
static void append_counts(const struct counts *counts, struct buffer *out) {
    buffer_append(out, counts->batch ? SLICE("{\"batch\":[") : SLICE("{\"channels\":{"));
    for (size_t i = 0; i < counts->count; i++) {
        const struct count_entry *entry = &counts->entries[i];

        if (i != 0)
            buffer_append_byte(out, ',');
        if (!counts->batch) {
            json_append_string(out, entry->name);
            buffer_append_byte(out, ':');
        }
        buffer_append_byte(out, '{');
        info_append_counts(out, entry->info, channel_type_of(entry->name), entry->counts);
        buffer_append_byte(out, '}');
    }
    buffer_append_byte(out, counts->batch ? ']' : '}');
    info_append_incomplete(out, counts->incomplete);
    buffer_append_byte(out, '}');
}

bool counts_answered(struct api_call *call) {
    if (call->listed == NULL)
        return false;
    repeat_accepted(call, (struct slice){call->listed->bytes, call->listed->length});
    return true;
}

/* --- other nodes --- */

static int compare_entries(const void *a, const void *b) {
    return slice_compare((*(struct count_entry *const *)a)->name, (*(struct count_entry *const *)b)->name);
}

/* Adds what a node has to all entries of that name. */
static void add_node_counts(struct counts *counts, const struct channel_answer *answer) {
    size_t low = 0, high = counts->sorted_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (slice_compare(counts->sorted[middle]->name, answer->name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < counts->sorted_count && slice_equal(counts->sorted[low]->name, answer->name); low++) {
        struct channel_counts *sum = &counts->sorted[low]->counts;

        sum->subscriptions += answer->subscriptions;
        if (sum->users < answer->users)
            sum->users = answer->users;
    }
}

/* On the worker. The app may have gone meanwhile, so the call begins again with the search for it. */
static void on_counts_answered(struct question *question) {
    struct counts *counts = container_of(question, struct counts, question);
    struct slice answers = buffer_slice(&question->answers);
    struct api_call *call = counts->call;
    struct channel_answer answer;
    struct buffer text = {0};

    if (call != NULL) {
        while (requests_next(&answers, &answer))
            add_node_counts(counts, &answer);
        counts->incomplete = !question->complete;
        append_counts(counts, &text);
        api_call_resume(call);
        call->listed = frame_create(text.length);
        memcpy(call->listed->bytes, buffer_slice(&text).data, text.length);
        api_dispatch_again(call);
        buffer_dispose(&text);
    }
    buffer_dispose(&question->answers);
    counts_free(counts);
}

/* The event is published: a repeat gets what is known. */
static void abandon_counts(struct api_call *call) {
    struct counts *counts = call->waits_for;
    struct buffer text = {0};

    counts->call = NULL;
    if (call->repeat == NULL)
        return;
    append_counts(counts, &text);
    idempotency_finish(call->api->idempotency, call->repeat, buffer_slice(&text), call->worker->now_ms);
    call->repeat = NULL;
    buffer_dispose(&text);
}

/* Writes the app's id and each name once; the counts of this node become its own ones, to which others are added. */
static void prepare_question(struct counts *counts, struct api_call *call) {
    struct slice app = slice_of(call->lookup.slot->id);
    struct slice asked;

    for (size_t i = 0; i < counts->count; i++)
        if (counts->entries[i].info != 0)
            counts->sorted[counts->sorted_count++] = &counts->entries[i];
    qsort(counts->sorted, counts->sorted_count, sizeof counts->sorted[0], compare_entries);
    buffer_append(&counts->asked, app);
    for (size_t i = 0; i < counts->sorted_count; i++) {
        struct count_entry *entry = counts->sorted[i];
        struct channel_info own;

        channel_inspect(call->lookup.slot, entry->name, false, &own);
        entry->counts.subscriptions = own.own_subscriptions;
        if (i == 0 || !slice_equal(counts->sorted[i - 1]->name, entry->name))
            requests_add(&counts->asked, &(struct channel_answer){.name = entry->name});
    }
    asked = buffer_slice(&counts->asked);
    counts->question = (struct question){.kind = QUESTION_NAMES,
                                         .app = {asked.data, app.length},
                                         .name = slice_skip(asked, app.length),
                                         .worker = call->worker,
                                         .answered = on_counts_answered};
}

void counts_answer(struct counts *counts, struct api_call *call) {
    struct buffer text = {0};

    set_names(counts);
    claim_keep(call);
    if (call->api->cluster != NULL) {
        prepare_question(counts, call);
        counts->call = call;
        api_call_wait(call, counts, abandon_counts);
        if (cluster_ask(call->api->cluster, &counts->question))
            return;
        api_call_resume(call);
    }
    append_counts(counts, &text);
    repeat_accepted(call, buffer_slice(&text));
    buffer_dispose(&text);
    counts_free(counts);
}
