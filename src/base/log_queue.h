/*
 * Lines of the log on their way to standard error: a bounded ring, and a thread that writes. So a thread that logs
 * never waits for the reader of the log. What does not fit is lost and counted; a line says how many when there is room
 * again.
 *
 *   log_queue_add ---> ring of 1 MB ---> writer thread ---> write(2)
 *
 * One queue for the process, since there is one standard error.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define LOG_QUEUE_BYTES (1024 * 1024)
/* The longest line, with its line feed: the largest write to a pipe that is atomic (PIPE_BUF on Linux). */
#define LOG_LINE_MAX_BYTES 4096

/* Makes the line about lines that were lost; returns its length. On any thread. */
typedef size_t log_lost_line(uint64_t lost, char line[LOG_LINE_MAX_BYTES]);

/* Starts the thread. False with an error if the system refuses it: lines are then to be written directly. */
bool log_queue_start(log_lost_line *lost_line, struct error *error);

/* Takes a line, which is written or counted as lost. False if the queue does not run: the caller writes it. Any thread;
 * never waits. */
bool log_queue_add(const char *line, size_t length);

/* Writes what is left and ends the thread. Gives up if nothing is read for two seconds: lines are lost then, also those
 * added later. When no other thread logs any more. */
void log_queue_stop(void);

/* Lines that were lost since the start. Any thread. */
uint64_t log_queue_lost(void);
