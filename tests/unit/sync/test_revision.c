/* Revisions as clients carry them: one form, and nothing that a node did not write. */
#include "../test.h"

#include "postern/sync/revision.h"

static const uint8_t KEY[PST_FLEET_KEY_BYTES] = {1, 2, 3}, OTHER[PST_FLEET_KEY_BYTES] = {1, 2, 4};

static size_t write(char *room, size_t size, const uint8_t *key, uint64_t epoch, uint64_t n)
{
    struct pst_buf b = pst_buf_of(room, size);
    struct pst_revision r = {epoch, n};

    return pst_revision_token_write(key, &r, &b) ? b.len : 0;
}

static void there_and_back(void **state)
{
    static const struct pst_revision CASES[] = {
        {1, 0}, {UINT64_MAX, INT64_MAX}, {UINT64_C(0x0123456789abcdef), 42}};
    char room[PST_REVISION_TEXT_MAX];
    struct pst_revision r;
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        size_t len = write(room, sizeof(room), KEY, CASES[i].epoch, CASES[i].n);
        assert_true(len > 0);
        assert_true(pst_revision_token_read(KEY, pst_bytes_of(room, len), &r));
        assert_int_equal(r.epoch, CASES[i].epoch);
        assert_int_equal(r.n, CASES[i].n);
        assert_false(pst_revision_token_read(OTHER, pst_bytes_of(room, len), &r));
        assert_int_equal(r.epoch | r.n, 0);
        assert_int_equal(write(room, len - 1, KEY, CASES[i].epoch, CASES[i].n), 0); /* no room */
    }
}

static void every_other_text_is_refused(void **state)
{
    char room[PST_REVISION_TEXT_MAX], changed[PST_REVISION_TEXT_MAX + 1];
    struct pst_revision r;
    size_t len = write(room, sizeof(room), KEY, 7, 1234);
    (void)state;

    for (size_t i = 0; i < len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(changed, room, len);
            changed[i] = (char)(changed[i] ^ (1 << bit));
            assert_false(pst_revision_token_read(KEY, pst_bytes_of(changed, len), &r));
        }
        assert_false(pst_revision_token_read(KEY, pst_bytes_of(room, i), &r)); /* cut off */
    }
    memcpy(changed, room, len);
    changed[len] = '0';
    assert_false(pst_revision_token_read(KEY, pst_bytes_of(changed, len + 1), &r));
    /* The same number in another spelling. */
    memcpy(changed, room, 17);
    changed[17] = '0';
    memcpy(changed + 18, room + 17, len - 17);
    assert_false(pst_revision_token_read(KEY, pst_bytes_of(changed, len + 1), &r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(there_and_back),
                                       cmocka_unit_test(every_other_text_is_refused)};

    return cmocka_run_group_tests_name("revision", tests, NULL, NULL);
}
