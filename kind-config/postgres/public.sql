-- The rights that every role has in this database; no row if all are revoked.
SELECT kind AS right FROM unnest(ARRAY['CONNECT', 'TEMPORARY', 'CREATE']) AS kind
  WHERE has_database_privilege('public', current_database(), kind)
UNION ALL SELECT kind || ' on schema public' FROM unnest(ARRAY['USAGE', 'CREATE']) AS kind
  WHERE has_schema_privilege('public', 'public', kind)
UNION ALL SELECT 'EXECUTE on ' || oid::regprocedure::text FROM pg_catalog.pg_proc
  WHERE pronamespace = 'pg_catalog'::regnamespace AND (proname LIKE 'lo\_%' OR proname IN ('loread', 'lowrite'))
    AND has_function_privilege('public', oid, 'EXECUTE')
