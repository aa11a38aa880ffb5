/*
 * The name of the process, as ps(1) and top(1) show it: it tells the old and the new process of an upgrade apart, and
 * `curlew upgrade` reads from it how the upgrade goes.
 */
#pragma once

#define PROCESS_SERVES "curlew"
#define PROCESS_UPGRADES "curlew-upgrade" /* serves, and has started a new process */
#define PROCESS_WAITS "curlew-new"        /* the new process, until it serves */
#define PROCESS_ENDS "curlew-old"         /* a new process serves, this one closes its connections */

/* Remembers the calling thread, the main one, and names it. */
void process_name_init(const char *name);

/* Any thread. */
void process_name_set(const char *name);
