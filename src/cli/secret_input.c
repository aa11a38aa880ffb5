#include "cli/secret_input.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

#define LINE_MAX_BYTES 4096

char *secret_input_read(struct error *error) {
    char line[LINE_MAX_BYTES];
    char *secret;

    if (fgets(line, sizeof line, stdin) == NULL) {
        error_set(error, "--secret -: standard input is empty");
        return NULL;
    }
    line[strcspn(line, "\r\n")] = '\0';
    secret = alloc_copy(line, strlen(line));
    explicit_bzero(line, sizeof line);
    return secret;
}
