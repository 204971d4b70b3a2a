-- What a role can do to rows and columns, found out by doing it and taking it back. Nothing here reads a policy.
CREATE SCHEMA probe;
-- Rows that could be written, by table.
CREATE TABLE probe.candidates (of text, candidate jsonb);
CREATE TABLE probe.seen (key text);

-- Stands before every update of the tables. It notes which rows an update reaches and leaves them as they are, or puts a
-- candidate in the place of the first of them; without a mode it does nothing.
CREATE FUNCTION probe.instead() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    mode text := coalesce(current_setting('probe.mode', true), '');
BEGIN
    IF mode = '' THEN
        RETURN NEW;
    ELSIF mode = 'reach' THEN
        INSERT INTO probe.seen VALUES (to_jsonb(OLD) ->> TG_ARGV[0]);
    ELSIF mode = 'write' THEN
        PERFORM set_config('probe.mode', 'written', true);
        RETURN jsonb_populate_record(OLD, current_setting('probe.candidate')::jsonb);
    END IF;
    RETURN NULL;
END
$$;

-- Every relation but the system's, with what `role` can do to it when it has these claims. Called by a superuser.
CREATE FUNCTION probe.rights(role text, claims jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    found jsonb := '{}';
    rel   record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        RETURN found;
    END IF;
    PERFORM set_config('zk.' || c.key, c.value, true) FROM jsonb_each_text(claims) c;
    FOR rel IN
        SELECT c.oid::regclass AS name, c.relkind AS kind,
               ARRAY(SELECT a.attname::text FROM pg_attribute a
                     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname NOT IN ('information_schema', 'probe') AND n.nspname !~ '^pg_'
    LOOP
        found := found || jsonb_build_object(rel.name::text, probe.relation(role, rel.name, rel.kind, rel.columns));
    END LOOP;
    RETURN found || jsonb_build_object('', jsonb_build_object('other', probe.role(role)));
END
$$;

-- `ZK000` is raised where everything went well, so that it is taken back. Settings go with it, the role included.
CREATE FUNCTION probe.relation(role text, rel regclass, kind "char", columns text[]) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    key        text := columns[1];
    readable   text[] := ARRAY(SELECT c FROM unnest(columns) c WHERE has_column_privilege(role, rel, c, 'SELECT'));
    insertable text[] := ARRAY(SELECT c FROM unnest(columns) c WHERE has_column_privilege(role, rel, c, 'INSERT'));
    updatable  text[] := ARRAY(SELECT c FROM unnest(columns) c WHERE has_column_privilege(role, rel, c, 'UPDATE'));
    shown      jsonb := '[]';
    taken      text[] := '{}';
    reached    text[] := '{}';
    written    text[] := '{}';
    deleted    text[] := '{}';
    candidate  jsonb;
BEGIN
    IF readable <> '{}' THEN
        BEGIN
            PERFORM set_config('role', role, true);
            EXECUTE format('SELECT %I FROM %s', readable[1], rel);
            PERFORM set_config('role', 'none', true);
            -- Which rows they are is told by their key, which the role may not be able to read.
            EXECUTE format('GRANT SELECT (%I) ON %s TO %I', key, rel, role);
            PERFORM set_config('role', role, true);
            EXECUTE format('SELECT coalesce(jsonb_agg(jsonb_build_array(c, r.%I, x)), ''[]'') FROM %s r, LATERAL (VALUES %s) v (c, x)',
                key, rel, (SELECT string_agg(format('(%L, r.%I::text)', c, c), ', ') FROM unnest(readable) c)) INTO shown;
            RAISE SQLSTATE 'ZK000';
        EXCEPTION
            WHEN SQLSTATE 'ZK000' THEN NULL;
            WHEN insufficient_privilege THEN shown := '[]';
        END;
    END IF;
    FOR candidate IN SELECT c.candidate FROM probe.candidates c WHERE c.of::regclass = rel AND insertable <> '{}' LOOP
        BEGIN
            EXECUTE format('GRANT INSERT ON %s TO %I', rel, role);
            PERFORM set_config('role', role, true);
            EXECUTE format('INSERT INTO %s SELECT * FROM jsonb_populate_record(NULL::%s, $1)', rel, rel) USING candidate;
            taken := taken || (candidate ->> key);
            RAISE SQLSTATE 'ZK000';
        EXCEPTION WHEN SQLSTATE 'ZK000' OR insufficient_privilege OR check_violation OR not_null_violation THEN NULL;
        END;
    END LOOP;
    IF updatable <> '{}' AND kind IN ('r', 'p') THEN
        BEGIN
            PERFORM set_config('probe.mode', 'reach', true), set_config('role', role, true);
            EXECUTE format('UPDATE %s SET %I = DEFAULT', rel, updatable[1]);
            PERFORM set_config('role', 'none', true);
            reached := ARRAY(SELECT s.key FROM probe.seen s);
            RAISE SQLSTATE 'ZK000';
        EXCEPTION WHEN SQLSTATE 'ZK000' OR insufficient_privilege OR not_null_violation THEN NULL;
        END;
    END IF;
    FOR candidate IN SELECT c.candidate FROM probe.candidates c WHERE c.of::regclass = rel AND reached <> '{}' LOOP
        BEGIN
            PERFORM set_config('probe.mode', 'write', true), set_config('probe.candidate', candidate::text, true),
                    set_config('role', role, true);
            EXECUTE format('UPDATE %s SET %I = DEFAULT', rel, updatable[1]);
            written := written || (candidate ->> key);
            RAISE SQLSTATE 'ZK000';
        EXCEPTION WHEN SQLSTATE 'ZK000' OR insufficient_privilege OR check_violation OR not_null_violation THEN NULL;
        END;
    END LOOP;
    IF has_table_privilege(role, rel, 'DELETE') AND kind IN ('r', 'p') THEN
        BEGIN
            EXECUTE format('SELECT coalesce(array_agg(%I::text), ''{}'') FROM %s', key, rel) INTO deleted;
            PERFORM set_config('role', role, true);
            EXECUTE format('DELETE FROM %s', rel);
            PERFORM set_config('role', 'none', true);
            EXECUTE format('SELECT ARRAY(SELECT d FROM unnest($1) d EXCEPT SELECT %I::text FROM %s)', key, rel)
                USING deleted INTO deleted;
            RAISE SQLSTATE 'ZK000';
        EXCEPTION
            WHEN SQLSTATE 'ZK000' THEN NULL;
            WHEN insufficient_privilege THEN deleted := '{}';
        END;
    END IF;
    RETURN jsonb_build_object('shown', shown, 'insertable', insertable, 'taken', taken, 'updatable', updatable,
        'reached', reached, 'written', written, 'deleted', deleted, 'other', probe.privileges(role, rel, kind));
END
$$;

-- What rows and columns have no part in.
CREATE FUNCTION probe.privileges(role text, rel regclass, kind "char") RETURNS text[] LANGUAGE sql AS $$
    SELECT ARRAY(
        SELECT p FROM unnest(ARRAY['TRUNCATE', 'TRIGGER'] || CASE WHEN current_setting('server_version_num')::int >= 170000
                                                                  THEN ARRAY['MAINTAIN'] ELSE '{}' END) p
        WHERE has_table_privilege(role, rel, p)
        UNION ALL
        SELECT p FROM unnest(ARRAY['REFERENCES', 'SELECT WITH GRANT OPTION', 'INSERT WITH GRANT OPTION',
                                   'UPDATE WITH GRANT OPTION']) p
        WHERE has_any_column_privilege(role, rel, p)
        UNION ALL
        SELECT p FROM unnest(ARRAY['DELETE WITH GRANT OPTION']) p WHERE has_table_privilege(role, rel, p)
        UNION ALL
        SELECT 'write through the view: ' || p FROM unnest(ARRAY['INSERT', 'UPDATE']) p
        WHERE kind = 'v' AND has_any_column_privilege(role, rel, p)
        UNION ALL
        SELECT 'delete through the view' WHERE kind = 'v' AND has_table_privilege(role, rel, 'DELETE')
        UNION ALL
        SELECT 'owner' FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner WHERE c.oid = rel AND o.rolname = role)
$$;

-- What a role is, wherever it acts.
CREATE FUNCTION probe.role(role text) RETURNS text[] LANGUAGE sql AS $$
    SELECT ARRAY(
        SELECT v.word FROM pg_roles r, LATERAL (VALUES (r.rolcanlogin, 'LOGIN'), (r.rolsuper, 'SUPERUSER'),
            (r.rolbypassrls, 'BYPASSRLS'), (r.rolcreaterole, 'CREATEROLE'), (r.rolcreatedb, 'CREATEDB'),
            (r.rolreplication, 'REPLICATION')) v (has, word)
        WHERE r.rolname = role AND v.has
        UNION ALL
        SELECT 'member of ' || g.rolname FROM pg_roles g WHERE g.rolname <> role AND pg_has_role(role, g.oid, 'MEMBER')
        UNION ALL
        SELECT format('%s in schema %s', lower(p), n.nspname) FROM pg_namespace n, unnest(ARRAY['CREATE', 'USAGE']) p
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND has_schema_privilege(role, n.oid, p))
$$;
