/*
 * The file of the SQLite driver as the file system sees it: its folder, its owner and its mode. All secrets are in it.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"

/* False with an error that names the setting if the folder of the file does not exist. */
bool sqlite_folder_exists(const char *path, struct error *error);

/* Creates an empty file that only this user can read, unless there is a file. SQLite gives the same mode to the files
 * that it creates beside it. */
void sqlite_create_private_file(const char *path);

/* Warns if others can read the file, or if this user cannot write it. */
void sqlite_warn_of_file(const char *path);

/* Sets the error if there is a file that this user may not write: whose it is, and what to do. Otherwise false. */
bool sqlite_explain_readonly(const char *path, struct error *error);

/* Sets the error if there is a file that this user may not read: whose it is, and how to run commands as that user.
 * Otherwise false. */
bool sqlite_explain_owner(const char *path, struct error *error);
