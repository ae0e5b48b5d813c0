/*
 * control.h - the composition root: builds everything, runs it, takes it apart in mirror order.
 *
 * The only place that knows every layer. It holds no logic of its own: what is decided, forwarded
 * or stored is decided elsewhere.
 *
 * Start   config -> state directory -> log -> schema -> keys and site -> workers (engine, server,
 *         listeners) -> first read of the store -> workers run -> ready.
 * Signals SIGHUP: reopen logs and take the configuration anew (on any error the old one stays);
 *         SIGTERM and SIGINT: drain, then end; a second one ends at once.
 */
#ifndef POSTERN_APP_CONTROL_H
#define POSTERN_APP_CONTROL_H

#include "postern/app/config.h"

/* Runs until a signal ends it. config_path may be NULL. Anything but PST_OK: the start failed, and
 * error says why. */
enum pst_status pst_control_serve(const char *config_path, struct pst_error *error);

#endif
