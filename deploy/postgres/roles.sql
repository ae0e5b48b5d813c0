-- The roles of Postern, by what they may do. Run as a superuser, in the database of Postern; again does no harm.
--     psql -v ON_ERROR_STOP=1 -d postern -f roles.sql
-- They have no passwords here: set them (\password), or let them in by certificate.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['postern_migrate', 'postern_manage', 'postern_data'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', name);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), name);
    END LOOP;
    -- TEMPORARY: a temporary table would stand before ours for statements that name no schema.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
END $$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO postern_migrate;
GRANT USAGE ON SCHEMA public TO postern_manage, postern_data;

-- No one waits longer for a lock than an emergency revocation can wait, and nobody keeps one by forgetting.
-- (A node sets none of this itself: through pgbouncer it would set it for others.)
ALTER ROLE postern_migrate SET lock_timeout = '8s';
ALTER ROLE postern_migrate SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE postern_manage SET lock_timeout = '2s';
ALTER ROLE postern_manage SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE postern_manage SET statement_timeout = '60s';
ALTER ROLE postern_data SET lock_timeout = '1s';
ALTER ROLE postern_data SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE postern_data SET statement_timeout = '30s';
