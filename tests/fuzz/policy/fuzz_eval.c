/*
 * The bytes choose a model, a caller and a request; the evaluator and the slow one of the tests
 * must agree, by either combining rule, and the explanation must fit what it is about.
 */
#include "../../unit/policy/naive.h"

#include <jansson.h>

#include "postern/policy/explain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chooser c = {.data = data, .len = size};
    struct pst_eval_detail detail;
    enum pst_verdict verdict;
    struct world w;
    char space[8192];

    if (size == 0)
        return 0;
    nv_make(&w, &c);
    if (!nv_agree(&w, &verdict))
        abort();
    struct pst_buf out = pst_buf_of(space, sizeof(space));
    if (pst_eval(&w.question, &detail) != verdict)
        abort();
    pst_explain_json(&w.question, verdict, &detail, &out);
    json_error_t error;
    json_t *json = json_loadb(out.data, out.len, 0, &error);
    if (out.full || json == NULL)
        abort();
    json_decref(json);
    nv_free(&w);
    return 0;
}
