/*
 * The conflation key of a message: the value at a path in it, as text. Messages of one channel with different keys are
 * about different things (two symbols of a price feed), so each key has its own base for deltas.
 *
 *   path `symbol`       {"event":"tick","channel":"prices","data":"{\"symbol\":\"ABC\",\"price\":1.5}"}   ->  ABC
 *   path `tags.region`  {...,"tags":{"region":"eu"}}                                                      ->  eu
 *
 * A path is a list of member names with dots between them. It is looked up in the message, and if its first member is
 * not there, in `data`: an object, or a string that contains one. `data.symbol` reads such a string, too. Elements of
 * arrays have no names. A path of more than APP_CONFLATION_NAMES_MAX names finds nothing. A pure function for any
 * thread.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/slice.h"

#define CONFLATION_KEY_MAX 256 /* bytes of a key */

/*
 * Appends the key that `path` finds in `message`, the JSON text of an event as subscribers get it. False, and nothing
 * is appended, if there is none: the path is empty or finds nothing or an empty string, the key would be longer than
 * CONFLATION_KEY_MAX, or it would hold a quote, which clients cannot read back.
 *
 * A string gives its decoded bytes; a number its shortest text (number_text.h); true, false and null their names; an
 * object or array its text without blanks.
 */
bool conflation_key_of(struct slice path, struct slice message, struct buffer *key);
