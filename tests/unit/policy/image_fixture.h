/*
 * image_fixture.h - images in memory, for the tests and the fuzzer of them.
 */
#ifndef POSTERN_TESTS_IMAGE_FIXTURE_H
#define POSTERN_TESTS_IMAGE_FIXTURE_H

#include <stdlib.h>

#include "postern/policy/image.h"

struct image {
    char *data;
    size_t len;
};

static inline enum pst_status ix_append(void *ctx, struct pst_bytes bytes)
{
    struct image *image = ctx;
    char *data = realloc(image->data, image->len + bytes.len + 1);

    if (data == NULL)
        abort();
    if (bytes.len > 0)
        memcpy(data + image->len, bytes.ptr, bytes.len);
    image->data = data;
    image->len += bytes.len;
    return PST_OK;
}

static inline struct image ix_of(const struct pst_policy *policy)
{
    struct image image = {0};

    if (pst_policy_image_write(policy, ix_append, &image) != PST_OK)
        abort();
    return image;
}

/* What is read is what would be written: no byte of an accepted image is ignored. */
static inline bool ix_is_of(const void *data, size_t len, const struct pst_policy *policy)
{
    struct image again = ix_of(policy);
    bool same = again.len == len && memcmp(again.data, data, len) == 0;

    free(again.data);
    return same;
}

#endif
