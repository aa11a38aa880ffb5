/* The environment variables of other servers of the protocol family that have no meaning here. */
#include <string.h>
#include <unistd.h>

#include "config/config_app_field.h"
#include "config/config_loader.h"

/* What the names of Sockudo's variables begin with, apart from single words such as PORT. */
static const char *const prefixes[] = {
    "ADAPTER_",
    "AI_TRANSPORT_",
    "ANNOTATIONS_",
    "APNS_",
    "APP_MANAGER_",
    "CACHE_",
    "CLEANUP_",
    "CLUSTER_HEALTH_",
    "CONNECTION_RECOVERY_",
    "CORS_",
    "DATABASE_DYNAMODB",
    "DATABASE_MYSQL_",
    "DATABASE_POOL",
    "DATABASE_POSTGRES_",
    "DATABASE_REDIS_",
    "DATABASE_SCYLLADB_",
    "DATABASE_SURREALDB_",
    "DELTA_COMPRESSION_",
    "ECHO_CONTROL_",
    "EPHEMERAL_",
    "EVENT_NAME_FILTERING_",
    "GOOGLE_PUBSUB_",
    "HEALTH_CHECK_",
    "HISTORY_",
    "HTTP_API_",
    "IDEMPOTENCY_",
    "IGGY_",
    "KAFKA_",
    "MCP_",
    "METRICS_",
    "NATS_",
    "OMQ_",
    "PRESENCE_",
    "PUBSUB_EMULATOR_HOST",
    "PULSAR_",
    "PUSH_",
    "QUEUE_",
    "RABBITMQ_",
    "RATE_LIMITER_",
    "REDIS_CLUSTER_",
    "REDIS_URL",
    "SCYLLADB_",
    "SOCKUDO_",
    "TAG_FILTERING_",
    "UNIX_SOCKET_",
    "VERSIONED_MESSAGES_",
    "WEBHOOK_",
    "WEBSOCKET_",
};

static bool is_of_family(struct slice name) {
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (slice_starts_with(name, slice_of(prefixes[i])))
            return true;
    return false;
}

/* True if the setting's list of variables, separated by blanks, has the name. */
static bool row_reads(const struct config_row *row, struct slice name) {
    for (const char *rest = row->variables; rest != NULL && *rest != '\0';) {
        struct slice variable = {rest, strcspn(rest, " ")};

        if (slice_equal(variable, name))
            return true;
        rest += variable.length;
        rest += strspn(rest, " ");
    }
    return false;
}

static bool is_read(struct slice name) {
    for (size_t i = 0; i < config_row_count; i++)
        if (row_reads(&config_rows[i], name))
            return true;
    return config_app_field_reads(name);
}

/* Kubernetes sets variables for its services: NATS_PORT=tcp://10.0.0.1:4222, NATS_SERVICE_HOST, NATS_PORT_4222_TCP. */
static bool is_of_kubernetes(struct slice name, const char *value) {
    static const char *const parts[] = {"_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"};

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (memmem(name.data, name.length, parts[i], strlen(parts[i])) != NULL)
            return true;
    return strncmp(value, "tcp://", 6) == 0;
}

void config_report_family_variables(struct config_report *report) {
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++) {
        struct slice name = {*variable, strcspn(*variable, "=")};
        const char *value = *variable + name.length + ((*variable)[name.length] == '=');

        if (*value != '\0' && is_of_family(name) && !is_read(name) && !is_of_kubernetes(name, value))
            config_report_accepted(report, "%.*s", SLICE_ARGS(name));
    }
}
