//! The statements that compute the tokens of a blind index again.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::Page;

/// A sealed column and a column of its tokens.
pub(crate) struct Tokens {
    table: String,
    key: String,
    sealed: String,
    token: String,
    /// Which rows belong to the scope, if not all.
    only: String,
}

impl Tokens {
    pub(crate) fn new((schema, table): (&str, &str), key: &str, sealed: &str, token: &str) -> Self {
        Self {
            table: format!("{}.{}", escape_identifier(schema), escape_identifier(table)),
            key: escape_identifier(key),
            sealed: escape_identifier(sealed),
            token: escape_identifier(token),
            only: String::new(),
        }
    }

    pub(crate) fn only(&mut self, column: &str, value: &str) {
        self.only = format!("AND {}::text = {}", escape_identifier(column), escape_literal(value));
    }

    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// `$1`: the version of the key, 4 bytes. Rows without a token under it.
    pub(crate) fn count(&self) -> String {
        format!("SELECT pg_catalog.count(*) FROM {} WHERE {}", self.table, self.behind())
    }

    /// `$1`: the version, `$2`: keys to leave out. Whether there is such a row.
    pub(crate) fn is_left(&self) -> String {
        let Self { table, key, .. } = self;
        format!("SELECT EXISTS (SELECT FROM {table} WHERE {} AND {key}::text <> ALL ($2))", self.behind())
    }

    /// `$1`: the version; see [`Page`] for the others. Key as text, sealed value.
    pub(crate) fn page(&self, page: Page, key_type: &str) -> String {
        let Self { table, key, sealed, .. } = self;
        let page = page.of(&format!("{table}.{key}"), key_type);
        format!("SELECT {key}::text, {sealed} FROM {table} WHERE {} {page}", self.behind())
    }

    /// `$1`: keys as text, `$2`: sealed values, `$3`: tokens.
    pub(crate) fn set(&self, key_type: &str) -> String {
        let Self { table, key, sealed, token, .. } = self;
        format!(
            "UPDATE {table} AS target SET {token} = swap.new \
             FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::bytea[]), \
             pg_catalog.unnest($3::bytea[])) AS swap (key, old, new) \
             WHERE target.{key} = swap.key::{key_type} AND target.{sealed} = swap.old"
        )
    }

    fn behind(&self) -> String {
        let Self { sealed, token, only, .. } = self;
        format!("{sealed} IS NOT NULL AND pg_catalog.substr({token}, 1, 4) IS DISTINCT FROM $1::bytea {only}")
    }
}
