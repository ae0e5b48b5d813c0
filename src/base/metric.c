#include "postern/base/metric.h"

void pst_metrics_decision(struct pst_metrics *m, uint64_t ns)
{
    /* The first bucket whose bound, 256 << bucket, is not below ns. */
    unsigned bucket = ns <= 256 ? 0 : 64 - 8 - (unsigned)__builtin_clzll(ns - 1);

    if (bucket >= PST_METRIC_BUCKETS)
        bucket = PST_METRIC_BUCKETS - 1;
    pst_count(&m->decision_ns_bucket[bucket], 1);
    pst_count(&m->decision_ns_sum, ns);
}
