/*
 * The listening socket that a supervisor opened and passes at start, in the protocol of systemd (sd_listen_fds(3)): the
 * environment variables LISTEN_PID and LISTEN_FDS, and the descriptors from 3 on.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Takes the socket: sets `*fd` to its descriptor, which the caller owns from now on, or to -1 if none was passed. False
 * with an error if the variables are wrong, or if what was passed is not exactly one listening stream socket. Removes
 * the variables. At start, before other threads.
 */
bool activation_take(int *fd, struct error *error);

/* Writes the address of a socket as text: "0.0.0.0:6001", "[::]:6001", "unix:/run/curlew/curlew.sock". */
void activation_describe(int fd, char *text, size_t size);

/* The TCP port of a socket; 0 if it has none. */
uint16_t activation_port(int fd);
