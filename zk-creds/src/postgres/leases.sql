CREATE SCHEMA IF NOT EXISTS zk;

CREATE TABLE IF NOT EXISTS zk.leases (
    id               uuid PRIMARY KEY,
    solution         text NOT NULL,
    service          text NOT NULL,
    generation       integer NOT NULL,
    login            name NOT NULL UNIQUE,
    lifetime_seconds double precision NOT NULL,
    -- active: may log in. revoking: can no longer log in, its sessions may still be ending. revoked: gone.
    state            text NOT NULL CHECK (state IN ('active', 'revoking', 'revoked')),
    issued_at        timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL CHECK (expires_at <= max_expires_at),
    max_expires_at   timestamptz NOT NULL,
    revoked_at       timestamptz,
    UNIQUE (solution, service, generation)
);

REVOKE ALL ON zk.leases FROM PUBLIC;
