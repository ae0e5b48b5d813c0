-- 0003: nodes name the routes that B does not bind, a line each.
--
-- A program of schema 1 or 2 goes on: it does not know the column, writes an empty one, and calls
-- the functions of before, which stay.

-- Without a rewrite: the default is a constant.
ALTER TABLE nodes ADD COLUMN exempt_routes text NOT NULL DEFAULT '';

-- bound_ms 0: the node does not know B yet, and will use no longer one than there is now.
CREATE FUNCTION node_register(node text, version text, epoch text, applied bigint, lease_age_ms bigint,
                              bound_ms bigint, exempt bigint, exempt_routes text, draining integer)
RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM public.nodes n WHERE n.node <> $1 AND length(n.node) = length($1)
        AND left(n.node, -9) = left($1, -9) AND n.reported < (SELECT c.now_ms FROM public.clock c) - 120000;
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
-- NULL: there is no such node.
CREATE FUNCTION node_report(epoch text, applied bigint, lease_age_ms bigint, bound_ms bigint,
                            exempt bigint, exempt_routes text, draining integer, node text)
RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE public.nodes n SET reported = (SELECT c.now_ms FROM public.clock c), epoch = $1, applied = $2,
        lease_age_ms = $3, bound_ms = $4, exempt = $5, exempt_routes = $6, draining = $7
        WHERE n.node = $8 RETURNING 1
$$;
REVOKE ALL ON FUNCTION node_register(text, text, text, bigint, bigint, bigint, bigint, text, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION node_report(text, bigint, bigint, bigint, bigint, text, integer, text) FROM PUBLIC;

UPDATE meta SET schema_version = 3;
