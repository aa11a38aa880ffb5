/*
 * The value of a setting: from text (a default, an environment variable) or JSON to its member of struct config.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/buffer.h"
#include "base/slice.h"
#include "config/config_table.h"

/* Sets the setting from text; false, with the configuration unchanged, if the text is not of its type. */
bool config_value_from_text(struct config *config, const struct config_row *row, const char *text);

/* The same from a value in the file. */
bool config_value_from_json(struct config *config, const struct config_row *row, const json_t *json);

/* True if the value is a word that the setting does not know, and takes for its first one (CONFIG_FIRST_IF_OTHER). */
bool config_value_is_other(const struct config_row *row, const json_t *json);

/* Frees what the setting holds and makes it unset. */
void config_value_clear(struct config *config, const struct config_row *row);

/* True if the setting has the same value in both. */
bool config_value_equal(const struct config *a, const struct config *b, const struct config_row *row);

/* Appends a description of valid values: "a number from 0 to 65535". */
void config_value_describe(const struct config_row *row, struct buffer *buffer);

/*
 * Appends what an invalid value in the file is: its kind, or the number. Never the content of a text: it may be a
 * password in the wrong place.
 */
void config_value_describe_json(const json_t *json, struct buffer *buffer);

/* Appends what an invalid value is not: ", not 5", or "; did you mean postgres?" for one of several words. Nothing if
 * the kind of value is right. */
void config_value_describe_fault(const struct config_row *row, const json_t *json, struct buffer *buffer);

/* Appends "; did you mean postgres?" if the setting takes one of several words, and the text is near to one. */
void config_value_suggest(const struct config_row *row, struct slice text, struct buffer *buffer);

/* The texts between commas, without blanks around them and without empty ones; NULL if one is not UTF-8. */
json_t *config_json_list(const char *text);

/* true/false/1/0/yes/no/on/off in any case. */
bool config_flag_from_text(struct slice text, bool *flag);

/* True if `word` is the choice's name or one of the aliases behind it. */
bool config_choice_matches(const char *choice, struct slice word, bool any_case);

/* `text` without blanks around it. */
struct slice config_trim(struct slice text);
