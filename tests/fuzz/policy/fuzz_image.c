/*
 * Bytes that claim to be an image. What is read must be writable as the very same bytes, and answer
 * any question; the rest of a small world (caller, request) is chosen by a hash of the input. The
 * release in the head is put right, so that a corpus outlives it.
 */
#include "../../unit/policy/image_fixture.h"
#include "../../unit/policy/naive.h"

#include "postern/base/hash.h"
#include "postern/policy/explain.h"

#define QUESTIONS   16
#define RELEASE_AT  8
#define RELEASE_LEN 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const struct pst_policy *policy, struct chooser *c)
{
    char space[8192];
    struct pst_buf out = pst_buf_of(space, sizeof(space));
    struct pst_eval_detail detail;
    struct world w;

    nv_make(&w, c);
    w.question.policy = policy;
    enum pst_verdict verdict = pst_eval(&w.question, &detail);
    pst_explain_json(&w.question, verdict, &detail, &out);
    nv_free(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char release[RELEASE_LEN] = PST_VERSION;
    const struct pst_hash_key key = {0};
    struct chooser c = {.state = pst_hash(&key, pst_bytes_of(data, size))};
    struct pst_policy *policy;
    struct pst_error error;
    char *image = malloc(size + 1);

    if (image == NULL)
        abort();
    memcpy(image, data, size);
    if (size >= RELEASE_AT + RELEASE_LEN)
        memcpy(image + RELEASE_AT, release, RELEASE_LEN);
    if (pst_policy_image_read(pst_bytes_of(image, size), &policy, &error) == PST_OK) {
        if (!ix_is_of(image, size, policy))
            abort();
        for (unsigned i = 0; i < QUESTIONS; i++)
            ask(policy, &c);
        pst_policy_destroy(policy);
    }
    free(image);
    return 0;
}
