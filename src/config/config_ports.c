#include "config/config_ports.h"

#include <string.h>
#include <strings.h>

/* A listener: the setting of its port, and its address. */
struct place {
    const char *setting;
    const char *host;
    uint32_t port; /* 0: the kernel chooses a free one */
};

static bool is_any_host(const char *host) {
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

static bool is_ipv6_host(const char *host) {
    return strchr(host, ':') != NULL;
}

/* Names are not resolved, apart from the one that always is this machine (RFC 6761 section 6.3). */
static const char *resolved_host(const char *host) {
    return strcasecmp(host, "localhost") == 0 ? "127.0.0.1" : host;
}

/* True if both cannot listen. An address of all IPv6 interfaces takes those of IPv4, too. */
static bool places_clash(const struct place *a, const struct place *b) {
    const char *host = resolved_host(a->host), *other = resolved_host(b->host);

    if (a->port == 0 || a->port != b->port)
        return false;
    if (strcmp(host, other) == 0 || strcmp(host, "::") == 0 || strcmp(other, "::") == 0)
        return true;
    return (is_any_host(host) || is_any_host(other)) && !is_ipv6_host(host) && !is_ipv6_host(other);
}

void config_check_ports(const struct config *config, struct config_report *report) {
    struct place places[4];
    size_t count = 0;
    char admin_host[256];
    uint16_t admin_port;

    if (!config->unix_socket.enabled) {
        places[count++] = (struct place){"port", config->host, config->port};
        if (config->ssl.enabled && config->ssl.redirect_http)
            places[count++] = (struct place){"ssl.http_port", config->host, config->ssl.http_port};
    }
    if (config->metrics.enabled)
        places[count++] = (struct place){"metrics.port", config->metrics.host, config->metrics.port};
    if (config_has_admin_api(config) && config_split_address(config->admin.listen, admin_host, &admin_port))
        places[count++] = (struct place){"CURLEW_ADMIN_LISTEN", admin_host, admin_port};
    for (size_t i = 0; i < count; i++)
        for (size_t k = i + 1; k < count; k++)
            if (places_clash(&places[i], &places[k]))
                config_report_error(report, "%s and %s have the same port, %u; each needs one of its own",
                                    places[i].setting, places[k].setting, places[i].port);
}
