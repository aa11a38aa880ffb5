/*
 * Laravel Reverb 1.x, laravel-websockets 1.x and 2.x, and applications of hosted Pusher: the array that their PHP file
 * in config/ returns, or the variables of Laravel's `.env` with the file as it ships.
 */
#pragma once

#include <jansson.h>

#include "convert/conversion.h"

/*
 * Convert the tree, which php_array_read or laravel_set_variables filled. Errors are in the conversion's messages.
 */
void reverb_convert(struct conversion *conversion);
void laravel_websockets_convert(struct conversion *conversion);
void pusher_convert(struct conversion *conversion);

/* Fill the tree from variables alone: the values that the PHP file has as it ships. */
void reverb_set_variables(struct conversion *conversion, const json_t *variables);
void laravel_websockets_set_variables(struct conversion *conversion, const json_t *variables);
void pusher_set_variables(struct conversion *conversion, const json_t *variables);
