#include "webhook/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/webhook_setting.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"

#define SYNC_INTERVAL_MS 100
#define FLUSH_BYTES (256 * 1024)
#define LOG_INTERVAL_MS 10000
/* The files have this part of the maximum each; when there are more than CROWDED, the oldest is emptied. */
#define SEGMENTS 16
#define CROWDED 12
#define NAME_DIGITS 12

struct spool_segment {
    struct list link; /* the oldest first */
    uint64_t number;
    uint64_t bytes;
    size_t pending; /* units in it */
    void *map;      /* while units of an earlier process are taken over */
    size_t map_bytes;
};

struct spool {
    const char *path;
    int folder_fd, file_fd; /* the file is that of the last segment */
    uint64_t max_bytes, bytes;
    struct list segments;
    uint64_t last_number; /* of a file in the folder */
    uint64_t next_number;
    struct buffer buffer; /* not written yet */
    bool dirty;           /* written, not synced */
    uint64_t synced_ms, logged_ms;

    struct spool_restored *restored;     /* in order of app and number */
    size_t restored_count, taken, later; /* the first `later` of those taken are for the next round */
};

static struct spool_segment *last_segment(const struct spool *spool) {
    return container_of(spool->segments.previous, struct spool_segment, link);
}

static void segment_file_name(uint64_t number, char name[32]) {
    snprintf(name, 32, "%0*llu.spool", NAME_DIGITS, (unsigned long long)number);
}

/* Says, not too often, that units are only in memory. */
static void log_spool_problem(struct spool *spool, const char *what) {
    uint64_t now_ms = clock_monotonic_ms();

    if (spool->logged_ms != 0 && now_ms - spool->logged_ms < LOG_INTERVAL_MS)
        return;
    spool->logged_ms = now_ms;
    log_error("webhook", "webhooks.spool_path %s: %s; events are kept in memory only", spool->path, what);
}

/* --- files --- */

static struct spool_segment *add_segment(struct spool *spool, uint64_t number) {
    struct spool_segment *segment = alloc_zero(sizeof *segment);

    segment->number = number;
    list_append(&spool->segments, &segment->link);
    return segment;
}

static void delete_segment(struct spool *spool, struct spool_segment *segment) {
    char name[32];

    segment_file_name(segment->number, name);
    unlinkat(spool->folder_fd, name, 0);
    if (segment->map != NULL)
        munmap(segment->map, segment->map_bytes);
    spool->bytes -= segment->bytes;
    list_remove(&segment->link);
    free(segment);
}

/* Begins a new file. */
static bool begin_segment(struct spool *spool) {
    uint64_t number = spool->last_number + 1;
    char name[32];
    int fd;

    segment_file_name(number, name);
    fd = openat(spool->folder_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0)
        return false;
    if (spool->file_fd >= 0) {
        fdatasync(spool->file_fd);
        close(spool->file_fd);
    }
    fsync(spool->folder_fd); /* the file's name */
    spool->file_fd = fd;
    spool->last_number = number;
    add_segment(spool, number);
    buffer_append_string(&spool->buffer, SPOOL_MAGIC);
    return true;
}

/* How many of these bytes of the buffer are whole records. */
static size_t whole_record_bytes(const struct spool *spool, size_t written) {
    struct slice rest = {spool->buffer.data, written};
    struct spool_record record;

    if (last_segment(spool)->bytes == 0 && !spool_magic_read(&rest))
        return 0;
    while (spool_record_read(&rest, &record))
        ;
    return written - rest.length;
}

static void count_written(struct spool *spool, size_t bytes) {
    last_segment(spool)->bytes += bytes;
    spool->bytes += bytes;
    spool->dirty |= bytes > 0;
}

/* After an error: cuts the file off behind its last whole record, since a reader stops at one that is not whole. If
 * that fails too, another file is begun. */
static void cut_torn_record(struct spool *spool, size_t written) {
    count_written(spool, whole_record_bytes(spool, written));
    spool->buffer.length = 0;
    if (ftruncate(spool->file_fd, (off_t)last_segment(spool)->bytes) != 0)
        begin_segment(spool);
    else if (last_segment(spool)->bytes == 0)
        buffer_append_string(&spool->buffer, SPOOL_MAGIC);
}

/* Writes the buffer. */
static void write_spool_buffer(struct spool *spool) {
    size_t done = 0;

    while (done < spool->buffer.length) {
        ssize_t count = write(spool->file_fd, spool->buffer.data + done, spool->buffer.length - done);

        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            break;
        done += (size_t)count;
    }
    if (done == spool->buffer.length) {
        count_written(spool, done);
        spool->buffer.length = 0;
        return;
    }
    log_spool_problem(spool, strerror(errno));
    cut_torn_record(spool, done);
}

static void delete_done_segments(struct spool *spool) {
    while (spool->segments.next != spool->segments.previous) {
        struct spool_segment *oldest = container_of(spool->segments.next, struct spool_segment, link);

        if (oldest->pending > 0 || oldest->map != NULL)
            return;
        delete_segment(spool, oldest);
    }
}

/* --- what an earlier process left --- */

struct spool_scan {
    struct spool *spool;
    struct spool_restored *units;
    size_t unit_count, unit_capacity;
    uint64_t *done;
    size_t done_count, done_capacity;
    uint64_t highest;
};

static void add_done(struct spool_scan *scan, uint64_t number) {
    if (scan->done_count == scan->done_capacity) {
        scan->done_capacity = scan->done_capacity != 0 ? 2 * scan->done_capacity : 64;
        scan->done = alloc_array(scan->done, scan->done_capacity, sizeof scan->done[0]);
    }
    scan->done[scan->done_count++] = number;
}

static void add_restored(struct spool_scan *scan, struct spool_segment *segment, const struct spool_record *record) {
    if (scan->unit_count == scan->unit_capacity) {
        scan->unit_capacity = scan->unit_capacity != 0 ? 2 * scan->unit_capacity : 64;
        scan->units = alloc_array(scan->units, scan->unit_capacity, sizeof scan->units[0]);
    }
    scan->units[scan->unit_count++] =
        (struct spool_restored){.unit = {.number = record->number, .segment = segment}, .record = *record};
    for (size_t i = 0; i + 8 <= record->event_numbers.length; i += 8)
        add_done(scan, spool_number_at(record->event_numbers.data + i));
}

static void scan_segment(struct spool_scan *scan, struct spool_segment *segment) {
    struct slice rest = {segment->map, segment->map_bytes};
    struct spool_record record;

    if (!spool_magic_read(&rest))
        return;
    while (spool_record_read(&rest, &record)) {
        if (record.number > scan->highest)
            scan->highest = record.number;
        if (record.type == SPOOL_DONE)
            add_done(scan, record.number);
        else
            add_restored(scan, segment, &record);
    }
}

static int compare_numbers(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

/* By number; of one number the record in the newest file first. */
static int compare_restored(const void *a, const void *b) {
    const struct spool_restored *left = a, *right = b;

    if (left->unit.number != right->unit.number)
        return left->unit.number < right->unit.number ? -1 : 1;
    return (right->unit.segment->number > left->unit.segment->number) -
           (right->unit.segment->number < left->unit.segment->number);
}

static int compare_restored_apps(const void *a, const void *b) {
    const struct spool_restored *left = a, *right = b;
    int apps = slice_compare(left->record.app_id, right->record.app_id);

    return apps != 0 ? apps : compare_restored(a, b);
}

/* Keeps the units that are not done, in order of app and number. */
static void keep_pending(struct spool_scan *scan) {
    struct spool *spool = scan->spool;
    uint64_t last = 0;
    size_t kept = 0;

    if (scan->unit_count > 0)
        qsort(scan->units, scan->unit_count, sizeof scan->units[0], compare_restored);
    if (scan->done_count > 0)
        qsort(scan->done, scan->done_count, sizeof scan->done[0], compare_numbers);
    for (size_t i = 0; i < scan->unit_count; i++) {
        uint64_t number = scan->units[i].unit.number;

        if (number == last || (scan->done_count > 0 && bsearch(&number, scan->done, scan->done_count,
                                                               sizeof scan->done[0], compare_numbers) != NULL))
            continue;
        last = number;
        scan->units[i].unit.segment->pending++;
        scan->units[kept++] = scan->units[i];
    }
    if (kept > 0)
        qsort(scan->units, kept, sizeof scan->units[0], compare_restored_apps);
    spool->restored = scan->units;
    spool->restored_count = kept;
    spool->next_number = scan->highest + 1;
    free(scan->done);
}

/* What it holds is signed and sent: true if nobody but this user and root can have written it. */
static bool only_own_writes(const struct stat *status) {
    return (status->st_uid == geteuid() || status->st_uid == 0) && (status->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* Opens a file to be read; -1 with errno, which is 0 if the file is left alone. */
static int open_segment(const struct spool *spool, uint64_t number, struct stat *status) {
    char name[32];
    int fd;

    segment_file_name(number, name);
    fd = openat(spool->folder_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, status) == 0 && S_ISREG(status->st_mode) && only_own_writes(status))
        return fd;
    if (fd < 0 && errno != ELOOP && errno != ENXIO)
        return -1;
    if (fd >= 0)
        close(fd);
    log_error("webhook", "webhooks.spool_path %s: %s is not read: it is no regular file that only this user can write",
              spool->path, name);
    errno = 0;
    return -1;
}

static bool map_segment(struct spool *spool, uint64_t number) {
    struct spool_segment *segment;
    struct stat status;
    int fd = open_segment(spool, number, &status);

    if (fd < 0)
        return errno == 0;
    segment = add_segment(spool, number);
    segment->bytes = segment->map_bytes = (size_t)status.st_size;
    spool->bytes += segment->bytes;
    if (segment->map_bytes > 0)
        segment->map = mmap(NULL, segment->map_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (segment->map == MAP_FAILED)
        segment->map = NULL;
    return segment->map != NULL || segment->map_bytes == 0;
}

/* The number of a file's name; 0: it is none of the spool's. */
static uint64_t segment_number_of(const char *name) {
    unsigned long long number;
    struct slice digits = {name, strcspn(name, ".")};

    return strcmp(name + digits.length, ".spool") == 0 && slice_to_number(digits, INT64_MAX, &number) ? number : 0;
}

/* Maps all files, the oldest first. */
static bool map_segments(struct spool *spool, struct error *error) {
    int fd = openat(spool->folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    uint64_t *numbers = NULL;
    size_t count = 0;
    bool good = folder != NULL;

    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        uint64_t number = segment_number_of(entry->d_name);

        if (number == 0)
            continue;
        numbers = alloc_array(numbers, count + 1, sizeof numbers[0]);
        numbers[count++] = number;
    }
    if (count > 0)
        qsort(numbers, count, sizeof numbers[0], compare_numbers);
    for (size_t i = 0; i < count && good; i++)
        good = map_segment(spool, spool->last_number = numbers[i]);
    if (!good)
        error_set(error, "webhooks.spool_path %s cannot be read: %s", spool->path, strerror(errno));
    free(numbers);
    if (folder != NULL)
        closedir(folder);
    return good;
}

/* Frees what is only needed while units of an earlier process are taken over. */
static void release_restored(struct spool *spool) {
    for (struct list *link = spool->segments.next; link != &spool->segments; link = link->next) {
        struct spool_segment *segment = container_of(link, struct spool_segment, link);

        if (segment->map != NULL)
            munmap(segment->map, segment->map_bytes);
        segment->map = NULL;
    }
    free(spool->restored);
    spool->restored = NULL;
    spool->restored_count = spool->taken = spool->later = 0;
}

bool spool_next_app(struct spool *spool, struct slice *app_id, const struct spool_restored **units, size_t *count) {
    if (spool->taken == spool->restored_count)
        return false;
    *units = &spool->restored[spool->taken];
    *app_id = (*units)->record.app_id;
    *count = 0;
    while (spool->taken + *count < spool->restored_count && slice_equal((*units)[*count].record.app_id, *app_id))
        ++*count;
    return true;
}

/* At the end of a round: begins the next one with the units that were left for later; false: there are none. */
static bool begin_next_round(struct spool *spool) {
    if (spool->later == 0)
        return false;
    spool->restored_count = spool->later;
    spool->taken = spool->later = 0;
    return true;
}

bool spool_app_later(struct spool *spool) {
    const struct spool_restored *units;
    struct slice app_id;
    size_t count;

    if (spool_next_app(spool, &app_id, &units, &count)) {
        memmove(&spool->restored[spool->later], units, count * sizeof *units);
        spool->later += count;
        spool->taken += count;
    }
    return spool->taken == spool->restored_count && begin_next_round(spool);
}

void spool_app_taken(struct spool *spool) {
    const struct spool_restored *units;
    struct slice app_id;
    size_t count;

    if (spool_next_app(spool, &app_id, &units, &count))
        spool->taken += count;
    if (spool->taken == spool->restored_count && !begin_next_round(spool))
        release_restored(spool);
}

/* --- opening --- */

static bool open_folder(struct spool *spool, bool *held, struct error *error) {
    struct stat status;

    if (mkdir(spool->path, S_IRWXU) != 0 && errno != EEXIST)
        return error_set(error, "webhooks.spool_path %s cannot be made: %s", spool->path, strerror(errno));
    spool->folder_fd = open(spool->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (spool->folder_fd < 0)
        return error_set(error, "webhooks.spool_path %s cannot be opened: %s", spool->path, strerror(errno));
    if (fstat(spool->folder_fd, &status) != 0 || !only_own_writes(&status))
        return error_set(
            error,
            "webhooks.spool_path %s can be written by others, and what is in it is signed and sent: it must "
            "belong to the user of the server (or root), with mode 0700",
            spool->path);
    if (flock(spool->folder_fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (held != NULL)
        *held = errno == EWOULDBLOCK;
    return error_set(error, "webhooks.spool_path %s is in use by another process; each server needs its own folder",
                     spool->path);
}

static void free_spool(struct spool *spool) {
    release_restored(spool);
    while (!list_empty(&spool->segments)) {
        struct spool_segment *segment = container_of(spool->segments.next, struct spool_segment, link);

        list_remove(&segment->link);
        free(segment);
    }
    if (spool->file_fd >= 0)
        close(spool->file_fd);
    if (spool->folder_fd >= 0)
        close(spool->folder_fd);
    buffer_dispose(&spool->buffer);
    free(spool);
}

struct spool *spool_open(const char *path, uint64_t max_bytes, bool *held, struct error *error) {
    struct spool *spool = alloc_zero(sizeof *spool);
    struct spool_scan scan = {.spool = spool};

    *spool = (struct spool){.path = path, .folder_fd = -1, .file_fd = -1, .max_bytes = max_bytes};
    list_init(&spool->segments);
    if (held != NULL)
        *held = false;
    if (!open_folder(spool, held, error) || !map_segments(spool, error)) {
        free_spool(spool);
        return NULL;
    }
    for (struct list *link = spool->segments.next; link != &spool->segments; link = link->next)
        scan_segment(&scan, container_of(link, struct spool_segment, link));
    keep_pending(&scan);
    if (!begin_segment(spool)) {
        error_set(error, "webhooks.spool_path %s cannot be written: %s", path, strerror(errno));
        free_spool(spool);
        return NULL;
    }
    if (spool->restored_count == 0)
        release_restored(spool);
    return spool;
}

void spool_close(struct spool *spool) {
    if (spool == NULL)
        return;
    spool_flush(spool, clock_monotonic_ms());
    fdatasync(spool->file_fd);
    free_spool(spool);
}

/* --- writing --- */

uint64_t spool_flush(struct spool *spool, uint64_t now_ms) {
    if (spool->buffer.length > 0)
        write_spool_buffer(spool);
    if (last_segment(spool)->bytes > spool->max_bytes / SEGMENTS && !begin_segment(spool))
        log_spool_problem(spool, strerror(errno));
    delete_done_segments(spool);
    if (!spool->dirty)
        return UINT64_MAX;
    if (now_ms - spool->synced_ms < SYNC_INTERVAL_MS)
        return spool->synced_ms + SYNC_INTERVAL_MS;
    fdatasync(spool->file_fd);
    spool->dirty = false;
    spool->synced_ms = now_ms;
    return UINT64_MAX;
}

/* --- units --- */

static void append_unit(struct spool *spool, struct spool_unit *unit, const struct spool_record *record) {
    spool_record_append(&spool->buffer, record);
    unit->number = record->number;
    unit->segment = last_segment(spool);
    unit->segment->pending++;
    if (spool->buffer.length > FLUSH_BYTES)
        write_spool_buffer(spool);
}

void spool_put(struct spool *spool, struct spool_unit *unit, struct spool_record *record) {
    *unit = (struct spool_unit){0};
    if (spool->bytes + spool->buffer.length + record->text.length > spool->max_bytes) {
        log_spool_problem(spool, "webhooks.spool_max_mb is reached");
        return;
    }
    record->number = spool->next_number++;
    append_unit(spool, unit, record);
}

void spool_done(struct spool *spool, struct spool_unit *unit) {
    const struct spool_record record = {.type = SPOOL_DONE, .number = unit->number};

    if (unit->segment == NULL)
        return;
    spool_record_append(&spool->buffer, &record);
    unit->segment->pending--;
    *unit = (struct spool_unit){0};
}

void spool_absorbed(struct spool_unit *unit) {
    if (unit->segment != NULL)
        unit->segment->pending--;
    *unit = (struct spool_unit){0};
}

const struct spool_segment *spool_crowded(struct spool *spool) {
    const struct spool_segment *oldest = container_of(spool->segments.next, struct spool_segment, link);

    return last_segment(spool)->number - oldest->number >= CROWDED && oldest->map == NULL ? oldest : NULL;
}

void spool_put_again(struct spool *spool, struct spool_unit *unit, struct spool_record *record) {
    unit->segment->pending--;
    record->number = unit->number;
    append_unit(spool, unit, record);
}

/* The target of a URL without its user and password. */
static void append_url(struct buffer *text, struct slice url) {
    const char *start = memmem(url.data, url.length, "//", 2);
    size_t authority = start != NULL ? (size_t)(start + 2 - url.data) : 0;
    size_t length = strcspn(url.data + authority, "/?#");
    const char *at = memrchr(url.data + authority, '@', length);

    buffer_append_bytes(text, url.data, authority);
    buffer_append(text, slice_skip(url, at != NULL ? (size_t)(at + 1 - url.data) : authority));
}

static void append_target(struct buffer *text, const struct app_webhook *webhook) {
    if (webhook->url.data != NULL) {
        append_url(text, webhook->url);
        return;
    }
    buffer_append(text, webhook->lambda_function);
    buffer_append_byte(text, '\n');
    buffer_append(text, webhook->lambda_region);
}

void spool_target_of(const struct app_webhook *webhooks, size_t index, uint8_t target[SPOOL_TARGET_BYTES]) {
    struct buffer wanted = {0}, other = {0};
    char hex[SHA256_HEX];

    append_target(&wanted, &webhooks[index]);
    sha256_hex(buffer_slice(&wanted), hex);
    memcpy(target, hex, SPOOL_TARGET_BYTES - 1);
    target[SPOOL_TARGET_BYTES - 1] = 0;
    for (size_t i = 0; i < index; i++) {
        other.length = 0;
        append_target(&other, &webhooks[i]);
        target[SPOOL_TARGET_BYTES - 1] += slice_equal(buffer_slice(&wanted), buffer_slice(&other));
    }
    buffer_dispose(&wanted);
    buffer_dispose(&other);
}
