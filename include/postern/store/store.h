/*
 * store.h - the truth: workspaces, users, roles, permissions and bindings in a database.
 *
 * Purpose    Reads with the revision that they show, and the change log that proves what is newest.
 *            Writing is change.h.  The backends stand behind backend.h; one schema for all.
 *
 * URLs       sqlite:///rel.db and sqlite:////abs/file.db (SQLAlchemy's forms: three slashes and a
 * path relative to the working directory, four for an absolute one).
 *            postgresql:// (also postgres:// and postgresql+psycopg2://) as libpq reads it, with
 *            several hosts, TLS and all of its parameters.  With several hosts and no
 *            target_session_attrs it is read-write.  connect_timeout is per host; if not given, 2
 * s, and 1 s of silence. pgbouncer=true is our own: a pooler in transaction mode is in between.
 *
 * Files      A database is created with mode 0600; SQLite gives its -wal and -shm the same.
 *
 * Threads    One thread at a time per store; open another for another thread (a store is one
 *            connection and costs little).
 *
 * Failure    Every function fills the error when there is one.  Reads never block on writers.
 */
#ifndef POSTERN_STORE_STORE_H
#define POSTERN_STORE_STORE_H

#include "postern/policy/facts.h"
#include "postern/policy/model.h"
#include "postern/store/backend.h"
#include "postern/store/rows.h"

struct pst_store; /* opaque */

/* A missing database is PST_E_ABSENT (but for PST_STORE_CREATE); a schema that is older or newer
 * than this program's is PST_E_INVALID (but for PST_STORE_ANY, and an older one for CREATE). */
PST_MUST_USE enum pst_status pst_store_open(struct pst_bytes url, enum pst_store_mode mode,
                                            struct pst_store **out, struct pst_error *error);
/* Accepts NULL. A change that was begun is rolled back. */
void pst_store_close(struct pst_store *store);
/* "sqlite" or "postgresql" */
const char *pst_store_backend(const struct pst_store *store);

/* Brings the schema to the program's version; *steps tells how many migrations were needed. */
PST_MUST_USE enum pst_status pst_store_migrate(struct pst_store *store, uint32_t *steps,
                                               struct pst_error *error);

struct pst_store_status {
    uint32_t schema, schema_newest; /* of the database, of this program */
    uint32_t max_staleness_s;
    struct pst_revision revision;
    uint64_t log_oldest; /* n of the oldest row kept; 0: the log is empty */
    uint64_t workspaces, users, roles, permissions, bindings;
};
PST_MUST_USE enum pst_status pst_store_status(struct pst_store *store, struct pst_store_status *out,
                                              struct pst_error *error);

/* Statements that are not answered at this instant of the boot clock fail (PST_E_IO), and the store
 * is to be closed then; 0: the usual patience. Nothing for SQLite, which answers by itself. */
void pst_store_set_deadline(struct pst_store *store, uint64_t at_ns);
/* Instead of a deadline: those for whose answer nothing comes for so long fail. */
void pst_store_set_patience(struct pst_store *store, uint64_t silence_ns);

/* The revision that reads show now. */
PST_MUST_USE enum pst_status pst_store_revision(struct pst_store *store, struct pst_revision *out,
                                                struct pst_error *error);

/* The key of the fleet: who knows it is one of its nodes. 32 bytes. */
#define PST_FLEET_KEY_BYTES 32
PST_MUST_USE enum pst_status pst_store_fleet_key(struct pst_store *store,
                                                 uint8_t out[PST_FLEET_KEY_BYTES],
                                                 struct pst_error *error);

/* After a restore from a backup: draws a new epoch, so that nobody takes the log that grows from
 * here for the one it has read, and counts it. *out is the revision then. */
PST_MUST_USE enum pst_status pst_store_restored(struct pst_store *store, struct pst_revision *out,
                                                struct pst_error *error);

/* Deletes the oldest rows of the change log beyond `keep_rows`, at least 1. A reader that is behind
 * the oldest row reloads everything. */
PST_MUST_USE enum pst_status pst_store_retain(struct pst_store *store, uint64_t keep_rows,
                                              struct pst_error *error);

/* The database's integrity, foreign keys, guards, and that the log is gapless and closed.
 * PST_E_INVALID with the first thing found. */
PST_MUST_USE enum pst_status pst_store_check(struct pst_store *store, struct pst_error *error);

/* Several reads of one moment: between the two every read shows the same revision. end accepts a
 * store without a view. */
PST_MUST_USE enum pst_status pst_store_view(struct pst_store *store, struct pst_error *error);
void pst_store_view_end(struct pst_store *store);

/* All workspaces, roles and permissions, read in one view. *out is to be given to
 * pst_store_free_model, which accepts NULL. */
PST_MUST_USE enum pst_status pst_store_load_model(struct pst_store *store, struct pst_model **out,
                                                  struct pst_revision *revision,
                                                  struct pst_error *error);
void pst_store_free_model(struct pst_model *model);
/* The roles of `ids` as they are now, with their permissions and, if asked for, all workspaces:
 * what a change of these roles needs. An id that is not in it names no role any more. */
#define PST_LOAD_ROLES_MAX 1000
PST_MUST_USE enum pst_status pst_store_load_roles(struct pst_store *store, const uint32_t *ids,
                                                  size_t count, bool workspaces,
                                                  struct pst_model **out,
                                                  struct pst_revision *revision,
                                                  struct pst_error *error);

/* Whom to look up. */
enum pst_who_kind {
    PST_WHO_SUBJECT, /* issuer and subject */
    PST_WHO_NAME,    /* value: user name */
    PST_WHO_EMAIL,   /* value: e-mail address; nobody when several users have it */
    PST_WHO_ID,
};

struct pst_who {
    enum pst_who_kind kind;
    struct pst_bytes issuer;
    struct pst_bytes value;
    uint64_t id;
};

/* One statement, so user, bindings and revision are of one moment. An unknown user is PST_OK with
 * user_id 0. *out is one allocation, to be given to pst_facts_free. */
PST_MUST_USE enum pst_status pst_store_load_facts(struct pst_store *store,
                                                  const struct pst_who *who, struct pst_facts **out,
                                                  struct pst_revision *revision,
                                                  struct pst_error *error);
/* Several users in one round trip. Each question has its own answer; returned is PST_E_IO when the
 * connection failed. */
struct pst_facts_question {
    const struct pst_who *who;
    enum pst_status status;       /* out */
    struct pst_facts *facts;      /* out: as by pst_store_load_facts, NULL unless PST_OK */
    struct pst_revision revision; /* out */
};
#define PST_FACTS_QUESTIONS_MAX 64
PST_MUST_USE enum pst_status pst_store_load_many_facts(struct pst_store *store,
                                                       struct pst_facts_question *questions,
                                                       unsigned count, struct pst_error *error);
/* Accepts NULL. */
void pst_facts_free(struct pst_facts *facts);

#endif
