/*
 * The state of one load, shared by its steps: file, environment, default app, checks between settings.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"
#include "config/config_table.h"

struct config_loader {
    struct config *config;
    struct config_report *report;
    const char *file;     /* NULL: no file was read */
    const char **sources; /* by row: the file's name, the variable's, or NULL while the default holds */
};

/* The source of a setting's value: "config.json: port", "PORT", or "port" for a default. */
struct slice config_source(const struct config_loader *loader, const char *path, char *text, size_t size);

/* True if the file or the environment set it. */
bool config_was_set(const struct config_loader *loader, const char *path);

/* The value of the variable; NULL if it is missing or empty. */
const char *config_environment(const char *name);

/* Applies the environment: the table's variables, RUST_LOG and the admin token's rule. */
void config_load_environment(struct config_loader *loader);

/* Reports the variables of the protocol family that are set and have no meaning here as accepted without effect. */
void config_report_family_variables(struct config_report *report);

/* Adds the app of the environment to the array of apps, or the demo app if there is neither another one nor a file. */
void config_load_default_app(struct config_loader *loader);
