-- 0001: workspaces, users, roles, permissions, bindings, and the log that numbers their changes.
--
-- A change is one transaction:
--   1. UPDATE log_head SET n = n + 1, open = 1        takes the one row lock, and with it the number
--   2. INSERT INTO change_log (n, stamp, at, actor)   the row of that number, its keys still NULL
--   3. policy rows
--   4. UPDATE change_log SET keys = ...; UPDATE log_head SET open = 0
-- log_head keeps the id of the transaction that numbered itself: a policy table is written only while
-- that is the running one and its log row is there.  A commit with the log open, or with a row without
-- keys, is refused by constraint triggers at its very end.
--
-- All triggers are ENABLE ALWAYS, or session_replication_role = replica would pass them by.  Guards of
-- policy tables run once a statement: per row they would cost 50 us.  Functions name everything with
-- its schema, so that nobody's search_path leads them elsewhere.
--
-- Everything is in `public`, alone in its database: the statements are those of SQLite and name no
-- schema, and a search_path of their own would be session state, which pgbouncer hands to others.
-- Names sort by bytes (COLLATE "C") whatever the database's locale is, as they do in SQLite.

CREATE TABLE meta (
    id                   integer PRIMARY KEY CHECK (id = 1),
    schema_version       integer NOT NULL,
    schema_oldest_reader integer NOT NULL,
    epoch                text NOT NULL CHECK (epoch ~ '^[0-9a-f]{16}$'),
    max_staleness_s      integer NOT NULL DEFAULT 5 CHECK (max_staleness_s BETWEEN 1 AND 60)
);
-- A version 4 UUID has 122 bits from the server's strong generator; the digest spreads them.
INSERT INTO meta (id, schema_version, schema_oldest_reader, epoch)
    VALUES (1, 1, 1, left(encode(sha256(convert_to(gen_random_uuid()::text, 'UTF8')), 'hex'), 16));

CREATE TABLE log_head (
    id   integer PRIMARY KEY CHECK (id = 1),
    n    bigint NOT NULL,
    open integer NOT NULL DEFAULT 0 CHECK (open IN (0, 1)),
    xid  xid8
);
INSERT INTO log_head (id, n) VALUES (1, 0);

CREATE TABLE change_log (
    n     bigint PRIMARY KEY,
    stamp text NOT NULL CHECK (length(stamp) = 32),
    at    bigint NOT NULL,
    actor text NOT NULL,
    keys  text
);

CREATE TABLE audit (
    seq    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time   bigint NOT NULL,
    actor  text NOT NULL,
    action text NOT NULL,
    detail text NOT NULL
);

-- Ids are never used twice (identity): a fact read before a deletion must not name a new row.
CREATE TABLE organizations (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE CHECK (name <> '')
);
INSERT INTO organizations (name) VALUES ('default');

CREATE TABLE workspaces (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (id BETWEEN 1 AND 4294967295),
    name            text COLLATE "C" NOT NULL UNIQUE
                    CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    kind            text NOT NULL CHECK (kind IN ('default', 'project', 'environment')),
    organization_id bigint NOT NULL REFERENCES organizations (id)
);

CREATE TABLE users (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text COLLATE "C" NOT NULL UNIQUE CHECK (name <> ''),
    email         text COLLATE "C" NOT NULL DEFAULT '',
    disabled      integer NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    legacy_level  bigint NOT NULL DEFAULT 0 CHECK (legacy_level BETWEEN 0 AND 4294967295),
    sessions_from bigint NOT NULL DEFAULT 0 CHECK (sessions_from >= 0)
);
CREATE INDEX users_email ON users (email) WHERE email <> '';

CREATE TABLE identities (
    issuer  text COLLATE "C" NOT NULL CHECK (issuer <> ''),
    subject text COLLATE "C" NOT NULL CHECK (subject <> ''),
    user_id bigint NOT NULL REFERENCES users (id),
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_user ON identities (user_id);

CREATE TABLE roles (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (id BETWEEN 1 AND 4294967295),
    name         text COLLATE "C" NOT NULL CHECK (name <> ''),
    workspace_id bigint REFERENCES workspaces (id),
    builtin      integer NOT NULL DEFAULT 0 CHECK (builtin IN (0, 1))
);
CREATE UNIQUE INDEX roles_global ON roles (name) WHERE workspace_id IS NULL;
CREATE UNIQUE INDEX roles_workspace ON roles (workspace_id, name) WHERE workspace_id IS NOT NULL;

CREATE TABLE permissions (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (id BETWEEN 1 AND 4294967295),
    role_id          bigint NOT NULL REFERENCES roles (id),
    direct           integer NOT NULL DEFAULT 0 CHECK (direct IN (0, 1)),
    scope            text NOT NULL DEFAULT 'global' CHECK (scope IN ('global', 'project', 'pipeline')),
    entity           text NOT NULL DEFAULT '',
    entity_id        text,
    entity_type      text NOT NULL DEFAULT '',
    access           bigint CHECK (access >= 0),
    conditions       text,
    query_attributes text,
    read_attributes  text,
    write_attributes text
);
CREATE INDEX permissions_role ON permissions (role_id, id);

CREATE TABLE bindings (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id      bigint NOT NULL REFERENCES users (id),
    role_id      bigint NOT NULL REFERENCES roles (id),
    workspace_id bigint REFERENCES workspaces (id)
);
CREATE UNIQUE INDEX bindings_everywhere ON bindings (user_id, role_id) WHERE workspace_id IS NULL;
CREATE UNIQUE INDEX bindings_workspace ON bindings (user_id, role_id, workspace_id)
    WHERE workspace_id IS NOT NULL;
CREATE INDEX bindings_user ON bindings (user_id, role_id, workspace_id);
CREATE INDEX bindings_role ON bindings (role_id);
CREATE INDEX bindings_of_workspace ON bindings (workspace_id) WHERE workspace_id IS NOT NULL;

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: %', TG_TABLE_NAME, TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- The log.
CREATE FUNCTION log_head_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.open = 0 AND NEW.open = 1 AND NEW.n = OLD.n + 1 THEN
        NEW.xid := pg_current_xact_id();
        RETURN NEW;
    END IF;
    IF OLD.open = 1 AND NEW.open = 0 AND NEW.n = OLD.n AND NEW.xid = OLD.xid
       AND EXISTS (SELECT FROM public.change_log c WHERE c.n = OLD.n AND c.keys IS NOT NULL) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'log_head: a change is numbered once, and closed with its log row'
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER log_head_update BEFORE UPDATE ON log_head FOR EACH ROW EXECUTE FUNCTION log_head_step();
CREATE TRIGGER log_head_rows BEFORE INSERT OR DELETE OR TRUNCATE ON log_head
    EXECUTE FUNCTION refuse('there is one row');

CREATE FUNCTION log_head_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.log_head WHERE open <> 0) THEN
        RAISE EXCEPTION 'log_head: a change is closed before it is committed'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER log_head_commit AFTER UPDATE ON log_head DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION log_head_closed();

CREATE FUNCTION change_log_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.keys IS NULL AND EXISTS (SELECT FROM public.log_head h WHERE h.open = 1 AND h.n = NEW.n
                                        AND h.xid = pg_current_xact_id_if_assigned()) THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'change_log: a row belongs to the numbered change'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF OLD.keys IS NULL AND NEW.n = OLD.n AND NEW.stamp = OLD.stamp
       AND EXISTS (SELECT FROM public.log_head h WHERE h.open = 1 AND h.n = OLD.n
                   AND h.xid = pg_current_xact_id_if_assigned()) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'change_log: what was committed stays' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER change_log_write BEFORE INSERT OR UPDATE ON change_log
    FOR EACH ROW EXECUTE FUNCTION change_log_step();

CREATE FUNCTION change_log_complete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.change_log c WHERE c.n = NEW.n AND c.keys IS NULL) THEN
        RAISE EXCEPTION 'change_log: a row has its keys before it is committed'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER change_log_commit AFTER INSERT ON change_log DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION change_log_complete();

-- Retention may cut from the old end; the head stays.
CREATE FUNCTION change_log_cut() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM gone HAVING max(n) >= (SELECT h.n FROM public.log_head h)
               OR EXISTS (SELECT FROM public.change_log c WHERE c.n < max(gone.n))) THEN
        RAISE EXCEPTION 'change_log: only the oldest rows may go'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER change_log_delete AFTER DELETE ON change_log REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION change_log_cut();
CREATE TRIGGER change_log_truncate BEFORE TRUNCATE ON change_log
    EXECUTE FUNCTION refuse('only the oldest rows may go');
CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    EXECUTE FUNCTION refuse('rows are only added');
CREATE TRIGGER meta_rows BEFORE INSERT OR DELETE OR TRUNCATE ON meta
    EXECUTE FUNCTION refuse('there is one row');

-- Policy: whoever writes, only in a numbered change.
CREATE FUNCTION in_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public.log_head h JOIN public.change_log c ON c.n = h.n
                   WHERE h.open = 1 AND h.xid = pg_current_xact_id_if_assigned()) THEN
        RAISE EXCEPTION '%: policy changes only in a change that has its log row', TG_TABLE_NAME
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
-- B is policy too: a node learns it with the log.
CREATE TRIGGER meta_policy BEFORE UPDATE OF max_staleness_s ON meta EXECUTE FUNCTION in_change();
CREATE TRIGGER organizations_policy BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON organizations
    EXECUTE FUNCTION in_change();
CREATE TRIGGER workspaces_policy BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON workspaces
    EXECUTE FUNCTION in_change();
CREATE TRIGGER users_policy BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON users
    EXECUTE FUNCTION in_change();
CREATE TRIGGER identities_policy BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON identities
    EXECUTE FUNCTION in_change();
CREATE TRIGGER roles_policy BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON roles
    EXECUTE FUNCTION in_change();
CREATE TRIGGER permissions_policy BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON permissions
    EXECUTE FUNCTION in_change();
CREATE TRIGGER bindings_policy BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON bindings
    EXECUTE FUNCTION in_change();

DO $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger
             WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM pg_class
                                                    WHERE relnamespace = 'public'::regnamespace) LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.relation, t.tgname);
    END LOOP;
END $$;
