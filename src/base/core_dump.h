/*
 * Core dumps, and other processes of the same user that read this one's memory: secrets of apps and passwords are in
 * it.
 */
#pragma once

/* Forbids both: no core is written (RLIMIT_CORE), and only root may attach a debugger or read /proc/PID/mem
 * (PR_SET_DUMPABLE). Call it before secrets are read. Programs that this process starts are not concerned but for the
 * limit. */
void core_dump_forbid(void);

/* In a process that starts another program: gives back the limit that core_dump_forbid took. Only a system call. */
void core_dump_restore_limit(void);

/* Allows again what was allowed before, for developers. */
void core_dump_allow(void);
