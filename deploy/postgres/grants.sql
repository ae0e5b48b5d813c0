-- What the roles may do with the tables. Run after each `postern db migrate`, as postern_migrate or a superuser:
--     psql -v ON_ERROR_STOP=1 -d postern -f grants.sql

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, postern_manage, postern_data;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC, postern_manage, postern_data;

-- The data plane reads policy and its log, and calls what reports for a node.
GRANT SELECT ON meta, log_head, change_log, organizations, workspaces, users, identities, roles, permissions,
    bindings, fleet, state, nodes, publisher, clock TO postern_data, postern_manage;
GRANT EXECUTE ON FUNCTION
    node_register(text, text, text, bigint, bigint, bigint, bigint, text, integer),
    node_report(text, bigint, bigint, bigint, bigint, text, integer, text),
    -- of nodes that know schema 2
    node_register(text, text, text, bigint, bigint, bigint, bigint, integer),
    node_report(text, bigint, bigint, bigint, bigint, integer, text),
    node_unregister(text),
    node_forget(text, bigint),
    publisher_claim(text, bigint) TO postern_data, postern_manage;

-- The management plane changes policy, in numbered changes (the triggers see to it), adds audit rows and cuts the
-- log at its old end. It cannot begin a new history: `postern db restored` is for postern_migrate.
GRANT INSERT, UPDATE, DELETE ON organizations, workspaces, users, identities, roles, permissions, bindings
    TO postern_manage;
GRANT UPDATE (n, open) ON log_head TO postern_manage;
GRANT INSERT, DELETE ON change_log TO postern_manage;
GRANT UPDATE (keys) ON change_log TO postern_manage;
GRANT UPDATE (max_staleness_s) ON meta TO postern_manage;
GRANT SELECT, INSERT ON audit TO postern_manage;
