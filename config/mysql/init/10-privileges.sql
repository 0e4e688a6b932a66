-- Runs once, when the data folder is made. The image gives its user everything on its database; Regrow
-- needs its rows, and for migrations its tables. No routines, triggers, views, events, files or grants.
REVOKE ALL PRIVILEGES ON regrow.* FROM 'regrow'@'%';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES ON regrow.* TO 'regrow'@'%';
