/*
 * The SQL of the store: what SQLite and PostgreSQL both understand.
 *
 *   - Parameters appear in the order of their numbers (backend.h).
 *   - A read that must be of one moment is one statement: `state` (log_head, meta, and whether the
 *     server is a replica and on which timeline) is joined to it.
 *   - A write that must hit a row says RETURNING, and no row means that there was none.
 *   - Where the two have no common words, a second text is PostgreSQL's: lists as a parameter, and
 *     what the data plane may do only through functions that run as their owner.
 */
#include "statements.h"

#define FACTS(user)                                                                                \
    "SELECT s.n, s.epoch, s.timeline, s.recovery,"                                                 \
    " u.id, u.name, u.disabled, u.legacy_level, u.sessions_from, b.id, b.role_id, b.workspace_id"  \
    " FROM state s LEFT JOIN users u ON u.id = " user " LEFT JOIN bindings b ON b.user_id = u.id"
#define FACTS_COLUMNS "itiiitiiiiii"

/* Who was found by an address alone, and is not any more. */
#define SAME_EMAIL                                                                                 \
    "(SELECT min(o.id) FROM users o WHERE o.email = users.email AND o.email <> ''"                 \
    " AND o.id <> users.id HAVING count(*) = 1)"

#define PERMISSION_COLUMNS        "iiitttttittt"
#define PERMISSIONS_BRIEF_COLUMNS "itttttittt"
#define PERMISSIONS                                                                                \
    "SELECT id, role_id, direct, scope, entity, entity_id, entity_type, conditions, access,"       \
    " query_attributes, read_attributes, write_attributes FROM permissions "
/* Brief: turning values into bytes is what the server is busy with when a role is read. Role and
 * id are one number, scope is NULL unless the row is direct, and what most rows have is NULL. */
#define PERMISSIONS_BRIEF                                                                          \
    "SELECT role_id << 32 | id, CASE WHEN direct <> 0 THEN scope END, entity, entity_id,"          \
    " nullif(entity_type, ''), conditions, access, query_attributes, read_attributes,"             \
    " write_attributes FROM permissions "
#define USERS    "SELECT id, name, email, disabled, legacy_level, sessions_from FROM users "
#define ROLES    "SELECT r.id, r.name, r.workspace_id, r.builtin FROM roles r "
#define BINDINGS "SELECT id, user_id, role_id, workspace_id FROM bindings "
#define WORKSPACES                                                                                 \
    "SELECT w.id, w.name, w.kind, o.name FROM workspaces w"                                        \
    " JOIN organizations o ON o.id = w.organization_id "

#define NODE_COLUMNS                                                                               \
    "n.node, n.version, n.started, n.reported, n.epoch, n.applied, n.lease_age_ms, n.bound_ms,"    \
    " n.exempt, n.exempt_routes, n.draining"

#define S(id, name, columns, text)            [PST_SQL_##id] = {name, columns, text, text}
#define S2(id, name, columns, text, postgres) [PST_SQL_##id] = {name, columns, text, postgres}

const struct pst_sql pst_statements[PST_SQL_COUNT] = {
    S(STATE, "state", "itiit", "SELECT n, epoch, timeline, restores, fleet_key FROM state"),
    S(STATUS, "status", "itiiiiiiii",
      "SELECT h.n, m.epoch, m.max_staleness_s, m.schema_version,"
      " (SELECT coalesce(min(n), 0) FROM change_log), (SELECT count(*) FROM workspaces),"
      " (SELECT count(*) FROM users), (SELECT count(*) FROM roles),"
      " (SELECT count(*) FROM permissions), (SELECT count(*) FROM bindings)"
      " FROM log_head h CROSS JOIN meta m WHERE h.id = 1 AND m.id = 1"),
    S(LOG_SHAPE, "log_shape", "iiiiii",
      "SELECT h.n, h.open, (SELECT count(*) FROM change_log),"
      " (SELECT coalesce(min(n), 0) FROM change_log), (SELECT coalesce(max(n), 0) FROM change_log),"
      " (SELECT count(*) FROM change_log WHERE keys IS NULL) FROM log_head h"),
    /* The head by a query of its own: compared with s.n, PostgreSQL reads the whole log. */
    S(LOG_READ, "log_read", "itiiiiittii",
      "SELECT s.n, s.epoch, s.timeline, s.recovery, s.max_staleness_s, s.schema_oldest_reader,"
      " c.n, c.stamp, c.keys, (SELECT coalesce(min(n), 0) FROM change_log),"
      " (SELECT bound_ms FROM nodes WHERE node = $1)"
      " FROM state s LEFT JOIN change_log c"
      " ON c.n BETWEEN $2 AND $3 OR c.n = (SELECT n FROM log_head) ORDER BY c.n"),
    S(LOG_CUT, "log_cut", "", "DELETE FROM change_log WHERE n <= (SELECT n FROM log_head) - $1"),
    S(EPOCH_NEW, "epoch_new", "", "UPDATE meta SET epoch = $1"),
    S(RESTORES_UP, "restores_up", "i",
      "UPDATE fleet SET restores = restores + 1 RETURNING restores"),
    S(BOUND, "bound", "i", "SELECT max_staleness_s FROM meta"),
    S(BOUND_SET, "bound_set", "", "UPDATE meta SET max_staleness_s = $1"),
    S(FACTS_SUBJECT, "facts_subject", FACTS_COLUMNS,
      FACTS("(SELECT user_id FROM identities WHERE issuer = $1 AND subject = $2)")),
    S(FACTS_NAME, "facts_name", FACTS_COLUMNS, FACTS("(SELECT id FROM users WHERE name = $1)")),
    S(FACTS_EMAIL, "facts_email", FACTS_COLUMNS,
      FACTS("(SELECT min(id) FROM users WHERE email = $1 AND email <> '' HAVING count(*) = 1)")),
    S(FACTS_ID, "facts_id", FACTS_COLUMNS, FACTS("$1")),
    S(WORKSPACES, "workspaces", "ittt", WORKSPACES "ORDER BY w.name"),
    S(ROLES, "roles", "itii",
      ROLES
      "LEFT JOIN workspaces w ON w.id = r.workspace_id ORDER BY coalesce(w.name, ''), r.name"),
    S2(ROLES_SOME, "roles_some", "itii",
       ROLES "WHERE r.id IN (SELECT value FROM json_each($1)) ORDER BY r.id",
       ROLES "WHERE r.id = ANY (translate($1, '[]', '{}')::bigint[]) ORDER BY r.id"),
    /* PostgreSQL's COPY takes no parameters. What a transaction set is gone with it: without this,
     * or with one of another transaction, the statement behind it fails. */
    S2(LIST_SET, "list_set", "t", "SELECT $1", "SELECT set_config('postern.list', $1, true)"),
    /* In no order, which spares the server a detour over its index. */
    S2(PERMISSIONS_SOME, "permissions_some", PERMISSIONS_BRIEF_COLUMNS,
       PERMISSIONS_BRIEF "WHERE role_id IN (SELECT value FROM json_each($1))",
       PERMISSIONS_BRIEF
       "WHERE role_id = ANY (translate(current_setting('postern.list'), '[]', '{}')::bigint[])"),
    S2(PERMISSION_IDS, "permission_ids", "it",
       "SELECT role_id, group_concat(id) FROM permissions"
       " WHERE role_id IN (SELECT value FROM json_each($1)) GROUP BY role_id",
       "SELECT role_id, string_agg(id::text, ',') FROM permissions"
       " WHERE role_id = ANY (translate($1, '[]', '{}')::bigint[]) GROUP BY role_id"),
    S2(PERMISSIONS_FRESH, "permissions_fresh", PERMISSIONS_BRIEF_COLUMNS,
       PERMISSIONS_BRIEF "WHERE id IN (SELECT value FROM json_each($1))",
       PERMISSIONS_BRIEF "WHERE id = ANY (translate($1, '[]', '{}')::bigint[])"),
    S(PERMISSIONS, "permissions", PERMISSION_COLUMNS, PERMISSIONS "ORDER BY id"),
    S(PERMISSIONS_OF, "permissions_of", PERMISSION_COLUMNS,
      PERMISSIONS "WHERE role_id = $1 ORDER BY id"),
    S(USERS, "users", "ittiii", USERS "ORDER BY name"),
    S(IDENTITIES, "identities", "tti",
      "SELECT issuer, subject, user_id FROM identities ORDER BY issuer, subject"),
    S(IDENTITIES_OF, "identities_of", "tti",
      "SELECT issuer, subject, user_id FROM identities WHERE user_id = $1 ORDER BY issuer, "
      "subject"),
    S(BINDINGS, "bindings", "iiii", BINDINGS "ORDER BY id"),
    S(BINDINGS_OF, "bindings_of", "iiii", BINDINGS "WHERE user_id = $1 ORDER BY id"),
    S(BINDINGS_NAMED, "bindings_named", "iitttti",
      "SELECT b.id, b.user_id, u.name, r.name, rw.name, w.name,"
      " CASE WHEN r.workspace_id IS NULL AND EXISTS (SELECT 1 FROM roles s WHERE s.name = r.name"
      " AND s.workspace_id = b.workspace_id) THEN 1 ELSE 0 END"
      " FROM bindings b JOIN users u ON u.id = b.user_id JOIN roles r ON r.id = b.role_id"
      " LEFT JOIN workspaces rw ON rw.id = r.workspace_id"
      " LEFT JOIN workspaces w ON w.id = b.workspace_id"
      " ORDER BY u.name, r.name, coalesce(rw.name, ''), coalesce(w.name, '')"),
    S(WORKSPACE_FIND, "workspace_find", "ittt", WORKSPACES "WHERE w.name = $1"),
    S(USER_FIND, "user_find", "ittiii", USERS "WHERE name = $1"),
    S(ROLE_FIND_GLOBAL, "role_find_global", "itii",
      ROLES "WHERE r.name = $1 AND r.workspace_id IS NULL"),
    S(ROLE_FIND, "role_find", "itii", ROLES "WHERE r.name = $1 AND r.workspace_id = $2"),
    S(IDENTITY_FIND, "identity_find", "i",
      "SELECT user_id FROM identities WHERE issuer = $1 AND subject = $2"),

    S2(HEAD_LOCK, "head_lock", "i", "SELECT n FROM log_head WHERE id = 1",
       "SELECT n FROM log_head WHERE id = 1 FOR UPDATE"),
    S(HEAD_OPEN, "head_open", "i",
      "UPDATE log_head SET n = n + 1, open = 1 WHERE id = 1 RETURNING n"),
    S(HEAD_CLOSE, "head_close", "", "UPDATE log_head SET open = 0 WHERE id = 1"),
    S(LOG_INSERT, "log_insert", "",
      "INSERT INTO change_log (n, stamp, at, actor) VALUES ($1, $2, $3, $4)"),
    S(LOG_KEYS, "log_keys", "", "UPDATE change_log SET keys = $1 WHERE n = $2"),
    S(AUDIT_INSERT, "audit_insert", "",
      "INSERT INTO audit (time, actor, action, detail) VALUES ($1, $2, $3, $4)"),
    S(ORGANIZATION_FIND, "organization_find", "i", "SELECT id FROM organizations WHERE name = $1"),
    S(ORGANIZATION_INSERT, "organization_insert", "i",
      "INSERT INTO organizations (name) VALUES ($1) RETURNING id"),
    S(WORKSPACE_INSERT, "workspace_insert", "i",
      "INSERT INTO workspaces (name, kind, organization_id) VALUES ($1, $2, $3) RETURNING id"),
    S(WORKSPACE_UPDATE, "workspace_update", "i",
      "UPDATE workspaces SET name = $1, kind = $2, organization_id = $3 WHERE id = $4 RETURNING "
      "id"),
    S(WORKSPACE_DELETE, "workspace_delete", "i",
      "DELETE FROM workspaces WHERE id = $1 RETURNING id"),
    S(WORKSPACE_ROLES, "workspace_roles", "i", "SELECT id FROM roles WHERE workspace_id = $1"),
    S(WORKSPACE_UNBIND, "workspace_unbind", "i",
      "DELETE FROM bindings WHERE workspace_id = $1 RETURNING user_id"),
    S(USER_INSERT, "user_insert", "ii",
      "INSERT INTO users (name, email, disabled, legacy_level, sessions_from)"
      " VALUES ($1, $2, $3, $4, $5) RETURNING id, " SAME_EMAIL),
    S(USER_UPDATE, "user_update", "ii",
      "UPDATE users SET name = $1, email = $2, disabled = $3, legacy_level = $4, sessions_from = $5"
      " WHERE id = $6 RETURNING id, " SAME_EMAIL),
    S(USER_DELETE, "user_delete", "i", "DELETE FROM users WHERE id = $1 RETURNING id"),
    S(USER_UNBIND, "user_unbind", "i", "DELETE FROM bindings WHERE user_id = $1 RETURNING user_id"),
    S(USER_UNIDENTIFY, "user_unidentify", "", "DELETE FROM identities WHERE user_id = $1"),
    S(ROLE_INSERT, "role_insert", "i",
      "INSERT INTO roles (name, workspace_id, builtin) VALUES ($1, $2, $3) RETURNING id"),
    S(ROLE_UPDATE, "role_update", "i",
      "UPDATE roles SET name = $1, workspace_id = $2, builtin = $3 WHERE id = $4 RETURNING id"),
    S(ROLE_DELETE, "role_delete", "i", "DELETE FROM roles WHERE id = $1 RETURNING id"),
    S(ROLE_UNBIND, "role_unbind", "i", "DELETE FROM bindings WHERE role_id = $1 RETURNING user_id"),
    S(ROLE_EMPTY, "role_empty", "", "DELETE FROM permissions WHERE role_id = $1"),
    S(IDENTITY_INSERT, "identity_insert", "",
      "INSERT INTO identities (issuer, subject, user_id) VALUES ($1, $2, $3)"),
    S(IDENTITY_DELETE, "identity_delete", "i",
      "DELETE FROM identities WHERE issuer = $1 AND subject = $2 AND user_id = $3 RETURNING "
      "user_id"),
    S(PERMISSION_INSERT, "permission_insert", "i",
      "INSERT INTO permissions (role_id, direct, scope, entity, entity_id, entity_type, conditions,"
      " access, query_attributes, read_attributes, write_attributes)"
      " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id"),
    /* $1: a JSON array of rows, each an array of the columns in this order. A far database takes
     * them in one statement, which its guards are asked about once. */
    S2(PERMISSIONS_INSERT, "permissions_insert", "",
       "INSERT INTO permissions (role_id, direct, scope, entity, entity_id, entity_type, "
       "conditions,"
       " access, query_attributes, read_attributes, write_attributes)"
       " SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,"
       " value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10 FROM json_each($1)",
       "INSERT INTO permissions (role_id, direct, scope, entity, entity_id, entity_type, "
       "conditions,"
       " access, query_attributes, read_attributes, write_attributes)"
       " SELECT (v ->> 0)::bigint, (v ->> 1)::integer, v ->> 2, v ->> 3, v ->> 4, v ->> 5, v ->> 6,"
       " (v ->> 7)::bigint, v ->> 8, v ->> 9, v ->> 10"
       " FROM json_array_elements($1::json) WITH ORDINALITY AS r (v, n) ORDER BY n"),
    S(PERMISSION_DELETE, "permission_delete", "i",
      "DELETE FROM permissions WHERE id = $1 AND role_id = $2 RETURNING id"),
    S(BINDING_INSERT, "binding_insert", "i",
      "INSERT INTO bindings (user_id, role_id, workspace_id) VALUES ($1, $2, $3) RETURNING id"),
    S(BINDING_DELETE, "binding_delete", "i",
      "DELETE FROM bindings WHERE id = $1 AND user_id = $2 RETURNING id"),

    S2(NODE_REGISTER, "node_register", "i",
       "INSERT INTO nodes (node, version, started, reported, epoch, applied, lease_age_ms, "
       "bound_ms,"
       " exempt, exempt_routes, draining)"
       " SELECT $1, $2, now_ms, now_ms, $3, $4, $5,"
       " CASE $6 WHEN 0 THEN (SELECT max_staleness_s * 1000 FROM meta) ELSE $6 END, $7, $8, $9"
       " FROM clock WHERE true"
       " ON CONFLICT (node) DO UPDATE SET version = excluded.version, started = excluded.started,"
       " reported = excluded.reported, epoch = excluded.epoch, applied = excluded.applied,"
       " lease_age_ms = excluded.lease_age_ms, bound_ms = excluded.bound_ms,"
       " exempt = excluded.exempt, exempt_routes = excluded.exempt_routes,"
       " draining = excluded.draining RETURNING 1",
       "SELECT node_register($1, $2, $3, $4, $5, $6, $7, $8, $9)"),
    S(NODE_SIBLINGS, "node_siblings", "ti",
      "SELECT node, reported FROM nodes WHERE node <> $1 AND length(node) = length($1)"
      " AND substr(node, 1, length(node) - 9) = substr($1, 1, length($1) - 9) ORDER BY node"),
    S2(NODE_FORGET, "node_forget", "i",
       "DELETE FROM nodes WHERE node = $1 AND reported = $2 RETURNING 1",
       "SELECT node_forget($1, $2)"),
    S2(NODE_REPORT, "node_report", "i",
       "UPDATE nodes SET reported = (SELECT now_ms FROM clock), epoch = $1, applied = $2,"
       " lease_age_ms = $3, bound_ms = $4, exempt = $5, exempt_routes = $6, draining = $7"
       " WHERE node = $8 RETURNING 1",
       "SELECT node_report($1, $2, $3, $4, $5, $6, $7, $8)"),
    S2(NODE_UNREGISTER, "node_unregister", "i", "DELETE FROM nodes WHERE node = $1 RETURNING 1",
       "SELECT node_unregister($1)"),
    S(NODES, "nodes", "ttiitiiiitii",
      "SELECT " NODE_COLUMNS
      ", c.now_ms - n.reported FROM nodes n CROSS JOIN clock c ORDER BY node"),
    S2(PUBLISHER_CLAIM, "publisher_claim", "itii",
       "UPDATE publisher SET"
       " until = CASE WHEN node = $1 OR until < c.now_ms OR until > c.now_ms + $2"
       " THEN c.now_ms + $2 ELSE until END,"
       " node = CASE WHEN node = $1 OR until < c.now_ms OR until > c.now_ms + $2"
       " THEN $1 ELSE node END"
       " FROM clock c WHERE id = 1"
       " RETURNING node = $1, (SELECT epoch FROM state), (SELECT timeline FROM state),"
       " (SELECT n FROM state)",
       "SELECT publisher_claim($1, $2), s.epoch, s.timeline, s.n FROM state s"),
};
