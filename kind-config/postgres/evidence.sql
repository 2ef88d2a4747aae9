-- The database that agents query. A phase grants membership in a group role; no other role has any
-- rights. Run as a superuser, connected to the database.
CREATE TABLE IF NOT EXISTS evidence (id bigserial PRIMARY KEY, seen timestamptz DEFAULT now(), what text NOT NULL);
CREATE TABLE IF NOT EXISTS notes (id bigserial PRIMARY KEY, investigation text NOT NULL, note text NOT NULL);
CREATE TABLE IF NOT EXISTS releases (id bigserial PRIMARY KEY, investigation text NOT NULL);
INSERT INTO evidence (what) SELECT 'row ' || n FROM generate_series(1, 100) AS n WHERE NOT EXISTS (SELECT FROM evidence);
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO alertstorm_reads, alertstorm_safe_writes, alertstorm_risky_writes;
GRANT SELECT ON evidence TO alertstorm_reads;
GRANT INSERT ON notes TO alertstorm_safe_writes;
GRANT USAGE ON SEQUENCE notes_id_seq TO alertstorm_safe_writes;
GRANT INSERT ON releases TO alertstorm_risky_writes;
GRANT USAGE ON SEQUENCE releases_id_seq TO alertstorm_risky_writes;
