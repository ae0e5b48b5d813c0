/*
 * local.h - one engine without doors: decisions on the command line, by the code that serves.
 *
 * Threads  One; the engine's worker runs turn by turn inside pst_local_decide.
 */
#ifndef POSTERN_APP_LOCAL_H
#define POSTERN_APP_LOCAL_H

#include "postern/app/config.h"
#include "postern/authz/engine.h"
#include "postern/store/store.h"

struct pst_local;

PST_MUST_USE enum pst_status pst_local_open(const struct pst_config *config,
                                            struct pst_bytes store_url, struct pst_local **out,
                                            struct pst_error *error);
void pst_local_close(struct pst_local *local); /* accepts NULL */

/* Takes what changed in the store since. */
PST_MUST_USE enum pst_status pst_local_poll(struct pst_local *local, struct pst_error *error);
/* From now on nothing was ever proved (tests of C3). */
void pst_local_lose_lease(struct pst_local *local);

/* who NULL: by the request's own credential. The decision stands until pst_engine_end(decide). */
void pst_local_decide(struct pst_local *local, uint32_t listener, const struct pst_request *request,
                      const struct pst_who *who, struct pst_arena *arena,
                      struct pst_decide *decide);

#endif
