#include "store/response_limit.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

const char response_too_large[] = "an answer of more than 64 MB";

uint64_t response_received(int fd) {
    struct tcp_info info = {0};
    socklen_t length = sizeof info;

    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 ? info.tcpi_bytes_received : 0;
}

bool response_fits(int fd, uint64_t before) {
    return response_received(fd) - before <= RESPONSE_MAX_BYTES;
}
