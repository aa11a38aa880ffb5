/*
 * Secrets of the configuration that are in files of their own, as Docker and Kubernetes hand them out: a secret that
 * begins with `file:` is the name of such a file.
 */
#pragma once

#include "config/config_loader.h"

/*
 * Replaces each `file:/path` among the secrets of the configured apps with what is in the file, without the line end
 * behind it. A file that cannot be used is a warning that names it, and its app is left without the secret, so that
 * this app is broken and the others are not.
 */
void config_read_secret_files(struct config_loader *loader);
