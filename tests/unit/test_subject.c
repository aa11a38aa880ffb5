#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/message/subject.h"

static void assert_subject(struct buffer *subject, const char *expected) {
    assert_string_equal(buffer_string(subject), expected);
    subject->length = 0;
}

static void assert_channel(const struct subjects *subjects, const char *app, const char *channel,
                           const char *expected) {
    struct buffer subject = {0};

    subject_append_channel(&subject, subjects, slice_of(app), slice_of(channel));
    assert_subject(&subject, expected);
    buffer_dispose(&subject);
}

static void plain_subjects(void **state) {
    struct subjects subjects;
    struct buffer subject = {0};

    (void)state;
    subjects_init(&subjects, SUBJECT_PLAIN, SLICE("sockudo_adapter:"));
    subject_append_all(&subject, &subjects);
    assert_subject(&subject, "sockudo_adapter:curlew1:n");
    subject_append_inbox(&subject, &subjects, (struct node_id){1, 0xab});
    assert_subject(&subject, "sockudo_adapter:curlew1:i:000000000000000100000000000000ab");
    assert_channel(&subjects, "app-1", "presence-a:b=c", "sockudo_adapter:curlew1:c:app-1:presence-a:b=c");
    assert_channel(&subjects, "a:b", "c", "sockudo_adapter:curlew1:c:a=3Ab:c");
    assert_channel(&subjects, "a", "b:c", "sockudo_adapter:curlew1:c:a:b:c");
    assert_channel(&subjects, "a=3Ab", "c", "sockudo_adapter:curlew1:c:a=3D3Ab:c");
    assert_channel(&subjects, "a", "#server-to-user-anna b", "sockudo_adapter:curlew1:u:a:anna b");
    subjects_dispose(&subjects);
    buffer_dispose(&subject);
}

static void subjects_of_nats_are_tokens(void **state) {
    struct subjects subjects;
    struct buffer subject = {0};

    (void)state;
    subjects_init(&subjects, SUBJECT_NATS, SLICE("my.prefix:"));
    subject_append_all(&subject, &subjects);
    assert_subject(&subject, "my=2Eprefix=3A.curlew1.n");
    subject_append_inbox(&subject, &subjects, (struct node_id){1, 0xab});
    assert_subject(&subject, "my=2Eprefix=3A.curlew1.i.000000000000000100000000000000ab");
    assert_channel(&subjects, "a.*",
                   "presence-x_Y9@,.;:#=", "my=2Eprefix=3A.curlew1.c.a=2E=2A.presence-x_Y9=40=2C=2E=3B=3A=23=3D");
    assert_channel(&subjects, "a", "#server-to-user-> \xc3\xa9", "my=2Eprefix=3A.curlew1.u.a.=3E=20=C3=A9");
    subjects_dispose(&subjects);
    subjects_init(&subjects, SUBJECT_NATS, SLICE(""));
    subject_append_all(&subject, &subjects);
    assert_subject(&subject, "curlew1.n");
    subjects_dispose(&subjects);
    buffer_dispose(&subject);
}

static void append_many(struct buffer *text, char byte, unsigned count) {
    while (count-- != 0)
        buffer_append_byte(text, byte);
}

/* head -c 170 /dev/zero | tr '\0' ':' | (cat; echo -n aaa) | sha256sum */
static void a_long_token_is_a_digest(void **state) {
    struct subjects subjects;
    struct buffer channel = {0}, expected = {0};

    (void)state;
    subjects_init(&subjects, SUBJECT_NATS, SLICE(""));
    append_many(&channel, ':', 170);
    append_many(&channel, 'a', 2);
    buffer_append_string(&expected, "curlew1.c.a.");
    for (unsigned i = 0; i < 170; i++)
        buffer_append_string(&expected, "=3A");
    buffer_append_string(&expected, "aa");
    assert_channel(&subjects, "a", buffer_string(&channel), buffer_string(&expected));
    append_many(&channel, 'a', 1);
    assert_channel(&subjects, "a", buffer_string(&channel),
                   "curlew1.c.a.=H5737531a39fcda3f1f1070aa0f9a047e071d99420f34daa4c4c7167da3ca2912");
    buffer_dispose(&channel);
    buffer_dispose(&expected);
    subjects_dispose(&subjects);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_subjects),
        cmocka_unit_test(subjects_of_nats_are_tokens),
        cmocka_unit_test(a_long_token_is_a_digest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
