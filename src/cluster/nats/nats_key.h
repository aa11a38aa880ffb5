/*
 * NKeys: key pairs of Ed25519 by which NATS knows a user. A file holds the seed, a word that begins with SU; the
 * server's configuration has the public key, a word that begins with U.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/slice.h"

/* The length of a public key in its spelling of letters and digits. */
#define NATS_KEY_LENGTH 56

/* Writes the public key that belongs to a seed, with a zero byte behind it; false if `seed` is no seed of a user. */
bool nats_key_from_seed(struct slice seed, char key[NATS_KEY_LENGTH + 1]);

/* The same for the seed in a file. False with an error that names the file. */
bool nats_key_from_file(const char *path, char key[NATS_KEY_LENGTH + 1], struct error *error);
