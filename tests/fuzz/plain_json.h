/*
 * base/json.h for targets: the same functions compiled without coverage, so that what a target checks and writes is not
 * taken for what its input reached. Include it before anything else that includes base/json.h.
 */
#pragma once

#define json_scan plain_json_scan
#define json_scan_object plain_json_scan_object
#define json_iterate plain_json_iterate
#define json_next plain_json_next
#define json_decode_string plain_json_decode_string
#define json_decoded_length plain_json_decoded_length
#define json_is_whole_number plain_json_is_whole_number
#define json_append_string plain_json_append_string

#include "base/json.h"
