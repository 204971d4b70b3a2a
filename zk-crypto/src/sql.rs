//! The only place that puts names into SQL text. Values always travel as parameters.

pub(crate) mod migrate;
#[cfg(feature = "index")]
pub(crate) mod reindex;

use postgres_protocol::escape::escape_identifier;

/// The tables of this crate: schema, tables, and the index that allows one active key for each scope.
///
/// One string is one implicit transaction; the advisory lock makes two installations wait for each other, which
/// `IF NOT EXISTS` alone does not.
pub(crate) const INSTALL: &str = "
SELECT pg_catalog.pg_advisory_xact_lock(8821372093744100771);
CREATE SCHEMA IF NOT EXISTS zk;
CREATE TABLE IF NOT EXISTS zk.data_keys (
    id          bytea       PRIMARY KEY CHECK (octet_length(id) = 16),
    scope       text        NOT NULL CHECK (octet_length(scope) BETWEEN 1 AND 200),
    generation  bigint      NOT NULL CHECK (generation BETWEEN 1 AND 4294967295),
    kek_uri     text        NOT NULL,
    kek_version text        NOT NULL,
    wrapped     bytea       CHECK (octet_length(wrapped) <= 8192),
    state       text        NOT NULL CHECK (state IN ('active', 'retiring', 'disabled', 'destroyed')),
    created_at  timestamptz NOT NULL,
    UNIQUE (scope, generation),
    CHECK ((state = 'destroyed') = (wrapped IS NULL))
);
CREATE UNIQUE INDEX IF NOT EXISTS data_keys_one_active ON zk.data_keys (scope) WHERE state = 'active';
CREATE TABLE IF NOT EXISTS zk.key_minimums (
    scope       text        PRIMARY KEY CHECK (octet_length(scope) BETWEEN 1 AND 200),
    generation  bigint      NOT NULL CHECK (generation BETWEEN 1 AND 4294967295)
);
REVOKE ALL ON zk.data_keys, zk.key_minimums FROM PUBLIC;
";

/// Where jobs are, which the rows of their tables do not say.
pub(crate) const INSTALL_JOBS: &str = "
SELECT pg_catalog.pg_advisory_xact_lock(8821372093744100771);
CREATE SCHEMA IF NOT EXISTS zk;
CREATE TABLE IF NOT EXISTS zk.jobs (
    name       text        PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 200),
    paused     boolean     NOT NULL DEFAULT false,
    phase      text,
    checkpoint text,
    verified   bigint      NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
);
REVOKE ALL ON zk.jobs FROM PUBLIC;
";

/// Gives a role what workers need on the table of jobs.
pub(crate) fn grant_jobs(role: &str) -> String {
    let role = escape_identifier(role);
    format!("GRANT USAGE ON SCHEMA zk TO {role}; GRANT SELECT, INSERT, UPDATE ON zk.jobs TO {role}")
}

/// Gives a role what it needs on the key table.
pub(crate) fn grant(role: &str, write: bool) -> String {
    let role = escape_identifier(role);
    let rights = if write { "SELECT, INSERT, UPDATE" } else { "SELECT" };
    format!("GRANT USAGE ON SCHEMA zk TO {role}; GRANT {rights} ON zk.data_keys, zk.key_minimums TO {role}")
}

/// The statements that seal a column again.
pub(crate) struct Column {
    table: String,
    key: String,
    sealed: String,
}

impl Column {
    pub(crate) fn new((schema, table): (&str, &str), key: &str, sealed: &str) -> Self {
        Self {
            table: format!("{}.{}", escape_identifier(schema), escape_identifier(table)),
            key: escape_identifier(key),
            sealed: escape_identifier(sealed),
        }
    }

    /// The quoted table, also as a parameter of `to_regclass`.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// `$1`: the ids of old keys. Rows for each of them.
    pub(crate) fn count(&self) -> String {
        let Self { table, key: _, sealed } = self;
        format!(
            "SELECT pg_catalog.substr({sealed}, 2, 16), pg_catalog.count(*) FROM {table} \
             WHERE pg_catalog.substr({sealed}, 2, 16) = ANY ($1) GROUP BY 1"
        )
    }

    /// `$1`: the ids of old keys, `$2`: keys to leave out. Whether there is such a row.
    pub(crate) fn is_left(&self) -> String {
        let Self { table, key, sealed } = self;
        format!(
            "SELECT EXISTS (SELECT FROM {table} WHERE pg_catalog.substr({sealed}, 2, 16) = ANY ($1) \
             AND {key}::text <> ALL ($2))"
        )
    }

    /// `$1`: the ids of old keys, `$2`: how many rows, `$3`: keys to leave out, `$4`: the key to begin after, or NULL. Key
    /// as text and sealed value, locked.
    pub(crate) fn page(&self, page: Page, key_type: &str) -> String {
        let Self { table, key, sealed } = self;
        format!(
            "SELECT {key}::text, {sealed} FROM {table} WHERE pg_catalog.substr({sealed}, 2, 16) = ANY ($1) {}",
            page.of(&format!("{table}.{key}"), key_type)
        )
    }

    /// `$1`: keys as text, `$2`: old values, `$3`: new values. `key_type` is what the catalog printed for the column.
    pub(crate) fn swap(&self, key_type: &str) -> String {
        let Self { table, key, sealed } = self;
        // The key is cast, not the column, so that the primary key's index serves.
        format!(
            "UPDATE {table} AS target SET {sealed} = swap.new \
             FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::bytea[]), \
             pg_catalog.unnest($3::bytea[])) AS swap (key, old, new) \
             WHERE target.{key} = swap.key::{key_type} AND target.{sealed} = swap.old"
        )
    }
}

/// Which rows of a table are read next, and how they are locked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// Begins after the key `$4`, which is NULL otherwise: the first page needs no comparison that an index does not serve.
    pub(crate) after: bool,
    /// Leaves out the keys `$3`, of which there are none otherwise.
    pub(crate) skipping: bool,
    /// Passes over the rows that others hold.
    pub(crate) skip_locked: bool,
    pub(crate) lock: Lock,
}

/// How rows are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// As an `UPDATE` does that changes no key: who inserts a row that refers to these does not wait.
    NoKey,
    /// As an `UPDATE` does that changes a column with a UNIQUE constraint. To lock less, and more when the row is written,
    /// could deadlock with those who refer to the rows.
    #[cfg(feature = "index")]
    Key,
}

impl Page {
    /// The end of a query: at most `$2` rows, in the order of their keys, locked. `key` is qualified with its table: alone it
    /// would mean the result's column of that name, which is its text, and `9` stands after `10` as text.
    pub(crate) fn of(self, key: &str, key_type: &str) -> String {
        let Self { after, skipping, skip_locked, lock } = self;
        let without = if skipping {
            format!("AND {key}::text <> ALL ($3)")
        } else {
            "AND $3::text[] IS NOT NULL".to_owned()
        };
        let after = if after {
            format!("AND {key} > $4::text::{key_type}")
        } else {
            "AND $4::text IS NULL".to_owned()
        };
        let lock = match lock {
            Lock::NoKey => "FOR NO KEY UPDATE",
            #[cfg(feature = "index")]
            Lock::Key => "FOR UPDATE",
        };
        let skip = if skip_locked { " SKIP LOCKED" } else { "" };
        format!("{without} {after} ORDER BY {key} LIMIT $2 {lock}{skip}")
    }
}

/// `$1`: names of run-time parameters, `$2`: their values, for the transaction.
pub(crate) const SETTINGS: &str = "
SELECT pg_catalog.set_config(setting.name, setting.value, true)
FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS setting (name, value)";

/// `$1`: quoted tables, looked at with their schemas, `$2`: quoted functions, `$3`: a quoted table or NULL. The owners of
/// tables and functions whom neither the connected role nor the owner of `$3` has reason to trust.
pub(crate) const STRANGERS: &str = "
SELECT owner.rolname::text
FROM pg_catalog.pg_roles owner, pg_catalog.pg_roles me
WHERE me.rolname = current_user
  AND owner.oid IN (
    SELECT pg_catalog.unnest(ARRAY[c.relowner, n.nspowner])
    FROM pg_catalog.unnest($1) AS t (name)
      JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(t.name)
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    UNION
    SELECT p.proowner
    FROM pg_catalog.unnest($2) AS f (name)
      JOIN pg_catalog.pg_proc p ON p.oid = pg_catalog.to_regprocedure(f.name))
  AND owner.oid <> me.oid
  AND NOT owner.rolsuper
  AND owner.oid IS DISTINCT FROM
    (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($3))
  AND (me.rolsuper OR owner.rolcanlogin OR NOT pg_catalog.pg_has_role(me.oid, owner.oid, 'USAGE'))
ORDER BY 1";

/// `$1`: quoted table, `$2`: column. The column's type, quoted by the catalog.
pub(crate) const COLUMN_TYPE: &str = "
SELECT pg_catalog.format_type(atttypid, -1) FROM pg_catalog.pg_attribute
WHERE attrelid = pg_catalog.to_regclass($1) AND attname = $2 AND attnum > 0 AND NOT attisdropped";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        let evil = r#"a"; DROP TABLE b; --"#;
        let quoted = r#""a""; DROP TABLE b; --""#;
        assert!(grant(evil, true).ends_with(&format!("TO {quoted}")));
        let column = Column::new((evil, evil), evil, evil);
        assert_eq!(column.table(), format!("{quoted}.{quoted}"));
        let page = Page { after: true, skipping: true, skip_locked: true, lock: Lock::NoKey };
        for text in [column.count(), column.is_left(), column.page(page, "uuid"), column.swap("uuid")] {
            assert_eq!(text.matches("DROP").count(), text.matches(quoted).count());
        }
    }
}
