-- The database that agents query. A phase grants membership in a group role; no other role has any
-- rights. {{VERB}} is the run's group role of that verb. Run as a superuser, connected to the database.
CREATE TABLE IF NOT EXISTS evidence (id bigserial PRIMARY KEY, seen timestamptz DEFAULT now(), what text NOT NULL);
CREATE TABLE IF NOT EXISTS notes (id bigserial PRIMARY KEY, investigation text NOT NULL, note text NOT NULL);
CREATE TABLE IF NOT EXISTS releases (id bigserial PRIMARY KEY, investigation text NOT NULL);
INSERT INTO evidence (what) SELECT 'row ' || n FROM generate_series(1, 100) AS n WHERE NOT EXISTS (SELECT FROM evidence);
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO {{read}}, {{safe-write}}, {{risky-write}};
GRANT SELECT ON evidence TO {{read}};
GRANT INSERT ON notes TO {{safe-write}};
GRANT USAGE ON SEQUENCE notes_id_seq TO {{safe-write}};
GRANT INSERT ON releases TO {{risky-write}};
GRANT USAGE ON SEQUENCE releases_id_seq TO {{risky-write}};
