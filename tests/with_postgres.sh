#!/bin/sh
# with_postgres.sh PROGRAM [ARGUMENT ...] - runs a test that needs PostgreSQL with one at hand, and pgbouncer before it.
exec python3 "$(dirname "$0")/lib/postgres.py" "$@"
