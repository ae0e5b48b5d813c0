-- 0002: the state that a log read proves itself with, and what nodes tell of themselves.
--
-- A program of schema 1 goes on reading: nothing that it knows has changed.

-- key: with it nodes tell each other revisions that nobody else can make up. restores: how often
-- this history was replaced by an older one (postern db restored).
CREATE TABLE fleet (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    key      TEXT NOT NULL CHECK (length(key) = 64),
    restores INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO fleet (id, key) VALUES (1, lower(hex(randomblob(32))));

-- A file is never a replica and has no timelines.
CREATE VIEW state (n, epoch, max_staleness_s, schema_version, schema_oldest_reader, recovery, timeline,
                   fleet_key, restores) AS
SELECT h.n, m.epoch, m.max_staleness_s, m.schema_version, m.schema_oldest_reader, 0, 0, f.key, f.restores
    FROM log_head h CROSS JOIN meta m CROSS JOIN fleet f;

-- Times are milliseconds of this database's clock; `exempt` counts routes that B does not bind.
CREATE TABLE nodes (
    node         TEXT PRIMARY KEY CHECK (node <> ''),
    version      TEXT NOT NULL,
    started      INTEGER NOT NULL,
    reported     INTEGER NOT NULL,
    epoch        TEXT NOT NULL CHECK (length(epoch) = 16),
    applied      INTEGER NOT NULL,
    lease_age_ms INTEGER NOT NULL,
    bound_ms     INTEGER NOT NULL,
    exempt       INTEGER NOT NULL,
    draining     INTEGER NOT NULL CHECK (draining IN (0, 1))
) STRICT;

-- Who sends heartbeats, until when.
CREATE TABLE publisher (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    node  TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT;
INSERT INTO publisher (id, node, until) VALUES (1, '', 0);

CREATE VIEW clock (now_ms) AS SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER);

UPDATE meta SET schema_version = 2;
