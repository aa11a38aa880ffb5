#include "api/metrics.h"

void metrics_append_label(struct buffer *labels, const char *name, struct slice value) {
    if (labels->length != 0)
        buffer_append_byte(labels, ',');
    buffer_append_string(labels, name);
    buffer_append(labels, SLICE("=\""));
    for (size_t i = 0; i < value.length; i++) {
        if (value.data[i] == '\n') {
            buffer_append(labels, SLICE("\\n"));
            continue;
        }
        if (value.data[i] == '"' || value.data[i] == '\\')
            buffer_append_byte(labels, '\\');
        buffer_append_byte(labels, value.data[i]);
    }
    buffer_append_byte(labels, '"');
}

static void append_comment(struct metrics_page *page, struct slice kind, const char *text) {
    buffer_append(&page->text, kind);
    buffer_append(&page->text, page->prefix);
    buffer_append_string(&page->text, page->name);
    buffer_append_byte(&page->text, ' ');
    buffer_append_string(&page->text, text);
    buffer_append_byte(&page->text, '\n');
}

void metrics_family(struct metrics_page *page, const char *name, const char *type, const char *help) {
    page->name = name;
    append_comment(page, SLICE("# HELP "), help);
    append_comment(page, SLICE("# TYPE "), type);
}

/* Appends a sample up to its value. `suffix` is the one of a histogram's samples. */
static void append_start(struct metrics_page *page, struct slice suffix, struct slice labels, struct slice more) {
    buffer_append(&page->text, page->prefix);
    buffer_append_string(&page->text, page->name);
    buffer_append(&page->text, suffix);
    if (labels.length + more.length != 0) {
        buffer_append_byte(&page->text, '{');
        buffer_append(&page->text, labels);
        if (labels.length != 0 && more.length != 0)
            buffer_append_byte(&page->text, ',');
        buffer_append(&page->text, more);
        buffer_append_byte(&page->text, '}');
    }
    buffer_append_byte(&page->text, ' ');
}

static void append_number(struct metrics_page *page, uint64_t value) {
    buffer_append_number(&page->text, value);
    buffer_append_byte(&page->text, '\n');
}

static void append_fraction(struct metrics_page *page, double value) {
    buffer_appendf(&page->text, "%.9g\n", value);
}

void metrics_sample(struct metrics_page *page, struct slice labels, uint64_t value) {
    append_start(page, SLICE(""), labels, SLICE(""));
    append_number(page, value);
}

void metrics_fraction(struct metrics_page *page, struct slice labels, double value) {
    append_start(page, SLICE(""), labels, SLICE(""));
    append_fraction(page, value);
}

void metrics_sample_of(struct metrics_page *page, struct slice labels, const char *label, const char *label_value,
                       uint64_t value) {
    struct buffer more = {0};

    metrics_append_label(&more, label, slice_of(label_value));
    append_start(page, SLICE(""), labels, buffer_slice(&more));
    append_number(page, value);
    buffer_dispose(&more);
}

void metrics_histogram(struct metrics_page *page, struct slice labels, const uint64_t *bounds, const uint64_t *counts,
                       size_t bucket_count, uint64_t sum, double unit) {
    struct buffer bound = {0};
    uint64_t count = 0;

    for (size_t i = 0; i < bucket_count; i++) {
        count += counts[i];
        bound.length = 0;
        if (i + 1 < bucket_count)
            buffer_appendf(&bound, "le=\"%.9g\"", (double)bounds[i] / unit);
        else
            buffer_append(&bound, SLICE("le=\"+Inf\""));
        append_start(page, SLICE("_bucket"), labels, buffer_slice(&bound));
        append_number(page, count);
    }
    append_start(page, SLICE("_sum"), labels, SLICE(""));
    append_fraction(page, (double)sum / unit);
    append_start(page, SLICE("_count"), labels, SLICE(""));
    append_number(page, count);
    buffer_dispose(&bound);
}
