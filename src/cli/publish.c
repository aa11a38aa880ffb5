#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/json.h"
#include "base/utf8.h"
#include "cli/output.h"
#include "cli/print.h"
#include "cli/realtime_commands.h"
#include "cli/target.h"
#include "net/http_client.h"

#define ANSWER_TIMEOUT_MS 30000
#define INPUT_MAX_BYTES (64u << 20)
#define READ_BYTES 65536

const char publish_usage[] =
    "usage: curlew publish CHANNEL EVENT [DATA] [OPTIONS]\n\n"
    "Publishes one event over the HTTP API, signed with the app's secret. DATA is a text; clients expect JSON, such "
    "as\n"
    "'{\"message\":\"hello world\"}'. `-` reads it from standard input, without the last line end. Without DATA it is "
    "{}.\n\n" TARGET_HELP
    "  --tags TAGS         tags of the event, a JSON object of texts, such as '{\"symbol\":\"BTC\"}'\n"
    "  --json              print the server's answer, and errors as {\"error\": ...}\n"
    "  -h, --help          show this help\n\n" TARGET_EXIT_CODES;

/* Reads standard input to its end. */
static bool read_input(struct buffer *data, struct error *error) {
    size_t length;

    do {
        buffer_reserve(data, READ_BYTES);
        length = fread(data->data + data->length, 1, READ_BYTES, stdin);
        data->length += length;
    } while (length != 0 && data->length <= INPUT_MAX_BYTES);
    if (ferror(stdin))
        return error_set(error, "cannot read standard input: %s", strerror(errno));
    if (data->length > INPUT_MAX_BYTES)
        return error_set(error, "standard input has more than %u MB", INPUT_MAX_BYTES >> 20);
    if (data->length != 0 && data->data[data->length - 1] == '\n')
        data->length--;
    return true;
}

static void append_json_member(struct buffer *body, const char *before, struct slice value) {
    buffer_append_string(body, before);
    json_append_string(body, value);
}

/* Warns of data that begins like JSON and is not: a shell has often removed its quotation marks. It is sent as text. */
static void warn_of_broken_json(struct slice data) {
    struct slice text = slice_trim(data);
    struct json_value value;
    struct error fault;

    if ((slice_starts_with(text, SLICE("{")) || slice_starts_with(text, SLICE("["))) &&
        !json_scan(text, &value, &fault))
        fprintf(stderr,
                "warning: DATA is sent as text, because it is not JSON (%s); a shell needs single quotes around it\n",
                fault.text);
}

/* True if the data can be sent to the channel: clients of an encrypted one take nothing but encrypted data, whose key
 * only the application has. */
static bool is_fit_for_channel(struct slice channel, struct slice data, struct error *error) {
    const struct slice names[] = {SLICE("nonce"), SLICE("ciphertext")};
    struct json_value values[2];

    if (!slice_starts_with(channel, SLICE("private-encrypted-")) ||
        (json_scan_object(data, names, values, 2, NULL) && values[0].type == JSON_TYPE_STRING &&
         values[1].type == JSON_TYPE_STRING))
        return true;
    return error_set(error,
                     "curlew publish cannot encrypt: DATA for a private-encrypted- channel must be "
                     "{\"nonce\":...,\"ciphertext\":...}; use a server SDK with your master key");
}

/* True if the option --tags is missing or an object. Whether its members may be tags is for the server to say. */
static bool has_good_tags(const struct cli_options *options) {
    struct slice tags = slice_of(options->tags);
    struct json_value value;

    return options->tags == NULL ||
           (utf8_valid(tags) && json_scan(tags, &value, NULL) && value.type == JSON_TYPE_OBJECT);
}

/* Writes the body of the request. */
static bool write_body(const struct cli_options *options, struct buffer *body, struct error *error) {
    const char *argument = options->argument_count > 2 ? options->arguments[2] : "{}";
    struct buffer data = {0};
    bool good = true;

    if (strcmp(argument, "-") == 0)
        good = read_input(&data, error);
    else
        buffer_append_string(&data, argument);
    warn_of_broken_json(buffer_slice(&data));
    append_json_member(body, "{\"name\":", slice_of(options->arguments[1]));
    append_json_member(body, ",\"channel\":", slice_of(options->arguments[0]));
    append_json_member(body, ",\"data\":", buffer_slice(&data));
    if (options->tags != NULL)
        buffer_appendf(body, ",\"tags\":%s", options->tags);
    buffer_append_byte(body, '}');
    if (good && !utf8_valid(buffer_slice(body)))
        good = error_set(error, "channel, event and data must be UTF-8");
    good = good && is_fit_for_channel(slice_of(options->arguments[0]), buffer_slice(&data), error);
    buffer_dispose(&data);
    return good;
}

/* The URL with the signature of the HTTP API: over method, path and sorted query. */
static void sign_url(const struct target *target, struct slice body, struct buffer *url) {
    struct buffer path = {0}, query = {0};
    char digest[MD5_HEX], signature[HMAC_SHA256_HEX];
    struct hmac_key hmac;

    md5_hex(body, digest);
    buffer_appendf(&path, "/apps/%s/events", target->id);
    buffer_appendf(&query, "auth_key=%s&auth_timestamp=%llu&auth_version=1.0&body_md5=%.*s", target->key,
                   (unsigned long long)clock_wall_ms() / 1000, MD5_HEX, digest);
    const struct slice parts[] = {SLICE("POST\n"), buffer_slice(&path), SLICE("\n"), buffer_slice(&query)};
    hmac_key_init(&hmac, slice_of(target->secret));
    hmac_sha256_hex(&hmac, parts, 4, signature);
    explicit_bzero(&hmac, sizeof hmac);
    buffer_appendf(url, "%s%.*s?%.*s&auth_signature=%.*s", target->server.url, SLICE_ARGS(buffer_slice(&path)),
                   SLICE_ARGS(buffer_slice(&query)), HMAC_SHA256_HEX, signature);
    buffer_append_byte(url, '\0');
    buffer_dispose(&path);
    buffer_dispose(&query);
}

static unsigned post_event(const struct target *target, struct slice body, struct buffer *answer, struct error *error) {
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    const struct deadline deadline = deadline_after(ANSWER_TIMEOUT_MS, -1);
    struct http_caller *caller = http_caller_create();
    struct buffer url = {0};
    struct http_call call = {
        .method = "POST",
        .headers = headers,
        .body = body,
        .direct = target->server.direct,
        .insecure = target->server.insecure,
        .unix_socket = target->server.unix_socket,
    };
    unsigned status;

    sign_url(target, body, &url);
    call.url = url.data;
    status = http_caller_call(caller, &call, &deadline, answer, error);
    buffer_dispose(&url);
    http_caller_destroy(caller);
    return status;
}

/* The sentence in the answer {"error": ...}; another answer as it is. */
static void read_refusal(struct slice answer, struct error *error) {
    const struct slice names[] = {SLICE("error")};
    struct buffer storage = {0};
    struct json_value value = {0};
    struct slice text = answer;

    if (utf8_valid(answer) && json_scan_object(answer, names, &value, 1, NULL) && value.type == JSON_TYPE_STRING)
        text = json_decode_string(value, &storage);
    error_set(error, "%.*s", SLICE_ARGS(text));
    utf8_mend(error->text);
    buffer_dispose(&storage);
}

static enum cli_exit report_refusal(const struct target *target, unsigned status, struct slice answer,
                                    struct error *error) {
    const char *url = target->server.url;

    if (status == 0) {
        error_prefix(error, "cannot publish to %s", url);
        return CLI_NOT_CONNECTED;
    }
    read_refusal(answer, error);
    if (status == 401) {
        error_prefix(error, "the server at %s refuses the signature for app %s, key %s (401)", url, target->id,
                     target->key);
        return CLI_WRONG_SECRET;
    }
    if (status == 404 && strstr(error->text, "there is nothing at this path") != NULL) {
        error_set(error, "%s answers, but there is no HTTP API: is it the metrics port, or has the URL another path?",
                  url);
        return CLI_NOT_CONNECTED;
    }
    error_prefix(error, "the server at %s refuses the event for app %s (HTTP %u)", url, target->id, status);
    return status == 404 ? CLI_UNKNOWN_APP : CLI_NOT_DONE;
}

static void print_published(const char *event, const char *channel) {
    fputs("published ", stdout);
    print_text(stdout, slice_of(event));
    fputs(" to ", stdout);
    print_text(stdout, slice_of(channel));
    putchar('\n');
}

static enum cli_exit send_signed_event(const struct target *target, const struct cli_options *options,
                                       struct error *error) {
    struct buffer body = {0}, answer = {0};
    enum cli_exit code = CLI_MISUSED;

    if (write_body(options, &body, error)) {
        unsigned status = post_event(target, buffer_slice(&body), &answer, error);
        code = status == 200 ? CLI_DONE : report_refusal(target, status, buffer_slice(&answer), error);
    }
    if (code == CLI_DONE && options->json) {
        print_text(stdout, buffer_slice(&answer));
        putchar('\n');
    } else if (code == CLI_DONE) {
        print_published(options->arguments[1], options->arguments[0]);
    }
    buffer_dispose(&body);
    buffer_dispose(&answer);
    return code;
}

static enum cli_exit publish_from_options(const struct cli_options *options) {
    bool input_twice = options->secret != NULL && strcmp(options->secret, "-") == 0 && options->argument_count > 2 &&
                       strcmp(options->arguments[2], "-") == 0;
    struct target target;
    struct error error = {0};
    enum cli_exit code = CLI_MISUSED;

    if (input_twice)
        error_set(&error, "DATA and --secret cannot both be read from standard input");
    else
        code = target_find(&target, options, true, &error);
    if (code == CLI_DONE) {
        code = send_signed_event(&target, options, &error);
        target_dispose(&target);
    }
    if (code != CLI_DONE)
        print_failure(options->json, error.text);
    return code;
}

int publish_run(char **arguments) {
    struct cli_options options;
    struct error error = {0};
    enum cli_exit code = CLI_DONE;

    if (!cli_options_parse(&options, arguments, TARGET_OPTIONS | OPTION_JSON | OPTION_TAGS, 3, &error))
        code = output_refuse_usage("publish", options.json, error.text);
    else if (options.help)
        fputs(publish_usage, stdout);
    else if (!has_good_tags(&options))
        code = output_refuse_usage("publish", options.json, "--tags must be a JSON object, like {\"symbol\":\"BTC\"}");
    else if (options.argument_count < 2)
        code = output_refuse_usage("publish", options.json, "a channel and an event must be named");
    else
        code = publish_from_options(&options);
    code = output_finish(options.json, code);
    cli_options_dispose(&options);
    return code;
}
