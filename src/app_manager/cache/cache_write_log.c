#include "app_manager/cache/cache_write_log.h"

#include <stdlib.h>

#include "base/alloc.h"

struct logged_write {
    struct list link;
    uint64_t version, at_ms;
    char *id, *old_key, *new_key; /* NULL: none */
};

void write_log_init(struct write_log *log, uint64_t keep_ms) {
    *log = (struct write_log){.keep_ms = keep_ms};
    list_init(&log->writes);
}

static struct logged_write *oldest_write(struct write_log *log) {
    return list_empty(&log->writes) ? NULL : container_of(log->writes.next, struct logged_write, link);
}

static void forget_write(struct write_log *log, struct logged_write *write) {
    log->forgotten = write->version;
    list_remove(&write->link);
    log->count--;
    free(write->id);
    free(write->old_key);
    free(write->new_key);
    free(write);
}

void write_log_dispose(struct write_log *log) {
    struct logged_write *write;

    while ((write = oldest_write(log)) != NULL)
        forget_write(log, write);
}

uint64_t write_log_version(const struct write_log *log) {
    return log->last;
}

static char *copy_or_null(struct slice text) {
    return text.length != 0 ? alloc_copy(text.data, text.length) : NULL;
}

void write_log_add(struct write_log *log, struct slice id, struct slice old_key, struct slice new_key,
                   uint64_t now_ms) {
    struct logged_write *write = alloc(sizeof *write);

    *write = (struct logged_write){.version = ++log->last,
                                   .at_ms = now_ms,
                                   .id = copy_or_null(id),
                                   .old_key = copy_or_null(old_key),
                                   .new_key = copy_or_null(new_key)};
    list_append(&log->writes, &write->link);
    log->count++;
    write_log_trim(log, now_ms);
}

void write_log_add_any(struct write_log *log) {
    log->forgotten = ++log->last;
}

static bool is_name(const char *text, struct slice name) {
    return text != NULL && slice_equal(slice_of(text), name);
}

bool write_log_concerns(const struct write_log *log, uint64_t since, struct slice id, struct slice key) {
    if (since < log->forgotten)
        return true;
    for (const struct list *link = log->writes.previous; link != &log->writes; link = link->previous) {
        const struct logged_write *write = container_of(link, struct logged_write, link);
        if (write->version <= since)
            break;
        if (is_name(write->id, id) || is_name(write->old_key, key) || is_name(write->new_key, key))
            return true;
    }
    return false;
}

void write_log_trim(struct write_log *log, uint64_t now_ms) {
    struct logged_write *write;

    while ((write = oldest_write(log)) != NULL && (log->count > WRITE_LOG_MAX || now_ms >= write->at_ms + log->keep_ms))
        forget_write(log, write);
}
