/*
 * The memory of the machine, or of the control group, as JSON.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"

/* Appends `"memory":{...}`; false if the system does not tell. Any thread. */
bool usage_append_memory(struct buffer *text);
