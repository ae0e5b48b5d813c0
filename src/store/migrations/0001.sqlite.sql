-- 0001: workspaces, users, roles, permissions, bindings, and the log that numbers their changes.
--
-- A change is one transaction:
--   1. UPDATE log_head SET n = n + 1, open = 1        takes the write lock and the number
--   2. INSERT INTO change_log (n, stamp, at, actor)   the row of that number, its keys still NULL
--   3. policy rows
--   4. UPDATE change_log SET keys = ...; UPDATE log_head SET open = 0
-- SQLite has no transaction id that a trigger could see, so `open` says that the running transaction
-- has numbered itself.  It cannot outlive the transaction: it is a deferred reference to log_closed,
-- which holds nothing but 0, so a COMMIT with open = 1 fails; and it goes back to 0 only when the log
-- row of that number is complete.  Deferred references are checked only under PRAGMA foreign_keys, so
-- step 1 refuses a connection that has it off (the pragma cannot change inside a transaction).

CREATE TABLE meta (
    id                   INTEGER PRIMARY KEY CHECK (id = 1),
    schema_version       INTEGER NOT NULL,
    schema_oldest_reader INTEGER NOT NULL,
    epoch                TEXT NOT NULL CHECK (length(epoch) = 16),
    max_staleness_s      INTEGER NOT NULL DEFAULT 5 CHECK (max_staleness_s BETWEEN 1 AND 60)
) STRICT;
INSERT INTO meta (id, schema_version, schema_oldest_reader, epoch)
    VALUES (1, 1, 1, lower(hex(randomblob(8))));

CREATE TABLE log_closed (value INTEGER PRIMARY KEY CHECK (value = 0)) STRICT;
INSERT INTO log_closed (value) VALUES (0);

CREATE TABLE log_head (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    n    INTEGER NOT NULL,
    open INTEGER NOT NULL DEFAULT 0 CHECK (open IN (0, 1))
         REFERENCES log_closed (value) DEFERRABLE INITIALLY DEFERRED
) STRICT;
INSERT INTO log_head (id, n) VALUES (1, 0);

CREATE TABLE change_log (
    n     INTEGER PRIMARY KEY,
    stamp TEXT NOT NULL CHECK (length(stamp) = 32),
    at    INTEGER NOT NULL,
    actor TEXT NOT NULL,
    keys  TEXT
) STRICT;

CREATE TABLE audit (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    time   INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

-- Ids are never used twice (AUTOINCREMENT): a fact read before a deletion must not name a new row.
CREATE TABLE organizations (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE CHECK (name <> '')
) STRICT;
INSERT INTO organizations (id, name) VALUES (1, 'default');

CREATE TABLE workspaces (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 63
                    AND name NOT GLOB '*[^a-z0-9-]*' AND name NOT GLOB '-*' AND name NOT GLOB '*-'),
    kind            TEXT NOT NULL CHECK (kind IN ('default', 'project', 'environment')),
    organization_id INTEGER NOT NULL REFERENCES organizations (id)
) STRICT;

CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT NOT NULL UNIQUE CHECK (name <> ''),
    email         TEXT NOT NULL DEFAULT '',
    disabled      INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    legacy_level  INTEGER NOT NULL DEFAULT 0 CHECK (legacy_level BETWEEN 0 AND 4294967295),
    sessions_from INTEGER NOT NULL DEFAULT 0 CHECK (sessions_from >= 0)
) STRICT;
CREATE INDEX users_email ON users (email) WHERE email <> '';

CREATE TABLE identities (
    issuer  TEXT NOT NULL CHECK (issuer <> ''),
    subject TEXT NOT NULL CHECK (subject <> ''),
    user_id INTEGER NOT NULL REFERENCES users (id),
    PRIMARY KEY (issuer, subject)
) STRICT;
CREATE INDEX identities_user ON identities (user_id);

CREATE TABLE roles (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT NOT NULL CHECK (name <> ''),
    workspace_id INTEGER REFERENCES workspaces (id),
    builtin      INTEGER NOT NULL DEFAULT 0 CHECK (builtin IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX roles_global ON roles (name) WHERE workspace_id IS NULL;
CREATE UNIQUE INDEX roles_workspace ON roles (workspace_id, name) WHERE workspace_id IS NOT NULL;

CREATE TABLE permissions (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    role_id          INTEGER NOT NULL REFERENCES roles (id),
    direct           INTEGER NOT NULL DEFAULT 0 CHECK (direct IN (0, 1)),
    scope            TEXT NOT NULL DEFAULT 'global' CHECK (scope IN ('global', 'project', 'pipeline')),
    entity           TEXT NOT NULL DEFAULT '',
    entity_id        TEXT,
    entity_type      TEXT NOT NULL DEFAULT '',
    access           INTEGER CHECK (access >= 0),
    conditions       TEXT,
    query_attributes TEXT,
    read_attributes  TEXT,
    write_attributes TEXT
) STRICT;
CREATE INDEX permissions_role ON permissions (role_id);

CREATE TABLE bindings (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id      INTEGER NOT NULL REFERENCES users (id),
    role_id      INTEGER NOT NULL REFERENCES roles (id),
    workspace_id INTEGER REFERENCES workspaces (id)
) STRICT;
CREATE UNIQUE INDEX bindings_everywhere ON bindings (user_id, role_id) WHERE workspace_id IS NULL;
CREATE UNIQUE INDEX bindings_workspace ON bindings (user_id, role_id, workspace_id)
    WHERE workspace_id IS NOT NULL;
CREATE INDEX bindings_user ON bindings (user_id, role_id, workspace_id);
CREATE INDEX bindings_role ON bindings (role_id);
CREATE INDEX bindings_of_workspace ON bindings (workspace_id) WHERE workspace_id IS NOT NULL;

-- The log.
CREATE TRIGGER log_head_update BEFORE UPDATE ON log_head WHEN NOT (
    (OLD.open = 0 AND NEW.open = 1 AND NEW.n = OLD.n + 1
     AND (SELECT foreign_keys FROM pragma_foreign_keys) = 1)
    OR (OLD.open = 1 AND NEW.open = 0 AND NEW.n = OLD.n
        AND EXISTS (SELECT 1 FROM change_log WHERE n = OLD.n AND keys IS NOT NULL)))
BEGIN SELECT RAISE(ABORT, 'log_head: a change is numbered once, and closed with its log row'); END;
CREATE TRIGGER log_head_insert BEFORE INSERT ON log_head
BEGIN SELECT RAISE(ABORT, 'log_head: there is one row'); END;
CREATE TRIGGER log_head_delete BEFORE DELETE ON log_head
BEGIN SELECT RAISE(ABORT, 'log_head: there is one row'); END;
CREATE TRIGGER log_closed_insert BEFORE INSERT ON log_closed
BEGIN SELECT RAISE(ABORT, 'log_closed never changes'); END;
CREATE TRIGGER log_closed_update BEFORE UPDATE ON log_closed
BEGIN SELECT RAISE(ABORT, 'log_closed never changes'); END;
CREATE TRIGGER log_closed_delete BEFORE DELETE ON log_closed
BEGIN SELECT RAISE(ABORT, 'log_closed never changes'); END;
CREATE TRIGGER change_log_insert BEFORE INSERT ON change_log
WHEN NEW.keys IS NOT NULL OR NOT EXISTS (SELECT 1 FROM log_head WHERE open = 1 AND n = NEW.n)
BEGIN SELECT RAISE(ABORT, 'change_log: a row belongs to the numbered change'); END;
CREATE TRIGGER change_log_update BEFORE UPDATE ON change_log
WHEN OLD.keys IS NOT NULL OR NEW.n <> OLD.n OR NEW.stamp <> OLD.stamp
    OR NOT EXISTS (SELECT 1 FROM log_head WHERE open = 1 AND n = OLD.n)
BEGIN SELECT RAISE(ABORT, 'change_log: what was committed stays'); END;
-- Retention may cut from the old end; the head stays.
CREATE TRIGGER change_log_delete BEFORE DELETE ON change_log
WHEN OLD.n >= (SELECT n FROM log_head) OR EXISTS (SELECT 1 FROM change_log WHERE n < OLD.n)
BEGIN SELECT RAISE(ABORT, 'change_log: only the oldest row may go'); END;
CREATE TRIGGER audit_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit: rows are only added'); END;
CREATE TRIGGER audit_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit: rows are only added'); END;
-- B is policy too: a node learns it with the log.
CREATE TRIGGER meta_update BEFORE UPDATE OF max_staleness_s ON meta
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;

-- Policy: whoever writes, only in a numbered change.
CREATE TRIGGER organizations_insert BEFORE INSERT ON organizations
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER organizations_update BEFORE UPDATE ON organizations
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER organizations_delete BEFORE DELETE ON organizations
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER workspaces_insert BEFORE INSERT ON workspaces
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER workspaces_update BEFORE UPDATE ON workspaces
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER workspaces_delete BEFORE DELETE ON workspaces
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER users_insert BEFORE INSERT ON users
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER users_update BEFORE UPDATE ON users
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER users_delete BEFORE DELETE ON users
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER identities_insert BEFORE INSERT ON identities
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER identities_update BEFORE UPDATE ON identities
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER identities_delete BEFORE DELETE ON identities
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER roles_insert BEFORE INSERT ON roles
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER roles_update BEFORE UPDATE ON roles
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER roles_delete BEFORE DELETE ON roles
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER permissions_insert BEFORE INSERT ON permissions
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER permissions_update BEFORE UPDATE ON permissions
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER permissions_delete BEFORE DELETE ON permissions
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER bindings_insert BEFORE INSERT ON bindings
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER bindings_update BEFORE UPDATE ON bindings
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
CREATE TRIGGER bindings_delete BEFORE DELETE ON bindings
WHEN NOT EXISTS (SELECT 1 FROM log_head h JOIN change_log c ON c.n = h.n WHERE h.open = 1)
BEGIN SELECT RAISE(ABORT, 'policy changes only in a change that has its log row'); END;
