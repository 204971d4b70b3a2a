//! Table-, row- and column-level security for PostgreSQL: one policy language, compiled, planned, applied and decided in process.
