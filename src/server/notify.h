/*
 * What systemd is told of a service with Type=notify (sd_notify(3)): datagrams to the socket that NOTIFY_SOCKET names.
 * Without that variable the functions do nothing. Any thread.
 */
#pragma once

#include <sys/types.h>

/* The server serves. */
void notify_ready(void);

/* The server shuts down. */
void notify_stopping(void);

/* Another process is the service now. Only the process that was the service until then may say so. */
void notify_main_pid(pid_t pid);
