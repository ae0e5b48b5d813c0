/*
 * Bytes that claim to be an image. What is read must be writable as the very same bytes, and answer
 * any question; the rest of a small world (caller, request) is chosen by a hash of the input.
 */
#include "../../unit/policy/image_fixture.h"
#include "../../unit/policy/naive.h"

#include "postern/base/hash.h"
#include "postern/policy/explain.h"

#define QUESTIONS 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct pst_hash_key key = {0};
    struct pst_bytes image = pst_bytes_of(data, size);
    struct chooser c = {.state = pst_hash(&key, image)};
    struct pst_policy *policy;
    struct pst_error error;
    char space[8192];

    if (pst_policy_image_read(image, &policy, &error) != PST_OK)
        return 0;
    if (!ix_is_of(data, size, policy))
        abort();
    for (unsigned i = 0; i < QUESTIONS; i++) {
        struct pst_buf out = pst_buf_of(space, sizeof(space));
        struct pst_eval_detail detail;
        struct world w;
        nv_make(&w, &c);
        w.question.policy = policy;
        enum pst_verdict verdict = pst_eval(&w.question, &detail);
        pst_explain_json(&w.question, verdict, &detail, &out);
        nv_free(&w);
    }
    pst_policy_destroy(policy);
    return 0;
}
