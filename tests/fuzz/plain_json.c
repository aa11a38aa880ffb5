#include "plain_json.h"

/* The file itself, under the names of plain_json.h. */
#include "../../src/base/json.c"
