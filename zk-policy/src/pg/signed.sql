CREATE SCHEMA IF NOT EXISTS zk;

-- Keys that sign claims, as the two padded blocks of HMAC-SHA-256 (RFC 2104). Only the function below reads them.
CREATE TABLE IF NOT EXISTS zk.claim_keys (
    id         text PRIMARY KEY,
    inner_pad  bytea NOT NULL CHECK (octet_length(inner_pad) = 64),
    outer_pad  bytea NOT NULL CHECK (octet_length(outer_pad) = 64),
    created_at timestamptz NOT NULL DEFAULT now()
);
REVOKE ALL ON zk.claim_keys FROM PUBLIC;

-- A claim of the present session; NULL when it has none. Claims that were not signed for this server process, this role
-- and this transaction fail the statement. It tells a session nothing but its own claims, so everybody may call it.
CREATE OR REPLACE FUNCTION zk.claim(claim_name text) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    signed  text := nullif(current_setting('zk.signed', true), '');
    payload text;
    claims  jsonb;
    mac     text;
BEGIN
    IF signed IS NULL THEN
        RETURN NULL;
    END IF;
    -- key id, hexadecimal MAC, payload; only the payload may hold further dots.
    payload := substr(signed, length(split_part(signed, '.', 1)) + length(split_part(signed, '.', 2)) + 3);
    SELECT encode(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(payload, 'UTF8'))), 'hex') INTO mac
      FROM zk.claim_keys k WHERE k.id = split_part(signed, '.', 1);
    -- Digests are compared, so that the time taken tells nothing of the right MAC.
    IF mac IS NULL OR sha256(convert_to(mac, 'UTF8')) <> sha256(convert_to(split_part(signed, '.', 2), 'UTF8')) THEN
        RAISE EXCEPTION 'the claims of this session are not signed' USING ERRCODE = 'insufficient_privilege';
    END IF;
    claims := payload::jsonb;
    IF (claims ->> 'pid')::int8 <> pg_backend_pid()
       OR (claims ->> 'began')::int8 <> (extract(epoch FROM transaction_timestamp()) * 1000000)::int8
       OR claims ->> 'role' <> current_setting('role') THEN
        RAISE EXCEPTION 'the claims of this session are signed for another connection, role or transaction'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN nullif(claims -> 'claims' ->> claim_name, '');
END
$$;

-- Whether the present session carries a good signature, for rules that ask for no claim. A bad one fails the statement.
CREATE OR REPLACE FUNCTION zk.signed() RETURNS bool
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF nullif(current_setting('zk.signed', true), '') IS NULL THEN
        RETURN false;
    END IF;
    PERFORM zk.claim('');
    RETURN true;
END
$$;

-- Default privileges may have taken it.
GRANT EXECUTE ON FUNCTION zk.claim(text), zk.signed() TO PUBLIC;
