CREATE SCHEMA IF NOT EXISTS zk;

CREATE TABLE IF NOT EXISTS zk.secrets (
    name     text PRIMARY KEY,
    -- Another number after every change; the sealed bytes are bound to it.
    revision bigint NOT NULL,
    sealed   bytea NOT NULL
);

REVOKE ALL ON zk.secrets FROM PUBLIC;
