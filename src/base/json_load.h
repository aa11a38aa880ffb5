/*
 * jansson's reader, for texts whose `id`, `key` and `secret` may be integers of any length.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/slice.h"

/*
 * Reads `text` as json_loadb does; `flags` and `problem` are jansson's. An integer that is a member called `id`, `key`
 * or `secret` and has more digits than jansson can hold becomes a string of its exact digits. `-0` there stays a number
 * that is no integer, since its digits are not those of `0`. Any thread.
 */
json_t *json_load_text(struct slice text, size_t flags, json_error_t *problem);
