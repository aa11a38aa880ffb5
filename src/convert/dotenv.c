#include "convert/dotenv.h"

#include <ctype.h>
#include <string.h>

#include "base/buffer.h"
#include "base/utf8.h"

struct dotenv_reader {
    const char *at, *end;
    unsigned line;
    enum dotenv_dialect dialect;
    json_t *variables;
    struct buffer value;
    size_t bytes; /* of all values so far */
    struct error *error;
};

static bool is_dotenv_name_byte(char c) {
    return isalnum((unsigned char)c) || c == '_' || c == '.';
}

static bool at_line_end(const struct dotenv_reader *reader) {
    return reader->at == reader->end || *reader->at == '\n' || *reader->at == '\r';
}

static void skip_blanks(struct dotenv_reader *reader) {
    while (reader->at < reader->end && (*reader->at == ' ' || *reader->at == '\t'))
        reader->at++;
}

static struct slice read_variable_name(struct dotenv_reader *reader) {
    struct slice name = {reader->at, 0};

    while (reader->at < reader->end && is_dotenv_name_byte(*reader->at))
        reader->at++;
    name.length = (size_t)(reader->at - name.data);
    return name;
}

/* At a `$`: appends the value of "${NAME}", or the dollar sign if there is no such variable. */
static void expand_dotenv_variable(struct dotenv_reader *reader) {
    const char *brace = reader->at + 1, *close;
    const json_t *value;

    close = brace < reader->end && *brace == '{' ? memchr(brace, '}', (size_t)(reader->end - brace)) : NULL;
    value = close != NULL ? json_object_getn(reader->variables, brace + 1, (size_t)(close - brace - 1)) : NULL;
    if (reader->dialect != DOTENV_LARAVEL || !json_is_string(value)) {
        buffer_append_byte(&reader->value, *reader->at++);
        return;
    }
    buffer_append_bytes(&reader->value, json_string_value(value), json_string_length(value));
    reader->at = close + 1;
}

/* At a backslash in double quotes. Node's dialect keeps all but \n and \r. */
static bool read_dotenv_escape(struct dotenv_reader *reader) {
    static const char letters[] = "fnrtv\"\\$", values[] = "\f\n\r\t\v\"\\$";
    char c = reader->at + 1 < reader->end ? reader->at[1] : '\0';
    const char *letter = c != '\0' ? strchr(letters, c) : NULL;

    if (reader->dialect == DOTENV_NODE && c != 'n' && c != 'r') {
        buffer_append_byte(&reader->value, '\\');
        if (c == '"' || c == '\\')
            buffer_append_byte(&reader->value, c);
        reader->at += c == '"' || c == '\\' ? 2 : 1;
        return true;
    }
    if (letter == NULL)
        return error_set(reader->error, "line %u: in double quotes a backslash must be written \\\\", reader->line);
    buffer_append_byte(&reader->value, values[letter - letters]);
    reader->at += 2;
    return true;
}

static bool value_fits(struct dotenv_reader *reader) {
    if (reader->bytes + reader->value.length <= DOTENV_MAX_BYTES)
        return true;
    return error_set(reader->error, "line %u: the values have more than %u bytes together", reader->line,
                     DOTENV_MAX_BYTES);
}

/* At the opening quote; a quoted value may go over several lines. */
static bool read_quoted_value(struct dotenv_reader *reader) {
    char quote = *reader->at++;
    unsigned first = reader->line;

    for (;;) {
        if (reader->at == reader->end)
            return error_set(reader->error, "line %u: the closing quote is missing", first);
        if (!value_fits(reader))
            return false;
        if (*reader->at == quote)
            break;
        if (*reader->at == '\n')
            reader->line++;
        if (quote == '"' && *reader->at == '\\') {
            if (!read_dotenv_escape(reader))
                return false;
        } else if (quote == '"' && *reader->at == '$') {
            expand_dotenv_variable(reader);
        } else {
            buffer_append_byte(&reader->value, *reader->at++);
        }
    }
    reader->at++;
    skip_blanks(reader);
    if (!at_line_end(reader) && *reader->at != '#')
        return error_set(reader->error, "line %u: only a comment may follow the closing quote", reader->line);
    return true;
}

static bool read_plain_value(struct dotenv_reader *reader) {
    size_t length = 0; /* without the blanks at the end */

    while (!at_line_end(reader) && *reader->at != '#') {
        if (*reader->at == '$')
            expand_dotenv_variable(reader);
        else
            buffer_append_byte(&reader->value, *reader->at++);
        if (reader->value.length > 0 && strchr(" \t", reader->value.data[reader->value.length - 1]) == NULL)
            length = reader->value.length;
        if (!value_fits(reader))
            return false;
    }
    reader->value.length = length;
    return true;
}

/* At the first byte of a line that is neither empty nor a comment. */
static bool read_assignment(struct dotenv_reader *reader) {
    struct slice name = read_variable_name(reader);

    skip_blanks(reader);
    if (slice_equal(name, SLICE("export")) && !at_line_end(reader) && is_dotenv_name_byte(*reader->at)) {
        name = read_variable_name(reader);
        skip_blanks(reader);
    }
    if (name.length == 0)
        return error_set(reader->error, "line %u: this is not NAME=value", reader->line);
    if (at_line_end(reader) || *reader->at == '#') {
        json_object_setn_new(reader->variables, name.data, name.length, json_null());
        return true;
    }
    if (*reader->at++ != '=')
        return error_set(reader->error, "line %u: this is not NAME=value", reader->line);
    skip_blanks(reader);
    reader->value.length = 0;
    if (!at_line_end(reader) &&
        (*reader->at == '"' || *reader->at == '\'' || (*reader->at == '`' && reader->dialect == DOTENV_NODE))) {
        if (!read_quoted_value(reader))
            return false;
    } else if (!read_plain_value(reader)) {
        return false;
    }
    reader->bytes += reader->value.length;
    json_object_setn_new(reader->variables, name.data, name.length,
                         json_stringn(buffer_string(&reader->value), reader->value.length));
    return true;
}

bool dotenv_read(struct slice text, enum dotenv_dialect dialect, json_t *variables, struct error *error) {
    struct dotenv_reader reader = {.line = 1, .dialect = dialect, .variables = variables, .error = error};
    bool good = true;

    text = utf8_without_mark(text);
    if (text.length == 0)
        return true;
    if (!utf8_valid(text) || memchr(text.data, '\0', text.length) != NULL)
        return error_set(error, "this is not a text in UTF-8");
    reader.at = text.data;
    reader.end = text.data + text.length;
    while (good && reader.at < reader.end) {
        skip_blanks(&reader);
        if (!at_line_end(&reader) && *reader.at != '#')
            good = read_assignment(&reader);
        while (good && reader.at < reader.end && *reader.at != '\n')
            reader.at++; /* a comment, or the rest of a line end */
        if (good && reader.at < reader.end) {
            reader.at++;
            reader.line++;
        }
    }
    if (reader.value.data != NULL)
        explicit_bzero(reader.value.data, reader.value.capacity);
    buffer_dispose(&reader.value);
    return good;
}
