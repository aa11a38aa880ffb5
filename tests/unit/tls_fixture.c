#include "tls_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/tls.h"

char tls_fixture_cert[] = "/tmp/curlew-test-tls-cert-XXXXXX", tls_fixture_key[] = "/tmp/curlew-test-tls-key-XXXXXX";

int tls_fixture_write(void **state) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);
    FILE *file;

    (void)state;
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    file = fdopen(mkstemp(tls_fixture_cert), "w");
    PEM_write_X509(file, certificate);
    fclose(file);
    file = fdopen(mkstemp(tls_fixture_key), "w");
    PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return 0;
}

int tls_fixture_remove(void **state) {
    (void)state;
    unlink(tls_fixture_cert);
    unlink(tls_fixture_key);
    return 0;
}

struct tls_context *tls_fixture_context(struct tls_tickets *tickets, const char *ca_path) {
    struct error error = {0};
    struct tls_context *context = tls_context_create(
        &(struct tls_settings){
            .cert_path = tls_fixture_cert, .key_path = tls_fixture_key, .ca_path = ca_path, .tickets = tickets},
        &error);

    assert_string_equal(error.text, "");
    return context;
}
