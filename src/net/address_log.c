#include "net/address_log.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/log.h"

#define MINUTE_MS 60000
#define TEXT_MAX 512

void address_log_init(struct address_log *log, unsigned most) {
    *log = (struct address_log){.most = most};
    pthread_mutex_init(&log->mutex, NULL);
}

void address_log_dispose(struct address_log *log) {
    pthread_mutex_destroy(&log->mutex);
}

/* With the mutex held. */
static enum address_news note_address(struct address_log *log, uint64_t address, uint64_t minute) {
    if (log->minute != minute) {
        log->minute = minute;
        log->count = 0;
        log->full = false;
    }
    for (unsigned i = 0; i < log->count; i++)
        if (log->addresses[i] == address)
            return ADDRESS_KNOWN;
    if (log->count < log->most) {
        log->addresses[log->count++] = address;
        return ADDRESS_NEW;
    }
    if (log->full)
        return ADDRESS_KNOWN;
    log->full = true;
    return ADDRESS_MORE;
}

enum address_news address_log_note(struct address_log *log, const char *address, uint64_t now_ms) {
    uint64_t hash = hash_bytes(slice_of(address)), minute = now_ms / MINUTE_MS;
    enum address_news news;

    pthread_mutex_lock(&log->mutex);
    news = note_address(log, hash, minute);
    pthread_mutex_unlock(&log->mutex);
    return news;
}

void address_log_refused(struct address_log *log, const char *address, uint64_t now_ms, const char *format, ...) {
    enum address_news news = log != NULL ? address_log_note(log, address, now_ms) : ADDRESS_KNOWN;
    char text[TEXT_MAX];
    va_list arguments;

    if (news == ADDRESS_KNOWN)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (news == ADDRESS_NEW)
        log_write_each(LOG_WARNING, "net", "%s: %s", address, text);
    else
        log_warning("net", "clients of more than %u addresses were refused in this minute; the others are not logged",
                    log->most);
}
