#include "postern/base/metric.h"

void pst_metrics_decision(struct pst_metrics *m, uint64_t ns)
{
    unsigned bucket = 0;

    while (bucket < PST_METRIC_BUCKETS - 1 && ns > UINT64_C(256) << bucket)
        bucket++;
    pst_count(&m->decision_ns_bucket[bucket], 1);
    pst_count(&m->decision_ns_sum, ns);
    pst_count(&m->decision_count, 1);
}
