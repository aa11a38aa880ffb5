/*
 * The reference: a server that does only what the protocol forces, for scale beside the server under test.
 *
 *   a publish         read; HMAC-SHA256 with its key ready; MD5 of the body; write of a ready answer
 *   a connection      accept; read; SHA-1 and base64 of the key; write of a ready answer with connection_established;
 *                     read of the subscription; write of a ready answer
 *   the end of one    read of the close frame; write of a ready one; close
 *
 * It is one thread with one epoll set, in a process of its own on the server's CPU. It finds what it needs in a request
 * by searching for it, keeps nothing for a connection, and ends when anything arrives that the generator does not send.
 * Its digests are those of the server. It is measured in turns with the server, like the kernel's floor.
 */
#pragma once

#include "target.h"

/* Starts the reference on `cpu` (on any CPU if negative) with the app of `like`. The returned target has its address
 * and process id, and may be used until reference_stop. It ends with this process. */
struct target *reference_start(const struct target *like, int cpu);

/* Ends the process and frees `reference`. */
void reference_stop(struct target *reference);
