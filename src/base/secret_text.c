#include "base/secret_text.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX_BYTES (1u << 20)
#define READ_BYTES 4095

void secret_free(char *text) {
    if (text != NULL)
        OPENSSL_cleanse(text, strlen(text));
    free(text);
}

void secret_buffer_dispose(struct buffer *text) {
    if (text->data != NULL)
        OPENSSL_cleanse(text->data, text->capacity);
    buffer_dispose(text);
}

bool secret_read_file(const char *path, struct buffer *text) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = -1;

    if (fd < 0)
        return false;
    do {
        buffer_reserve(text, READ_BYTES + 1);
        length = read(fd, text->data + text->length, READ_BYTES);
        text->length += length > 0 ? (size_t)length : 0;
    } while (length > 0 && text->length < FILE_MAX_BYTES);
    close(fd);
    text->data[text->length] = '\0';
    return length == 0;
}

bool secret_read_token(const char *path, struct buffer *token, struct error *error) {
    if (!secret_read_file(path, token))
        return error_set(error, "%s cannot be read", path);
    while (token->length != 0 && strchr(" \t\r\n", token->data[token->length - 1]) != NULL)
        token->data[--token->length] = '\0';
    for (size_t i = 0; i < token->length; i++)
        if (token->data[i] <= ' ' || token->data[i] > '~')
            return error_set(error, "%s holds more than one token", path);
    return token->length != 0 || error_set(error, "%s is empty", path);
}

const char *environment_value(const char *name) {
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}
