-- 0004: nothing of a file; on PostgreSQL functions change.

UPDATE meta SET schema_version = 4;
