//! Private PostgreSQL clusters with TLS for tests and examples.
