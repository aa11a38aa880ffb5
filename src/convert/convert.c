#include "convert/convert.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/near_miss.h"
#include "convert/conversion.h"
#include "convert/dotenv.h"
#include "convert/laravel.h"
#include "convert/php_array.h"
#include "convert/soketi.h"

#define FILE_MAX_BYTES (1u << 20)

struct convert_options {
    const struct convert_server *server;
    const char *file; /* "-": standard input; NULL: none */
    const char *env;  /* NULL: none */
    bool help;
};

/* Everything that one run reads. */
struct convert_input {
    struct slice file; /* empty if there is none */
    json_t *variables; /* NULL: no `.env` file */
};

static bool load_soketi(struct conversion *conversion, const struct convert_input *input, struct error *error);
static bool load_reverb(struct conversion *conversion, const struct convert_input *input, struct error *error);
static bool load_websockets(struct conversion *conversion, const struct convert_input *input, struct error *error);
static bool load_pusher(struct conversion *conversion, const struct convert_input *input, struct error *error);

static const struct convert_server {
    const char *name;
    enum dotenv_dialect dialect;
    bool has_file; /* false: a `.env` file only */
    bool (*load)(struct conversion *conversion, const struct convert_input *input, struct error *error);
} convert_servers[] = {
    {"soketi", DOTENV_NODE, true, load_soketi},
    {"reverb", DOTENV_LARAVEL, true, load_reverb},
    {"laravel-websockets", DOTENV_LARAVEL, true, load_websockets},
    {"pusher", DOTENV_LARAVEL, false, load_pusher},
};

const char convert_usage[] =
    "usage: curlew convert soketi|reverb|laravel-websockets [FILE] [--env FILE]\n"
    "       curlew convert pusher --env FILE\n\n"
    "Writes the configuration of another server as one of Curlew to standard output. What it drops or changes, and "
    "why,\n"
    "is on standard error.\n\n"
    "  FILE         soketi's JSON file, or config/reverb.php, or config/websockets.php; - is standard input.\n"
    "               A name that ends in .env, or no FILE: everything is in the variables, and the file as it ships\n"
    "  --env FILE   the .env file that sets the variables; without it none is set\n"
    "  -h, --help   show this help\n\n"
    "Exit code: 0 if the configuration was written; 1 if a value has no counterpart (nothing is written then); 2 for "
    "an\n"
    "invalid command line, or a file that cannot be read.\n";

static bool load_soketi(struct conversion *conversion, const struct convert_input *input, struct error *error) {
    return soketi_convert(conversion, input->file, input->variables, error);
}

/* Reads the PHP file into the tree; true without one. */
static bool load_php(struct conversion *conversion, const struct convert_input *input, struct error *error) {
    struct source *root;

    if (input->file.data == NULL)
        return true;
    root = php_array_read(input->file, input->variables, error);
    if (root == NULL)
        return false;
    source_destroy(conversion->root);
    conversion->root = root;
    return true;
}

static bool load_reverb(struct conversion *conversion, const struct convert_input *input, struct error *error) {
    if (!load_php(conversion, input, error))
        return false;
    if (input->file.data == NULL)
        reverb_set_variables(conversion, input->variables);
    reverb_convert(conversion);
    return true;
}

static bool load_websockets(struct conversion *conversion, const struct convert_input *input, struct error *error) {
    if (!load_php(conversion, input, error))
        return false;
    if (input->file.data == NULL)
        laravel_websockets_set_variables(conversion, input->variables);
    laravel_websockets_convert(conversion);
    return true;
}

static bool load_pusher(struct conversion *conversion, const struct convert_input *input, struct error *error) {
    (void)error;
    pusher_set_variables(conversion, input->variables);
    pusher_convert(conversion);
    return true;
}

static int refuse_convert_usage(const char *what, const char *argument) {
    fprintf(stderr, "curlew: %s%s%s\ntry `curlew convert --help`\n", what, argument != NULL ? ": " : "",
            argument != NULL ? argument : "");
    return 2;
}

static int refuse_convert_option(const char *argument) {
    struct near_miss miss = near_miss_of((struct slice){argument, strcspn(argument, "=")});

    near_miss_offer(&miss, SLICE("--env"));
    near_miss_offer(&miss, SLICE("--help"));
    if (miss.best.length == 0)
        return refuse_convert_usage("unknown option", argument);
    fprintf(stderr, "curlew: unknown option: %s; did you mean %.*s?\ntry `curlew convert --help`\n", argument,
            SLICE_ARGS(miss.best));
    return 2;
}

/* True for .env, .env.production and shop.env. */
static bool is_dotenv_name(const char *file) {
    const char *slash = strrchr(file, '/');
    struct slice name = slice_of(slash != NULL ? slash + 1 : file);

    return slice_ends_with(name, SLICE(".env")) || slice_starts_with(name, SLICE(".env."));
}

/* Returns 0 or the exit code. */
static int choose_server(const char *name, struct convert_options *options) {
    struct near_miss miss = near_miss_of(slice_of(name));

    for (size_t i = 0; i < sizeof convert_servers / sizeof convert_servers[0]; i++) {
        near_miss_offer(&miss, slice_of(convert_servers[i].name));
        if (strcmp(name, convert_servers[i].name) == 0)
            options->server = &convert_servers[i];
    }
    if (options->server != NULL)
        return 0;
    if (strcasecmp(name, "sockudo") == 0)
        return refuse_convert_usage("Sockudo's files need no conversion; try `curlew check --config FILE`", NULL);
    if (miss.best.length == 0)
        return refuse_convert_usage("unknown server (soketi, reverb, laravel-websockets or pusher)", name);
    fprintf(stderr, "curlew: unknown server: %s; did you mean %.*s?\ntry `curlew convert --help`\n", name,
            SLICE_ARGS(miss.best));
    return 2;
}

/* Takes one argument, and the next one if it belongs to it. Returns 0 or the exit code. */
static int parse_convert_argument(char ***arguments, struct convert_options *options) {
    const char *argument = **arguments;

    if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
        options->help = true;
    } else if (strcmp(argument, "--env") == 0 || strncmp(argument, "--env=", 6) == 0) {
        const char *value = argument[5] == '=' ? argument + 6 : (*arguments)[1];

        if (value == NULL || *value == '\0')
            return refuse_convert_usage("a file name must follow", argument);
        if (options->env != NULL)
            return refuse_convert_usage("--env is given twice", value);
        options->env = value;
        *arguments += argument[5] != '=';
    } else if (argument[0] == '-' && argument[1] != '\0') {
        return refuse_convert_option(argument);
    } else if (options->server == NULL) {
        return choose_server(argument, options);
    } else if (options->file != NULL) {
        return refuse_convert_usage("unexpected argument", argument);
    } else {
        options->file = argument;
    }
    return 0;
}

/* Returns 0 or the exit code. */
static int parse_convert_options(char **arguments, struct convert_options *options) {
    for (; *arguments != NULL; arguments++) {
        int code = parse_convert_argument(&arguments, options);

        if (code != 0)
            return code;
    }
    if (options->help)
        return 0;
    if (options->server == NULL)
        return refuse_convert_usage("name a server: soketi, reverb, laravel-websockets or pusher", NULL);
    if (options->file != NULL && is_dotenv_name(options->file)) {
        if (options->env != NULL)
            return refuse_convert_usage("two .env files are given", options->env);
        options->env = options->file;
        options->file = NULL;
    }
    if (options->file == NULL && options->env == NULL)
        return refuse_convert_usage("name the configuration file, or a .env file", NULL);
    if (options->file != NULL && !options->server->has_file)
        return refuse_convert_usage("Pusher has no configuration file; name a .env file with --env", options->file);
    return 0;
}

/* Reads a whole file of bounded size; prints what is wrong. */
static bool read_input_file(const char *file, struct buffer *text) {
    bool standard = strcmp(file, "-") == 0;
    FILE *stream = standard ? stdin : fopen(file, "rbe");
    size_t count = 1;
    bool good;

    if (stream == NULL) {
        fprintf(stderr, "error: cannot read %s: %s\n", file, strerror(errno));
        return false;
    }
    buffer_reserve(text, FILE_MAX_BYTES + 1);
    while (count > 0 && text->length <= FILE_MAX_BYTES) {
        count = fread(text->data + text->length, 1, FILE_MAX_BYTES + 1 - text->length, stream);
        text->length += count;
    }
    good = !ferror(stream);
    if (!good)
        fprintf(stderr, "error: cannot read %s: %s\n", file, strerror(errno));
    if (!standard)
        fclose(stream);
    if (good && text->length > FILE_MAX_BYTES) {
        fprintf(stderr, "error: %s is larger than %u bytes\n", file, FILE_MAX_BYTES);
        return false;
    }
    return good;
}

/* Reads the `.env` file. */
static bool read_variables(const struct convert_options *options, json_t *variables) {
    struct buffer text = {0};
    struct error error;
    bool good = read_input_file(options->env, &text);

    if (good && !dotenv_read(buffer_slice(&text), options->server->dialect, variables, &error)) {
        fprintf(stderr, "error: %s: %s\n", options->env, error.text);
        good = false;
    }
    if (text.data != NULL)
        explicit_bzero(text.data, text.capacity);
    buffer_dispose(&text);
    return good;
}

/* Prints the messages and the configuration. Returns the exit code. */
static int print_conversion(struct conversion *conversion) {
    fputs(buffer_string(&conversion->messages), stderr);
    if (conversion->errors > 0) {
        fprintf(stderr, "nothing is written because of %zu error%s\n", conversion->errors,
                conversion->errors == 1 ? "" : "s");
        return 1;
    }
    if (conversion->secrets > 0)
        fprintf(stderr, "note: the output holds %zu secret%s: let only its owner read the file (chmod 600)\n",
                conversion->secrets, conversion->secrets == 1 ? "" : "s");
    fputs("note: `curlew check --verbose --config FILE` also lists the settings that have no effect yet\n", stderr);
    conversion_escape_output(conversion->output);
    if (json_dumpf(conversion->output, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) != 0 ||
        fputc('\n', stdout) == EOF || fflush(stdout) != 0) {
        fprintf(stderr, "error: cannot write the configuration: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}

static int convert_input(const struct convert_options *options, const struct convert_input *input) {
    struct conversion conversion = {.file = options->file != NULL ? options->file : options->env,
                                    .root = source_create(SOURCE_MAP, (struct slice){0}),
                                    .output = json_object()};
    struct error error;
    int code = 2;

    if (options->server->load(&conversion, input, &error))
        code = print_conversion(&conversion);
    else
        fprintf(stderr, "error: %s: %s\n", conversion.file, error.text);
    conversion_dispose(&conversion);
    return code;
}

int convert_run(char **arguments) {
    struct convert_options options = {0};
    struct convert_input input = {0};
    struct buffer file = {0};
    int code = parse_convert_options(arguments, &options);

    if (code != 0)
        return code;
    if (options.help) {
        fputs(convert_usage, stdout);
        return 0;
    }
    code = 2;
    input.variables = options.env != NULL ? json_object() : NULL;
    if ((options.file == NULL || read_input_file(options.file, &file)) &&
        (options.env == NULL || read_variables(&options, input.variables))) {
        input.file = buffer_slice(&file);
        code = convert_input(&options, &input);
    }
    if (file.data != NULL)
        explicit_bzero(file.data, file.capacity);
    buffer_dispose(&file);
    json_decref(input.variables);
    return code;
}
