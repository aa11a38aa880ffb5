/*
 * `curlew apps confirm-removal`: tells the running server that apps were removed on purpose.
 */
#include <inttypes.h>
#include <stdio.h>

#include "cli/apps_commands.h"
#include "cli/notify_server.h"
#include "cli/print.h"

static enum cli_exit confirm_removal(const struct cli_options *options, const struct config *config) {
    struct notifier *notifier = notifier_create(config);
    uint64_t count = 0;
    struct error error;
    bool done;

    if (notifier == NULL) {
        print_failure(options->json, "CURLEW_ADMIN_URL and CURLEW_ADMIN_TOKEN must name the running server");
        return CLI_MISUSED;
    }
    done = notifier_confirm_removal(notifier, &count, &error);
    if (!done)
        print_failure(options->json, error.text);
    else if (options->json)
        print_json(stdout, json_pack("{s:I}", "confirmed", (json_int_t)count));
    else if (count == 0)
        printf("the server holds no removal of apps\n");
    else
        printf("confirmed the removal of %" PRIu64 " app%s\n", count, count == 1 ? "" : "s");
    notifier_destroy(notifier);
    return done ? CLI_DONE : CLI_NOT_DONE;
}

enum cli_exit apps_confirm_removal(const struct cli_options *options) {
    struct config config;
    struct error error;
    enum cli_exit code;

    if (!config_load(&config, options->config_file, NULL, &error)) {
        print_failure(options->json, error.text);
        return CLI_MISUSED;
    }
    code = confirm_removal(options, &config);
    config_dispose(&config);
    return code;
}
