-- 0004: what the database's clock does takes away no row of a node that lives, and keeps no place for one that is dead;
-- and a permission is what it was when it was made.
--
-- A program of schema 1 to 3 goes on: its functions stay, and it never changed a permission.

-- Rows that a process of the same name has left behind are taken away by who has seen for two minutes of his own that
-- they do not change (node_forget): a clock that jumps ahead would make silent ones of all.
CREATE OR REPLACE FUNCTION node_register(node text, version text, epoch text, applied bigint, lease_age_ms bigint,
                                         bound_ms bigint, exempt bigint, draining integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO public.nodes (node, version, started, reported, epoch, applied, lease_age_ms, bound_ms,
                              exempt, draining)
        SELECT $1, $2, c.now_ms, c.now_ms, $3, $4, $5, $6, $7, $8 FROM public.clock c
        ON CONFLICT (node) DO UPDATE SET version = excluded.version, started = excluded.started,
            reported = excluded.reported, epoch = excluded.epoch, applied = excluded.applied,
            lease_age_ms = excluded.lease_age_ms, bound_ms = excluded.bound_ms,
            exempt = excluded.exempt, draining = excluded.draining
        RETURNING 1
$$;
CREATE OR REPLACE FUNCTION node_register(node text, version text, epoch text, applied bigint, lease_age_ms bigint,
                                         bound_ms bigint, exempt bigint, exempt_routes text, draining integer)
RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO public.nodes (node, version, started, reported, epoch, applied, lease_age_ms, bound_ms,
                              exempt, exempt_routes, draining)
        SELECT $1, $2, c.now_ms, c.now_ms, $3, $4, $5,
            CASE $6 WHEN 0 THEN (SELECT m.max_staleness_s * 1000 FROM public.meta m) ELSE $6 END, $7, $8, $9
            FROM public.clock c
        ON CONFLICT (node) DO UPDATE SET version = excluded.version, started = excluded.started,
            reported = excluded.reported, epoch = excluded.epoch, applied = excluded.applied,
            lease_age_ms = excluded.lease_age_ms, bound_ms = excluded.bound_ms,
            exempt = excluded.exempt, exempt_routes = excluded.exempt_routes,
            draining = excluded.draining
        RETURNING 1
$$;
-- NULL: it is gone, or has said something since.
CREATE FUNCTION node_forget(node text, reported bigint) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM public.nodes n WHERE n.node = $1 AND n.reported = $2 RETURNING 1
$$;
-- Nobody takes the place for longer than ttl_ms: who has it until later took it before the clock was set back.
CREATE OR REPLACE FUNCTION publisher_claim(node text, ttl_ms bigint) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH won AS (
        UPDATE public.publisher p SET node = $1, until = c.now_ms + $2 FROM public.clock c
            WHERE p.id = 1 AND (p.node = $1 OR p.until < c.now_ms OR p.until > c.now_ms + $2) RETURNING 1)
    SELECT count(*)::integer FROM won
$$;
REVOKE ALL ON FUNCTION node_forget(text, bigint) FROM PUBLIC;

-- A node that knows the row of an id does not read it again: of a role that changed it compares the ids, and reads the
-- rows that it does not know.  Who wants another row deletes the one and inserts the other.  Ids are never used twice (0001).
CREATE TRIGGER permissions_stay BEFORE UPDATE ON permissions
    EXECUTE FUNCTION refuse('a row does not change: delete it, and insert another');
ALTER TABLE permissions ENABLE ALWAYS TRIGGER permissions_stay;

UPDATE meta SET schema_version = 4;
