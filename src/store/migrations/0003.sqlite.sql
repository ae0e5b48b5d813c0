-- 0003: nodes name the routes that B does not bind, a line each.
--
-- A program of schema 1 or 2 goes on: it does not know the column, and writes an empty one.

ALTER TABLE nodes ADD COLUMN exempt_routes TEXT NOT NULL DEFAULT '';

UPDATE meta SET schema_version = 3;
