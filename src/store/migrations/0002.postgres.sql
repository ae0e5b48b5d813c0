-- 0002: the state that a log read proves itself with, and what nodes tell of themselves.
--
-- A program of schema 1 goes on reading: nothing that it knows has changed.  Only new objects are
-- made, so nobody waits for a lock.

-- key: with it nodes tell each other revisions that nobody else can make up. restores: how often
-- this history was replaced by an older one (postern db restored).
CREATE TABLE fleet (
    id       integer PRIMARY KEY CHECK (id = 1),
    key      text NOT NULL CHECK (key ~ '^[0-9a-f]{64}$'),
    restores integer NOT NULL DEFAULT 0
);
INSERT INTO fleet (id, key) VALUES (1, encode(sha256(convert_to(
    gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), 'hex'));

-- The ids tell the planner that there is one row: without statistics it takes the product for 10^10
-- rows and compiles a plan (JIT) that costs 100 ms.
-- The timeline is that of the WAL being written: right after a promotion pg_control_checkpoint()
-- still tells the old one.  A replica writes none.  All of these are functions of the server that
-- read no table, so the view shows one snapshot.
CREATE VIEW state (n, epoch, max_staleness_s, schema_version, schema_oldest_reader, recovery, timeline,
                   fleet_key, restores) AS
SELECT h.n, m.epoch, m.max_staleness_s, m.schema_version, m.schema_oldest_reader,
       CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END,
       CASE WHEN pg_is_in_recovery() THEN 0
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint END,
       f.key, f.restores
    FROM public.log_head h CROSS JOIN public.meta m CROSS JOIN public.fleet f
    WHERE h.id = 1 AND m.id = 1 AND f.id = 1;

-- Times are milliseconds of this database's clock; `exempt` counts routes that B does not bind.
CREATE TABLE nodes (
    node         text COLLATE "C" PRIMARY KEY CHECK (node <> ''),
    version      text NOT NULL,
    started      bigint NOT NULL,
    reported     bigint NOT NULL,
    epoch        text NOT NULL CHECK (epoch ~ '^[0-9a-f]{16}$'),
    applied      bigint NOT NULL,
    lease_age_ms bigint NOT NULL,
    bound_ms     bigint NOT NULL,
    exempt       bigint NOT NULL,
    draining     integer NOT NULL CHECK (draining IN (0, 1))
);

-- Who sends heartbeats, until when.
CREATE TABLE publisher (
    id    integer PRIMARY KEY CHECK (id = 1),
    node  text NOT NULL,
    until bigint NOT NULL
);
INSERT INTO publisher (id, node, until) VALUES (1, '', 0);

CREATE VIEW clock (now_ms) AS SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- The data plane may read and call these, and write nothing else.  They run as their owner; all
-- they name has its schema, and their search_path holds no place where others make objects.
CREATE FUNCTION node_register(node text, version text, epoch text, applied bigint, lease_age_ms bigint,
                              bound_ms bigint, exempt bigint, draining integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM public.nodes n WHERE n.node <> $1 AND length(n.node) = length($1)
        AND left(n.node, -9) = left($1, -9) AND n.reported < (SELECT c.now_ms FROM public.clock c) - 120000;
    INSERT INTO public.nodes (node, version, started, reported, epoch, applied, lease_age_ms, bound_ms,
                              exempt, draining)
        SELECT $1, $2, c.now_ms, c.now_ms, $3, $4, $5, $6, $7, $8 FROM public.clock c
        ON CONFLICT (node) DO UPDATE SET version = excluded.version, started = excluded.started,
            reported = excluded.reported, epoch = excluded.epoch, applied = excluded.applied,
            lease_age_ms = excluded.lease_age_ms, bound_ms = excluded.bound_ms,
            exempt = excluded.exempt, draining = excluded.draining
        RETURNING 1
$$;
-- NULL: there is no such node.
CREATE FUNCTION node_report(epoch text, applied bigint, lease_age_ms bigint, bound_ms bigint,
                            exempt bigint, draining integer, node text) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE public.nodes n SET reported = (SELECT c.now_ms FROM public.clock c), epoch = $1, applied = $2,
        lease_age_ms = $3, bound_ms = $4, exempt = $5, draining = $6
        WHERE n.node = $7 RETURNING 1
$$;
CREATE FUNCTION node_unregister(node text) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM public.nodes n WHERE n.node = $1 RETURNING 1
$$;
-- 1: the caller is the publisher for the next ttl_ms. Who is not writes nothing.
CREATE FUNCTION publisher_claim(node text, ttl_ms bigint) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH won AS (
        UPDATE public.publisher p SET node = $1, until = c.now_ms + $2 FROM public.clock c
            WHERE p.id = 1 AND (p.node = $1 OR p.until < c.now_ms) RETURNING 1)
    SELECT count(*)::integer FROM won
$$;
REVOKE ALL ON FUNCTION node_register(text, text, text, bigint, bigint, bigint, bigint, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION node_report(text, bigint, bigint, bigint, bigint, integer, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION node_unregister(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION publisher_claim(text, bigint) FROM PUBLIC;

UPDATE meta SET schema_version = 2;
