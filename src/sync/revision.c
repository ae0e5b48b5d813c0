#include "postern/sync/revision.h"

#include "postern/base/secret.h"

#define MAC_BYTES 16 /* of the MAC's 32: nobody can try more than online */

static bool put_mac(const uint8_t key[PST_FLEET_KEY_BYTES], struct pst_bytes text,
                    struct pst_buf *out)
{
    unsigned char mac[PST_MAC_LEN];
    struct pst_mac *m = pst_mac_create(key);

    if (m == NULL)
        return false;
    pst_mac_add(m, PST_LIT("postern revision\n")); /* the key has other uses */
    pst_mac_add(m, text);
    bool good = pst_mac_end(m, mac);
    pst_mac_destroy(m);
    for (unsigned i = 0; i < MAC_BYTES; i++)
        pst_buf_hex(out, mac[i], 2);
    return good && !out->full;
}

bool pst_revision_token_write(const uint8_t key[PST_FLEET_KEY_BYTES],
                              const struct pst_revision *revision, struct pst_buf *out)
{
    size_t from = out->len;

    pst_buf_hex(out, revision->epoch, 16);
    pst_buf_char(out, '-');
    pst_buf_u64(out, revision->n);
    size_t end = out->len;
    pst_buf_char(out, '.');
    return !out->full && put_mac(key, pst_bytes_of(out->data + from, end - from), out);
}

/* What was read is written anew and compared: one form, and the MAC in constant time. */
bool pst_revision_token_read(const uint8_t key[PST_FLEET_KEY_BYTES], struct pst_bytes text,
                             struct pst_revision *out)
{
    char room[PST_REVISION_TEXT_MAX];
    struct pst_buf again = pst_buf_of(room, sizeof(room));
    size_t dot = pst_bytes_find(text, '.');

    *out = (struct pst_revision){0};
    if (text.len > PST_REVISION_TEXT_MAX || dot < 18 || dot >= text.len || text.ptr[16] != '-')
        return false;
    struct pst_revision r;
    if (!pst_bytes_hex(pst_bytes_of(text.ptr, 16), 16, &r.epoch) ||
        !pst_bytes_u63(pst_bytes_of(text.ptr + 17, dot - 17), &r.n) ||
        !pst_revision_token_write(key, &r, &again) || again.len != text.len ||
        !pst_secret_equal(pst_buf_bytes(&again), text))
        return false;
    *out = r;
    return true;
}
