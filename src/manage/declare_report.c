/*
 * What was done, kept and printed.
 */
#include <stdlib.h>

#include "declare_internal.h"
#include "postern/base/buf.h"

enum pst_status pst_report_add(struct pst_apply_report *report, enum pst_edit_action action,
                               const char *kind, const char *name, const char *detail)
{
    struct pst_bytes kept_name, kept_detail;

    if (name == NULL || detail == NULL ||
        pst_arena_copy(&report->arena_, pst_bytes_of(name, strlen(name)), &kept_name) != PST_OK ||
        pst_arena_copy(&report->arena_, pst_bytes_of(detail, strlen(detail)), &kept_detail) !=
            PST_OK)
        return PST_E_NOMEM;
    if (report->count == report->cap_) {
        size_t cap = report->cap_ == 0 ? 64 : report->cap_ * 2;
        struct pst_edit *more = realloc(report->edits, cap * sizeof(*more));
        if (more == NULL)
            return PST_E_NOMEM;
        report->edits = more;
        report->cap_ = cap;
    }
    report->edits[report->count++] = (struct pst_edit){
        .action = action, .kind = kind, .name = kept_name.ptr, .detail = kept_detail.ptr};
    switch (action) {
    case PST_EDIT_ADD:
        report->added++;
        break;
    case PST_EDIT_CHANGE:
        report->changed++;
        break;
    case PST_EDIT_REMOVE:
        report->removed++;
        break;
    case PST_EDIT_WARN:
        report->warnings++;
        break;
    }
    return PST_OK;
}

void pst_apply_report_fini(struct pst_apply_report *report)
{
    free(report->edits);
    pst_arena_fini(&report->arena_);
    *report = (struct pst_apply_report){0};
}

static enum pst_status written(FILE *out)
{
    return fflush(out) == 0 && ferror(out) == 0 ? PST_OK : PST_E_IO;
}

static void put_barrier(const struct pst_barrier *b, FILE *out)
{
    if (b->listed && b->pending == 0)
        (void)fprintf(out, "in force on all nodes after %llu ms (%u that decide from memory)\n",
                      (unsigned long long)b->waited_ms, b->nodes);
    else
        (void)fprintf(out, "in force after %llu ms: what %s may decide from has run out\n",
                      (unsigned long long)b->waited_ms,
                      b->listed ? "nodes that did not report" : "nodes that could not be listed");
    if (b->exempt > 0)
        (void)fprintf(out, "but for routes with stale_allow_s or stream_grace_s, on %u nodes:\n",
                      b->exempt);
    for (struct pst_bytes rest = pst_bytes_of(b->routes, b->routes_len), route;
         pst_node_routes_next(&rest, &route);)
        (void)fprintf(out, "  %.*s\n", (int)route.len, route.ptr);
}

enum pst_status pst_report_text(const struct pst_apply_report *report, bool dry_run, FILE *out)
{
    static const char SIGNS[] = {[PST_EDIT_ADD] = '+',
                                 [PST_EDIT_CHANGE] = '~',
                                 [PST_EDIT_REMOVE] = '-',
                                 [PST_EDIT_WARN] = '!'};

    for (size_t i = 0; i < report->count; i++) {
        const struct pst_edit *e = &report->edits[i];
        (void)fprintf(out, "%c %s %s%s%s\n", SIGNS[e->action], e->kind, e->name,
                      e->detail[0] == '\0' ? "" : ": ", e->detail);
    }
    if (report->added + report->changed + report->removed == 0)
        (void)fprintf(out, "no difference");
    else
        (void)fprintf(out, "%s%zu added, %zu changed, %zu removed", dry_run ? "would be: " : "",
                      report->added, report->changed, report->removed);
    (void)fprintf(out, " (revision %016llx-%llu)\n", (unsigned long long)report->revision.epoch,
                  (unsigned long long)report->revision.n);
    if (report->waited)
        put_barrier(&report->barrier, out);
    return written(out);
}

/* In pieces of whole characters, as long as it may be: an id alone has room for 1,024 bytes. */
static void put_json(FILE *out, const char *key, const char *text)
{
    char room[4096];

    (void)fprintf(out, "\"%s\":\"", key);
    for (size_t left = strlen(text), n; left > 0; left -= n, text += n) {
        struct pst_buf b = pst_buf_of(room, sizeof(room));
        n = left < 600 ? left : 600; /* at most six bytes each */
        while (n < left && n > 1 && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--;
        pst_buf_json(&b, pst_bytes_of(text, n));
        (void)fprintf(out, "%.*s", (int)b.len - 2, room + 1);
    }
    (void)fputc('"', out);
}

static void put_barrier_json(const struct pst_barrier *b, FILE *out)
{
    char room[6 * PST_NODE_ROUTES_MAX]; /* at most six bytes each */
    unsigned count = 0;

    (void)fprintf(out,
                  "\"enforced\":{\"nodes\":%u,\"pending\":%u,\"exempt\":%u,\"waited_ms\":%llu,"
                  "\"listed\":%s,\"exempt_routes\":[",
                  b->nodes, b->pending, b->exempt, (unsigned long long)b->waited_ms,
                  b->listed ? "true" : "false");
    for (struct pst_bytes rest = pst_bytes_of(b->routes, b->routes_len), route;
         pst_node_routes_next(&rest, &route); count++) {
        struct pst_buf json = pst_buf_of(room, sizeof(room));
        pst_buf_json(&json, route);
        (void)fprintf(out, "%s%.*s", count == 0 ? "" : ",", (int)json.len, room);
    }
    (void)fprintf(out, "]},");
}

enum pst_status pst_report_json(const struct pst_apply_report *report, bool dry_run, FILE *out)
{
    static const char *const ACTIONS[] = {[PST_EDIT_ADD] = "add",
                                          [PST_EDIT_CHANGE] = "change",
                                          [PST_EDIT_REMOVE] = "remove",
                                          [PST_EDIT_WARN] = "warn"};

    (void)fprintf(out,
                  "{\"dry_run\":%s,\"added\":%zu,\"changed\":%zu,\"removed\":%zu,\"warnings\":%zu,"
                  "\"revision\":\"%016llx-%llu\",\"revision_token\":\"%s\",",
                  dry_run ? "true" : "false", report->added, report->changed, report->removed,
                  report->warnings, (unsigned long long)report->revision.epoch,
                  (unsigned long long)report->revision.n, report->token);
    if (report->waited)
        put_barrier_json(&report->barrier, out);
    (void)fprintf(out, "\"edits\":[");
    for (size_t i = 0; i < report->count; i++) {
        const struct pst_edit *e = &report->edits[i];
        (void)fprintf(out, "%s{\"action\":\"%s\",\"kind\":\"%s\",", i == 0 ? "" : ",",
                      ACTIONS[e->action], e->kind);
        put_json(out, "name", e->name);
        (void)fputc(',', out);
        put_json(out, "detail", e->detail);
        (void)fputc('}', out);
    }
    (void)fprintf(out, "]}\n");
    return written(out);
}
