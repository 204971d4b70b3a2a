CREATE SCHEMA IF NOT EXISTS zk;

-- Keys of masks that hash, as the two padded blocks of HMAC-SHA-256 (RFC 2104). Only the owners of the views through which
-- masked roles look can read them, and nobody becomes one of those.
CREATE TABLE IF NOT EXISTS zk.mask_keys (
    policy     text PRIMARY KEY,
    inner_pad  bytea NOT NULL CHECK (octet_length(inner_pad) = 64),
    outer_pad  bytea NOT NULL CHECK (octet_length(outer_pad) = 64),
    created_at timestamptz NOT NULL DEFAULT now()
);
REVOKE ALL ON zk.mask_keys FROM PUBLIC;
