-- Revokes what PostgreSQL grants to every role by default: in the agents' database, only members of
-- the groups of evidence.sql may do anything. Run as a superuser, connected to the database.
DO $$
DECLARE
  large_objects regprocedure;
BEGIN
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  FOR large_objects IN
    SELECT oid FROM pg_catalog.pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace AND (proname LIKE 'lo\_%' OR proname IN ('loread', 'lowrite'))
  LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', large_objects);
  END LOOP;
END $$;
