#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/deadline.h"
#include "base/json.h"
#include "cli/output.h"
#include "cli/print.h"
#include "cli/realtime_commands.h"
#include "cli/safe_text.h"
#include "cli/target.h"
#include "client/client.h"

#define RETRY_FIRST_MS 1000
#define RETRY_LAST_MS 10000
#define CHANNELS_MAX 1000

const char listen_usage[] =
    "usage: curlew listen CHANNEL... [OPTIONS]\n\n"
    "Subscribes to the channels and prints their events as they come, a line each: channel, event, data. Control\n"
    "characters are shown as \\u001b. Private and presence channels are signed with the app's secret. Connects again\n"
    "after a loss; ends with Ctrl-C.\n\n" TARGET_HELP
    "  --origin ORIGIN     the origin of a web page, like https://shop.example, for apps with allowed_origins\n"
    "  --json              print each event as the server sent it, a line of JSON\n"
    "  -h, --help          show this help\n\n" TARGET_EXIT_CODES;

struct listening {
    const struct cli_options *options;
    struct target target;
    struct hmac_key hmac;
    char user_id[32]; /* in presence channels */
    int stop_fd;
    struct client *client;
    uint32_t pause_ms; /* before the last attempt to connect */
    bool established;  /* at least once */
};

/* --- events --- */

static void append_word(struct buffer *line, struct slice word) {
    if (line->length != 0)
        buffer_append_byte(line, ' ');
    safe_text_append(line, word);
}

static void print_event(const struct listening *listening, const struct client_event *event) {
    struct buffer line = {0};

    if (listening->options->json) {
        safe_text_append_json(&line, event->text);
    } else {
        append_word(&line, event->channel);
        append_word(&line, event->name);
        append_word(&line, event->data);
    }
    buffer_append_byte(&line, '\n');
    fwrite(line.data, 1, line.length, stdout);
    buffer_dispose(&line);
}

/* On standard error, so that standard output has events only. */
static void print_subscribed(const struct listening *listening, struct slice channel) {
    if (listening->options->json) {
        json_t *object = json_pack("{s:s%}", "subscribed", channel.data, channel.length);
        json_dumpf(object, stderr, JSON_COMPACT);
        json_decref(object);
    } else {
        fputs("subscribed to ", stderr);
        print_text(stderr, channel);
    }
    fputc('\n', stderr);
}

/* Reports a pusher:subscription_error and returns its exit code. */
static enum cli_exit refuse_subscription(const struct listening *listening, const struct client_event *event) {
    const struct slice names[] = {SLICE("error"), SLICE("status")};
    struct json_value values[2] = {0};
    struct buffer storage = {0};
    struct slice reason = event->data;
    struct error error;
    bool unauthorized = false;

    if (json_scan_object(event->data, names, values, 2, NULL)) {
        unauthorized = slice_equal(values[1].token, SLICE("401"));
        if (values[0].type == JSON_TYPE_STRING)
            reason = json_decode_string(values[0], &storage);
    }
    error_set(&error, "the server refused the subscription to %.*s: %.*s%s", SLICE_ARGS(event->channel),
              SLICE_ARGS(reason),
              !unauthorized                      ? ""
              : listening->target.secret == NULL ? " (no secret is known for this key: give --secret)"
                                                 : " (is it the secret of this app?)");
    print_failure(listening->options->json, error.text);
    buffer_dispose(&storage);
    return unauthorized ? CLI_WRONG_SECRET : CLI_NOT_DONE;
}

/* Acts on an event; CLI_DONE to go on. */
static enum cli_exit handle_event(const struct listening *listening, const struct client_event *event) {
    struct error error;

    if (slice_equal(event->name, SLICE("pusher_internal:subscription_succeeded"))) {
        print_subscribed(listening, event->channel);
        return CLI_DONE;
    }
    if (slice_equal(event->name, SLICE("pusher:subscription_error")))
        return refuse_subscription(listening, event);
    if (slice_equal(event->name, SLICE("pusher:error")) && event->channel.length == 0) {
        error_set(&error, "error from the server: %.*s", SLICE_ARGS(event->data));
        print_warning(listening->options->json, error.text);
        return CLI_DONE;
    }
    print_event(listening, event);
    return output_flush(listening->options->json) ? CLI_DONE : CLI_NOT_DONE;
}

/* --- the connection --- */

static bool subscribe_to_all(struct listening *listening, struct client_end *end) {
    const struct hmac_key *hmac = listening->target.secret != NULL ? &listening->hmac : NULL;

    for (size_t i = 0; i < listening->options->argument_count; i++)
        if (!client_subscribe(listening->client, listening->options->arguments[i], hmac, listening->user_id, end))
            return false;
    return true;
}

/* Connects and prints events until the connection is over. Another code than CLI_DONE ends the command. */
static enum cli_exit follow_channels(struct listening *listening, struct client_end *end) {
    struct client_event event = {0};
    enum cli_exit code = CLI_DONE;

    listening->client = client_open(&listening->target.server, listening->target.key, listening->options->origin,
                                    listening->stop_fd, end);
    if (listening->client != NULL) {
        listening->established = true;
        listening->pause_ms = 0;
        if (subscribe_to_all(listening, end))
            while (code == CLI_DONE && client_next(listening->client, &event, end))
                code = handle_event(listening, &event);
    }
    client_close(listening->client);
    listening->client = NULL;
    return code;
}

/* The exit code after an end that another attempt cannot change; CLI_DONE: try again. */
static enum cli_exit judge_end(const struct listening *listening, const struct client_end *end) {
    const char *url = listening->target.server.url;
    struct error error = end->error;
    enum cli_exit code = CLI_DONE;

    if (end->code >= 4000 && end->code < 4100)
        code = end->code == 4001 ? CLI_UNKNOWN_APP : CLI_NOT_DONE;
    else if (end->kind == CLIENT_END_UNREACHABLE && !listening->established)
        code = CLI_NOT_CONNECTED;
    if (code == CLI_UNKNOWN_APP)
        error_set(&error, "the server at %s has no app with the key %s (4001: %s)", url, listening->target.key,
                  end->error.text);
    else if (code == CLI_NOT_CONNECTED)
        error_prefix(&error, "cannot connect to %s", url);
    else if (code != CLI_DONE)
        error_prefix(&error, "the server closed the connection with code %u", end->code);
    if (code != CLI_DONE)
        print_failure(listening->options->json, error.text);
    return code;
}

/* Waits before the next attempt; false if the command has to stop. A server that restarts is tried again at once. */
static bool pause_listening(struct listening *listening, const struct client_end *end) {
    const struct deadline deadline = deadline_after(2 * RETRY_LAST_MS, listening->stop_fd);
    struct error error = end->error;

    if (end->code >= 4200 && end->code < 4300 && listening->pause_ms == 0)
        listening->pause_ms = RETRY_FIRST_MS / 10;
    else
        listening->pause_ms = backoff_next_ms(listening->pause_ms, RETRY_FIRST_MS, RETRY_LAST_MS);
    error_prefix(&error, "not connected, trying again");
    print_warning(listening->options->json, error.text);
    return deadline_sleep(&deadline, listening->pause_ms);
}

static enum cli_exit listen_until_stopped(struct listening *listening) {
    for (;;) {
        struct client_end end = {0};
        enum cli_exit code = follow_channels(listening, &end);

        if (code != CLI_DONE || end.kind == CLIENT_END_STOPPED)
            return code;
        code = judge_end(listening, &end);
        if (code != CLI_DONE)
            return code;
        if (!pause_listening(listening, &end))
            return CLI_DONE;
    }
}

/* A descriptor that is readable after Ctrl-C or SIGTERM. */
static int open_stop_fd(void) {
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
}

static enum cli_exit listen_to_channels(const struct cli_options *options) {
    struct listening listening = {.options = options, .stop_fd = -1};
    struct error error = {0};
    enum cli_exit code = target_find(&listening.target, options, false, &error);

    if (code != CLI_DONE) {
        print_failure(options->json, error.text);
        return code;
    }
    if (listening.target.secret != NULL)
        hmac_key_init(&listening.hmac, slice_of(listening.target.secret));
    snprintf(listening.user_id, sizeof listening.user_id, "curlew-listen-%ld", (long)getpid());
    listening.stop_fd = open_stop_fd();
    code = listen_until_stopped(&listening);
    if (listening.stop_fd >= 0)
        close(listening.stop_fd);
    target_dispose(&listening.target);
    explicit_bzero(&listening.hmac, sizeof listening.hmac);
    return code;
}

/* True if the text can be sent in a header: printable ASCII. */
static bool is_origin_text(const char *text) {
    while (*text > ' ' && *text <= '~')
        text++;
    return *text == '\0';
}

int listen_run(char **arguments) {
    struct cli_options options;
    struct error error = {0};
    enum cli_exit code = CLI_DONE;

    if (!cli_options_parse(&options, arguments, TARGET_OPTIONS | OPTION_JSON | OPTION_ORIGIN, CHANNELS_MAX, &error))
        code = output_refuse_usage("listen", options.json, error.text);
    else if (options.help)
        fputs(listen_usage, stdout);
    else if (options.origin != NULL && !is_origin_text(options.origin))
        code = output_refuse_usage("listen", options.json, "--origin must be like https://shop.example");
    else if (options.argument_count == 0)
        code = output_refuse_usage("listen", options.json, "a channel must be named");
    else
        code = listen_to_channels(&options);
    code = output_finish(options.json, code);
    cli_options_dispose(&options);
    return code;
}
