#include "postern/identity/wall.h"

#include "postern/base/clock.h"

#define STEP_MAY_BE_ERROR_NS (3600 * PST_NS_PER_S)

static void believe(struct pst_wall *w, int64_t offset_ns)
{
    w->offset_ns_ = offset_ns;
    w->distrusted_since_ns_ = 0;
}

/* The wall stands at or ahead of what was believed. */
static void follow_ahead(struct pst_wall *w, int64_t offset_ns, uint64_t boot_ns)
{
    if (w->started_ && offset_ns - w->offset_ns_ > (int64_t)(w->leeway_s * PST_NS_PER_S)) {
        w->earlier_ns_ = w->offset_ns_;
        w->ahead_since_ns_ = boot_ns == 0 ? 1 : boot_ns;
    }
    w->started_ = true;
    believe(w, offset_ns);
}

static bool is_way_back(const struct pst_wall *w, int64_t offset_ns, uint64_t boot_ns)
{
    return w->ahead_since_ns_ != 0 && boot_ns - w->ahead_since_ns_ < STEP_MAY_BE_ERROR_NS &&
           offset_ns >= w->earlier_ns_ - (int64_t)(w->leeway_s * PST_NS_PER_S);
}

/* The wall stands behind what was believed. */
static void set_back(struct pst_wall *w, int64_t offset_ns, uint64_t boot_ns)
{
    if (w->offset_ns_ - offset_ns <= (int64_t)(w->leeway_s * PST_NS_PER_S)) {
        believe(w, offset_ns);
    } else if (is_way_back(w, offset_ns, boot_ns)) {
        w->steps_back++;
        w->ahead_since_ns_ = 0;
        believe(w, offset_ns);
    } else if (w->distrusted_since_ns_ == 0) {
        w->distrusted_since_ns_ = boot_ns == 0 ? 1 : boot_ns;
        w->steps_back++;
    } else if (boot_ns - w->distrusted_since_ns_ > w->hold_s * PST_NS_PER_S) {
        believe(w, offset_ns); /* the wrong time was the earlier one */
    }
}

int64_t pst_wall_now_s(struct pst_wall *w, uint64_t wall_ns, uint64_t boot_ns)
{
    int64_t offset_ns = (int64_t)(wall_ns - boot_ns);

    if (!w->started_ || offset_ns >= w->offset_ns_)
        follow_ahead(w, offset_ns, boot_ns);
    else
        set_back(w, offset_ns, boot_ns);
    return pst_wall_believed_s(w, boot_ns);
}
