/*
 * Ctrl-C and SIGTERM during a command that writes many apps: the first one stops it after the current app, the second
 * one at once.
 */
#pragma once

#include <stdbool.h>

void interrupt_catch(void);
bool interrupt_seen(void);
