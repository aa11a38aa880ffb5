/*
 * Any bytes as a configuration file: what loads has every setting within its row's bounds; what does not says why; no
 * text could drive a terminal.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"
#include "config/config_table.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_messages(const struct config_messages *messages) {
    for (size_t i = 0; i < messages->count; i++)
        for (const char *c = messages->texts[i]; *c != '\0'; c++)
            MUST((unsigned char)*c >= ' ' && *c != 0x7f);
}

static void check_bounds(const struct config *config) {
    for (size_t i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        const char *at = (const char *)config + row->offset;
        uint32_t max = row->max != 0 ? row->max : UINT32_MAX, number;
        const char *text = NULL;

        memcpy(&number, at, sizeof number);
        if (row->type == CONFIG_UNSIGNED || row->type == CONFIG_OCTAL)
            MUST(number >= row->min && number <= max);
        if (row->type == CONFIG_TEXT)
            memcpy(&text, at, sizeof text);
        if (text != NULL && row->form != NULL)
            MUST(row->form->valid(text));
    }
    MUST(json_is_array(config->app_manager.array_apps));
    MUST(config->path_prefix[0] == '\0' || config->path_prefix[0] == '/');
    MUST(config->instance.process_id[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int descriptor = -1;
    static char name[40];
    struct config_report report = {0};
    struct config config;
    struct error error = {0};

    if (descriptor < 0) {
        clearenv();
        descriptor = memfd_create("config", MFD_CLOEXEC);
        MUST(descriptor >= 0);
        snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    }
    MUST(ftruncate(descriptor, 0) == 0);
    MUST(pwrite(descriptor, data, size, 0) == (ssize_t)size);
    if (config_load(&config, name, &report, &error)) {
        MUST(report.errors.count == 0);
        check_bounds(&config);
        config_dispose(&config);
    } else {
        MUST(report.errors.count > 0 && error.text[0] != '\0');
    }
    check_messages(&report.errors);
    check_messages(&report.warnings);
    check_messages(&report.accepted);
    config_report_dispose(&report);
    return 0;
}
