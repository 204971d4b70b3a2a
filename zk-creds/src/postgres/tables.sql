CREATE SCHEMA IF NOT EXISTS zk;

CREATE TABLE IF NOT EXISTS zk.leases (
    id               uuid PRIMARY KEY,
    solution         text NOT NULL,
    service          text NOT NULL,
    generation       integer NOT NULL,
    login            name NOT NULL UNIQUE,
    lifetime_seconds double precision NOT NULL,
    -- The service as the manifest declared it when this was issued, so that a later deployment sees what changed.
    declared         text NOT NULL,
    -- active: may log in. revoking: can no longer log in, its sessions may still be ending. revoked: gone.
    state            text NOT NULL CHECK (state IN ('active', 'revoking', 'revoked')),
    issued_at        timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL CHECK (expires_at <= max_expires_at),
    max_expires_at   timestamptz NOT NULL,
    revoked_at       timestamptz,
    UNIQUE (solution, service, generation)
);

CREATE INDEX IF NOT EXISTS leases_not_revoked ON zk.leases (solution, service) WHERE state <> 'revoked';

-- Rows are added and never changed: each hash covers the one before, so that a change anywhere shows.
CREATE TABLE IF NOT EXISTS zk.audit (
    seq         bigint PRIMARY KEY,
    recorded_by text NOT NULL,
    entry       text NOT NULL,
    hash        bytea NOT NULL
);

-- What is issued beside logins, under the same kind of lease.
CREATE TABLE IF NOT EXISTS zk.grants (
    id               uuid PRIMARY KEY,
    solution         text NOT NULL,
    service          text NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('token', 'certificate', 'secret')),
    -- The kind of a token, the identity in a certificate, the name of a stored secret.
    name             text NOT NULL,
    generation       integer NOT NULL,
    -- HMAC-SHA-256 of a token, which is not stored.
    hash             bytea UNIQUE CHECK ((hash IS NOT NULL) = (kind = 'token')),
    -- JSON: a token's scopes, a certificate's names and serial numbers, a secret's version.
    detail           text NOT NULL,
    lifetime_seconds double precision NOT NULL,
    issued_at        timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL CHECK (expires_at <= max_expires_at),
    max_expires_at   timestamptz NOT NULL,
    revoked_at       timestamptz,
    UNIQUE (solution, service, kind, name, generation)
);

REVOKE ALL ON zk.leases, zk.audit, zk.grants FROM PUBLIC;
