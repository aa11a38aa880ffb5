/* Networks: which addresses are in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <string.h>

#include "base/network.h"

static bool contains(const char *network, const char *address) {
    struct sockaddr_in6 ip6 = {.sin6_family = AF_INET6};
    struct sockaddr_in ip4 = {.sin_family = AF_INET};
    struct network parsed;

    assert_true(network_parse(network, &parsed));
    if (inet_pton(AF_INET, address, &ip4.sin_addr) == 1)
        return network_contains(&parsed, (const struct sockaddr *)&ip4);
    assert_int_equal(inet_pton(AF_INET6, address, &ip6.sin6_addr), 1);
    return network_contains(&parsed, (const struct sockaddr *)&ip6);
}

static void a_prefix_decides(void **state) {
    (void)state;
    assert_true(contains("10.0.0.0/8", "10.255.0.1"));
    assert_false(contains("10.0.0.0/8", "11.0.0.0"));
    assert_true(contains("192.168.4.0/22", "192.168.7.255"));
    assert_false(contains("192.168.4.0/22", "192.168.8.0"));
    assert_true(contains("fe80::/10", "febf::1"));
    assert_false(contains("fe80::/10", "fec0::1"));
    assert_true(contains("0.0.0.0/0", "8.8.8.8"));
    assert_false(contains("0.0.0.0/0", "2001:db8::1"));
    assert_true(contains("::/0", "2001:db8::1"));
    assert_true(contains("192.0.2.1", "192.0.2.1"));
    assert_false(contains("192.0.2.1", "192.0.2.2"));
}

static void an_ipv4_address_inside_an_ipv6_address_counts_as_itself(void **state) {
    (void)state;
    assert_true(contains("169.254.0.0/16", "::ffff:169.254.169.254"));
    assert_true(contains("169.254.0.0/16", "64:ff9b::169.254.169.254"));
    assert_true(contains("::ffff:10.0.0.0/104", "10.1.2.3"));
    assert_false(contains("169.254.0.0/16", "::ffff:169.253.0.1"));
}

static void the_unspecified_address_counts_as_loopback(void **state) {
    (void)state;
    assert_true(contains("127.0.0.0/8", "0.0.0.0"));
    assert_true(contains("::1", "::"));
    assert_false(contains("127.0.0.0/8", "::1"));
}

static void what_is_no_network_is_refused(void **state) {
    static const char *const wrong[] = {"",          "10.0.0.0/33", "10.0.0.1/8", "10.0.0/8",   "fe80::/129",
                                        "a.example", "10.0.0.0/ 8", "10.0.0.0/",  "fe80::1/10", "10.0.0.0/8/8"};
    struct network network;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(network_parse(wrong[i], &network));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prefix_decides),
        cmocka_unit_test(an_ipv4_address_inside_an_ipv6_address_counts_as_itself),
        cmocka_unit_test(the_unspecified_address_counts_as_loopback),
        cmocka_unit_test(what_is_no_network_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
