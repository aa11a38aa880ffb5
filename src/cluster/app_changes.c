#include "cluster/app_changes.h"

#include <stdlib.h>
#include <string.h>

#include "app_manager/app_manager.h"
#include "base/alloc.h"
#include "base/crypto.h"
#include "base/hash.h"
#include "base/list.h"

/* A notice is told after up to so long. */
#define NOTICE_DELAY_MS 200
/* So many notices wait at most; then they are told at once. */
#define NOTICES_MAX 1000

struct app_changes_part {
    struct cluster_core *core;
    struct publisher *publisher;
    struct loop_timer timer;
    struct list notices; /* struct noted_change, that wait for their time */
    unsigned notice_count;
    struct buffer list; /* of a message */
    bool was_down;      /* since the bus was up last */
};

/* A change that is to be told. */
struct noted_change {
    struct loop_message message;
    struct list link;
    struct app_changes_part *changes;
    uint64_t hash;                    /* of the id */
    struct message_app_change change; /* its texts are behind this structure */
    char texts[];
};

static char *copy_change_text(char *at, struct slice from, struct slice *to) {
    if (from.length != 0)
        memcpy(at, from.data, from.length);
    *to = (struct slice){at, from.length};
    return at + from.length;
}

/* --- telling --- */

static void say_changes(struct app_changes_part *changes) {
    struct cluster_message message = {.kind = MESSAGE_APP_CHANGES};
    struct buffer subject = {0};

    if (changes->list.length == 0)
        return;
    message.app_changes.apps = buffer_slice(&changes->list);
    subject_append_all(&subject, &changes->core->subjects);
    publisher_say(changes->publisher, buffer_slice(&subject), &message);
    buffer_dispose(&subject);
    changes->list.length = 0;
}

/* Adds a change to the message in the making, and frees it. */
static void say_change(struct app_changes_part *changes, struct noted_change *noted) {
    message_add_app_change(&changes->list, &noted->change);
    if (changes->list.length >= MESSAGE_LIST_BYTES - 1024)
        say_changes(changes);
    free(noted);
}

static void remove_notice(struct app_changes_part *changes, struct noted_change *noted) {
    list_remove(&noted->link);
    changes->notice_count--;
}

static void say_notices(struct app_changes_part *changes) {
    loop_timer_end(changes->core->loop, &changes->timer);
    while (!list_empty(&changes->notices)) {
        struct noted_change *noted = container_of(changes->notices.next, struct noted_change, link);

        remove_notice(changes, noted);
        say_change(changes, noted);
    }
    say_changes(changes);
}

static void on_notices_timer(struct loop_timer *timer) {
    say_notices(container_of(timer, struct app_changes_part, timer));
}

static void add_notice(struct app_changes_part *changes, struct noted_change *noted) {
    unsigned char delay;

    list_append(&changes->notices, &noted->link);
    if (++changes->notice_count >= NOTICES_MAX) {
        say_notices(changes);
    } else if (!loop_timer_is_set(&changes->timer)) {
        random_bytes(&delay, sizeof delay);
        loop_timer_set(changes->core->loop, &changes->timer, delay * NOTICE_DELAY_MS / UINT8_MAX);
    }
}

static void take_noted_change(struct loop *loop, struct loop_message *message) {
    struct noted_change *noted = container_of(message, struct noted_change, message);
    struct app_changes_part *changes = noted->changes;

    (void)loop;
    if (nodes_alive(changes->core->nodes) == 0) {
        free(noted);
    } else if (!noted->change.meant) {
        add_notice(changes, noted);
    } else {
        say_change(changes, noted);
        say_changes(changes);
    }
}

/* The key if it can be one: rows of a store may hold anything. */
static struct slice valid_key(struct slice key) {
    return app_name_valid(key) ? key : SLICE("");
}

void app_changes_note(struct app_changes_part *changes, struct slice id, struct slice old_key, struct slice new_key,
                      bool meant) {
    struct noted_change *noted;
    char *at;

    if (!app_name_valid(id))
        return;
    old_key = valid_key(old_key);
    new_key = valid_key(new_key);
    noted = alloc(sizeof *noted + id.length + old_key.length + new_key.length);
    at = noted->texts;

    *noted = (struct noted_change){.message.handle = take_noted_change, .changes = changes, .hash = hash_bytes(id)};
    at = copy_change_text(at, id, &noted->change.app);
    at = copy_change_text(at, old_key, &noted->change.old_key);
    copy_change_text(at, new_key, &noted->change.new_key);
    noted->change.meant = meant;
    loop_post(changes->core->loop, &noted->message);
    loop_wake(changes->core->loop);
}

/* --- hearing --- */

/* A notice that waits and says the same; NULL: there is none. */
static struct noted_change *find_notice(const struct app_changes_part *changes, const struct message_app_change *told) {
    uint64_t hash = hash_bytes(told->app);

    for (struct list *link = changes->notices.next; link != &changes->notices; link = link->next) {
        struct noted_change *noted = container_of(link, struct noted_change, link);

        if (noted->hash == hash && slice_equal(noted->change.app, told->app) &&
            slice_equal(noted->change.old_key, told->old_key) && slice_equal(noted->change.new_key, told->new_key))
            return noted;
    }
    return NULL;
}

/* Another node has told it: this one need not. */
static void drop_told_notice(struct app_changes_part *changes, const struct message_app_change *told) {
    struct noted_change *noted = find_notice(changes, told);

    if (noted == NULL)
        return;
    remove_notice(changes, noted);
    free(noted);
}

static bool on_app_changes(void *context, unsigned node, const struct cluster_message *message,
                           struct bus_message *bytes) {
    struct app_changes_part *changes = context;
    struct slice rest = message->app_changes.apps;
    struct message_app_change change;

    (void)node;
    (void)bytes;
    while (message_next_app_change(&rest, &change)) {
        drop_told_notice(changes, &change);
        app_manager_refresh(changes->core->apps, change.app, change.old_key, change.new_key, change.meant);
    }
    return false;
}

/* --- the part --- */

static void on_changes_down(void *context) {
    struct app_changes_part *changes = context;

    changes->was_down = true;
}

/* What others changed meanwhile may not have come. */
static void on_changes_gathered(void *context) {
    struct app_changes_part *changes = context;

    if (changes->was_down)
        app_manager_refresh_all(changes->core->apps);
    changes->was_down = false;
}

static void dispose_app_changes(void *context) {
    struct app_changes_part *changes = context;

    loop_timer_end(changes->core->loop, &changes->timer);
    while (!list_empty(&changes->notices)) {
        struct noted_change *noted = container_of(changes->notices.next, struct noted_change, link);

        remove_notice(changes, noted);
        free(noted);
    }
    buffer_dispose(&changes->list);
    free(changes);
}

struct app_changes_part *app_changes_create(struct cluster_core *core, struct publisher *publisher) {
    struct app_changes_part *changes = alloc_zero(sizeof *changes);
    const struct cluster_part part = {
        .down = on_changes_down,
        .gathered = on_changes_gathered,
        .dispose = dispose_app_changes,
        .context = changes,
    };

    changes->core = core;
    changes->publisher = publisher;
    changes->timer.fire = on_notices_timer;
    list_init(&changes->notices);
    cluster_core_add_part(core, &part);
    cluster_core_handle(core, MESSAGE_APP_CHANGES, on_app_changes, false, changes);
    return changes;
}
