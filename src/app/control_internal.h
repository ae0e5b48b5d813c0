/*
 * control_internal.h - what the files of the composition root share, one struct a lifetime:
 *
 *   control   the process: log, hub, database's service, tail, lanes       control.c, publish.c
 *   lane      one worker and what it owns: engine, server                  lanes.c
 *   setup     one configuration and what was built from it; an old one     setup.c, reload.c
 *             lives on until no bundle and no server names it
 */
#ifndef POSTERN_APP_CONTROL_INTERNAL_H
#define POSTERN_APP_CONTROL_INTERNAL_H

#include <event2/event.h>

#include "postern/app/site_build.h"
#include "postern/base/secret.h"
#include "postern/authz/engine.h"
#include "postern/authz/site.h"
#include "postern/net/fetch.h"
#include "postern/proxy/server.h"
#include "postern/surface/ops.h"
#include "postern/sync/tail.h"

#define KEY_URLS_MAX 64u /* bits of setup.refused */

struct control;

struct key_url {
    const struct pst_issuer_source *source;
    uint32_t index; /* of the issuer */
    struct pst_bytes issuer;
    const char *ca_file; /* NULL: the system's */
};

struct setup {
    struct setup *older;
    struct control *control;
    struct pst_config *config;
    struct pst_key_ring ring;
    struct pst_jwks *jwks; /* NULL: no issuer publishes at a URL */
    struct pst_site *site;
    struct pst_arena arena; /* of doors, of the following */
    bool *roles_missed;     /* by pst_config_named_role: was told */
    struct pst_server_config doors;
    const struct key_url *urls; /* by the manager's source */
    uint32_t url_count;
    _Atomic uint32_t lent;     /* servers that may still name doors */
    _Atomic uint32_t fetching; /* requests for keys on their way */
    _Atomic uint64_t refused;  /* sources, as bits, whose request the fetcher did not take */
};

/* fleet.c; the control thread's only. */
struct fleet {
    char node[PST_NODE_NAME_MAX];
    size_t node_len;
    bool shared; /* the database is one that others write to, over a network */
    bool awake, registering, dozing;
    bool unsure; /* a call that was to say "asleep" was not answered: it may arrive at any time */
    char former[PST_NODE_NAME_MAX]; /* of the row that it is about; to be taken away */
    bool has_former;
    bool known;  /* a registration was sent: there may be a row */
    bool stopped;
    struct pst_node_row row;          /* of the registration that is under way, */
    char routes[PST_NODE_ROUTES_MAX]; /* and its texts */
    bool calling;                     /* the service has a call of ours */
    bool report_due;
    uint64_t reported_ns, report_from_ns;
    uint64_t told_ns; /* the bound that the row says, or will when the call is done */
    uint64_t used_ns; /* as that; shorter once all workers have taken a shorter one */
    struct pst_revision taken, awaited; /* by all workers; what some may not have taken yet */
    uint64_t awaited_batch;             /* 0: nothing is */
    uint64_t applied_batch;             /* the tail's last */
    struct pst_feed *feed;              /* NULL: there is no Redis */
    bool may_publish, publishes;
    uint64_t claimed_ns, quiet_from_ns, patience_ns;
    uint64_t unsent; /* heartbeats that Redis did not take */
    bool leaving, left;
};

/* coldstart.c; the control thread's only, but for the key, which the saving thread reads. */
struct saving;
struct coldstart {
    unsigned char key[PST_MAC_KEY_LEN];
    bool usable; /* there is a key */
    uint64_t saved_n, tried_ns;
    struct saving *saving; /* NULL: none is under way */
};

/* Something that any thread asks of the control thread; asked again while it waits, it is one. */
struct call {
    struct pst_message message; /* first */
    struct control *control;
    _Atomic bool waits; /* set by the asker, acquire-release with the clearing before the run */
};

/* What the feed of changes says; for metrics only. */
struct heard {
    _Atomic uint64_t head_n, gaps, publishers;
};

struct lane {
    struct control *control;
    struct pst_worker *worker;
    struct pst_engine *engine;
    struct pst_server *server;
    struct pst_message message; /* swap, drain */
    bool started;
};

struct control {
    const char *config_path;
    struct pst_log *log;
    struct pst_policy_hub *hub;
    struct pst_worker *loop; /* of the control thread */
    struct pst_service *service;
    struct pst_tail *tail;
    struct fleet fleet;
    struct coldstart coldstart;
    struct call lease_wanted, took, changed; /* from workers, from the service */
    uint64_t batches;                        /* told to the workers */
    _Atomic uint32_t roles_missing;          /* named by the configuration; for metrics only */
    struct heard heard;
    struct pst_fetcher *fetcher;
    struct pst_ops_door *ops;
    struct setup *setup;             /* the current one first */
    _Atomic(struct setup *) serving; /* `setup`, for workers */
    struct pst_shared_policy *policy;
    struct pst_revision revision; /* that `policy` shows */
    uint8_t fleet_key[PST_FLEET_KEY_BYTES];
    struct lane *lanes;
    uint32_t lane_count;
    struct event *tick, *patience, *signals;
    int signal_fd;
    uint64_t jwks_due_ns;
    bool tail_failed, reload_wanted;
    struct pst_error tail_failure; /* as it was told last, and when */
    uint64_t tail_told_ns;
    bool moved;  /* the batch that was applied holds a change */
    bool untold; /* `policy` or `revision` is one that not all workers were told */
    _Atomic uint32_t drained;
    _Atomic bool draining;
    uint64_t drain_until_ns;
};

/* --- setup.c --- */

/* A worker's token names a key that is not there (pst_engine_config.want_keys). */
bool pst_control_want_keys(void *ctx, uint64_t verifier, uint32_t issuer, struct pst_bytes kid);
/* Takes `config` in any case. *out is NULL on failure. */
enum pst_status pst_setup_make(struct control *c, struct pst_config *config, struct setup **out,
                               struct pst_error *error);
/* Accepts NULL. */
void pst_setup_free(struct setup *s);
/* Old setups whose doors nobody was lent any more, and whose site only they hold. */
void pst_setup_free_old(struct control *c);
void pst_setup_answer_refused(struct setup *s);

/* --- control.c --- */

/* A worker's decision waits for a lease (pst_engine_config.want_lease). Any thread. */
void pst_control_want_lease(void *ctx);
/* A worker has taken a batch (pst_engine_config.took). Any thread. */
void pst_control_took(void *ctx);

/* --- fleet.c --- */

PST_MUST_USE enum pst_status pst_fleet_start(struct control *c, struct pst_error *error);
/* pst_tail_config.registers, .unlisted */
const struct pst_node_row *pst_fleet_registers(void *ctx);
void pst_fleet_unlisted(void *ctx);
/* A batch was applied; moved: it held a change. */
void pst_fleet_applied(struct control *c, bool moved);
/* A worker has taken a batch. */
void pst_fleet_took(struct control *c);
void pst_fleet_read_failed(struct control *c);
void pst_fleet_tick(struct control *c, uint64_t now_ns, bool at_work);
/* Behind the last decision: runs the loop until the row is gone, for a second at most. */
void pst_fleet_leave(struct control *c);
void pst_fleet_stop(struct control *c);

/* --- coldstart.c --- */

/* Before the first read of the log. */
void pst_coldstart_load(struct control *c);
void pst_coldstart_tick(struct control *c, uint64_t now_ns);
/* Saves what was not saved yet. */
void pst_coldstart_stop(struct control *c);

/* --- figures.c --- */

/* Any worker: why this node is not ready, apart from its lease; NULL: it is. */
const char *pst_control_unready(void *ctx);
void pst_control_figures(void *ctx, struct pst_ops_figures *out);
/* The control thread, behind each new policy or setup: says which roles that the configuration names
 * are not there, once until they come. */
void pst_control_note_roles(struct control *c);
/* The control thread: what the feed said last. */
void pst_control_note_head(struct control *c, uint64_t n);
void pst_control_note_feed(struct control *c, uint64_t gaps, uint64_t publishers);

/* --- publish.c --- */

enum pst_status pst_control_tell_all(struct control *c, const struct pst_engine_news *news);
/* The tail's callbacks: what is in force; and everything of a batch becomes effective in one message a worker. */
const struct pst_policy *pst_control_base(void *ctx);
enum pst_status pst_control_apply(void *ctx, const struct pst_tail_batch *batch,
                                  struct pst_error *error);

/* --- lanes.c --- */

enum pst_status pst_lane_make(struct control *c, uint32_t index, struct pst_error *error);
/* A socket a worker, to fds[lane_count]. */
enum pst_status pst_control_open_listener(struct control *c, const struct setup *s, uint32_t index,
                                          int *fds, struct pst_error *error);
enum pst_status pst_control_open_listeners(struct control *c, struct pst_error *error);
/* Names every switch that lets more through than the policy says. */
void pst_control_warn(struct control *c);

/* --- reload.c --- */

void pst_control_log_failure(struct control *c, const char *event, const struct pst_error *error);
void pst_control_reload(struct control *c);

#endif
