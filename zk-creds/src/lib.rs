//! Unique, short-lived credentials for every service: issued, rotated, revoked and injected, over verified TLS only.
