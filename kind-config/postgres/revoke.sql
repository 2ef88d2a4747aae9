-- A role's sessions end with it. A session that begins between the two keeps no right: they are those of
-- groups, and end with the role. Vault's user has to be a member to end sessions and for DROP OWNED, without
-- which a role that has set default privileges could not be dropped. One block is one round trip, and a
-- second attempt finds no role.
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{{name}}') THEN
    GRANT "{{name}}" TO CURRENT_USER;
    ALTER ROLE "{{name}}" NOLOGIN;
    PERFORM pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity WHERE usename = '{{name}}';
    DROP OWNED BY "{{name}}";
    DROP ROLE "{{name}}";
  END IF;
END $$;
