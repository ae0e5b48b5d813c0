-- 0004: a permission is what it was when it was made.
--
-- A node that knows the row of an id does not read it again: of a role that changed it compares the ids,
-- and reads the rows that it does not know.  Who wants another row deletes the one and inserts the other,
-- as this program always did.  Ids are never used twice (0001).

CREATE TRIGGER permissions_stay BEFORE UPDATE ON permissions
BEGIN
    SELECT RAISE(ABORT, 'permissions: a row does not change: delete it, and insert another');
END;

UPDATE meta SET schema_version = 4;
