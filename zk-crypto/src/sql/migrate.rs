//! The statements that turn a plaintext column into a sealed one, and back.

use data_encoding::HEXLOWER;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use sha2::{Digest, Sha256};

use super::Page;

/// A plaintext column and its sealed twin.
pub(crate) struct Twin {
    table: String,
    schema: String,
    key: String,
    plain: String,
    sealed: String,
    /// Which rows belong to the scope, if not all.
    only: Option<(String, String)>,
    /// The name of the trigger and its function.
    guard: String,
}

/// How long a change of the table waits for those who use it: everybody who comes after it waits as well.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '5s'";

/// How a plaintext becomes bytes and comes back: as typed columns do (SPEC.md, section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Bytes,
    Integer,
    Text,
}

impl Form {
    /// `column_type` is what the catalog printed.
    pub(crate) fn of(column_type: &str) -> Self {
        match column_type {
            "bytea" => Self::Bytes,
            "smallint" | "integer" | "bigint" => Self::Integer,
            _ => Self::Text,
        }
    }
}

impl Twin {
    pub(crate) fn new((schema, table): (&str, &str), key: &str, plain: &str, sealed: &str) -> Self {
        let name = Sha256::digest(format!("{schema}\0{table}\0{plain}"));
        let name: String = HEXLOWER.encode(&name).chars().take(16).collect();
        Self {
            table: format!("{}.{}", escape_identifier(schema), escape_identifier(table)),
            schema: escape_identifier(schema),
            key: escape_identifier(key),
            plain: escape_identifier(plain),
            sealed: escape_identifier(sealed),
            only: None,
            guard: escape_identifier(&format!("zk_seal_{name}")),
        }
    }

    pub(crate) fn only(&mut self, column: &str, value: &str) {
        self.only = Some((escape_identifier(column), escape_literal(value)));
    }

    /// The quoted name of the plaintext column, with its table.
    pub(crate) fn plain_name(&self) -> String {
        format!("{}.{}", self.table, self.plain)
    }

    /// The function of the trigger, as `to_regprocedure` reads it.
    pub(crate) fn guard_function(&self) -> String {
        format!("{}.{}()", self.schema, self.guard)
    }

    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// Adds the twin, and the trigger that empties it when somebody changes the plaintext only. One text is one transaction.
    pub(crate) fn prepare(&self) -> String {
        let Self { table, sealed, .. } = self;
        format!(
            "{LOCK_TIMEOUT}; ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {sealed} bytea \
             CHECK (pg_catalog.octet_length({sealed}) >= 57 AND pg_catalog.get_byte({sealed}, 0) IN (1, 2)); {}",
            self.guard_of(&self.before_cut_over())
        )
    }

    /// Nobody writes while this runs: what was counted stays true.
    pub(crate) fn lock(&self) -> String {
        format!("{LOCK_TIMEOUT}; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", self.table)
    }

    /// From now on a plaintext is refused, or dropped where it is sealed as well.
    pub(crate) fn cut_over(&self) -> String {
        let Self { table, plain, sealed, .. } = self;
        let body = format!(
            "BEGIN IF NEW.{plain} IS NOT NULL THEN \
               IF NEW.{sealed} IS NULL THEN RAISE check_violation USING MESSAGE = 'this column is sealed'; END IF; \
               IF TG_OP = 'UPDATE' THEN \
                 IF NEW.{plain}::text IS DISTINCT FROM OLD.{plain}::text AND NEW.{sealed} IS NOT DISTINCT FROM OLD.{sealed} \
                 THEN RAISE check_violation USING MESSAGE = 'this column is sealed'; END IF; \
               END IF; \
               NEW.{plain} := NULL; \
             END IF; RETURN NEW; END"
        );
        format!("ALTER TABLE {table} ALTER COLUMN {plain} DROP NOT NULL; {}", self.guard_of(&body))
    }

    /// Back to where both columns are written.
    pub(crate) fn reopen(&self) -> String {
        format!("{LOCK_TIMEOUT}; {}", self.guard_of(&self.before_cut_over()))
    }

    /// Rows that hold plaintext and nothing sealed, of every scope.
    pub(crate) fn count_unsealed(&self) -> String {
        let Self { table, plain, sealed, .. } = self;
        format!("SELECT pg_catalog.count(*) FROM {table} WHERE {plain} IS NOT NULL AND {sealed} IS NULL")
    }

    pub(crate) fn count(&self, rows: Rows) -> String {
        format!("SELECT pg_catalog.count(*) FROM {} WHERE {}", self.table, self.condition(rows))
    }

    /// `$1`: keys to leave out. Whether there is such a row.
    pub(crate) fn is_left(&self, rows: Rows) -> String {
        let Self { table, key, .. } = self;
        let condition = self.condition(rows);
        format!("SELECT EXISTS (SELECT FROM {table} WHERE {condition} AND {key}::text <> ALL ($1))")
    }

    /// `$1` is not used, so that all pages have the same parameters: see [`Page`]. Key as text, plaintext as bytes, sealed.
    pub(crate) fn page(&self, rows: Rows, form: Form, page: Page, key_type: &str) -> String {
        let Self { table, key, sealed, .. } = self;
        let (bytes, condition) = (self.bytes(form), self.condition(rows));
        let page = page.of(&format!("{table}.{key}"), key_type);
        format!(
            "SELECT {key}::text, {bytes}, {sealed} FROM {table} WHERE $1::text IS NULL AND {condition} {page}"
        )
    }

    /// `$1`: keys as text, `$2`: plaintexts as bytes, `$3`: sealed values.
    pub(crate) fn seal(&self, form: Form, key_type: &str) -> String {
        let Self { table, key, sealed, .. } = self;
        let bytes = self.bytes(form);
        format!(
            "UPDATE {table} AS target SET {sealed} = swap.new \
             FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::bytea[]), \
             pg_catalog.unnest($3::bytea[])) AS swap (key, old, new) \
             WHERE target.{key} = swap.key::{key_type} AND target.{sealed} IS NULL AND {bytes} = swap.old"
        )
    }

    /// `$1`: keys as text, `$2`: sealed values.
    pub(crate) fn erase(&self, key_type: &str) -> String {
        let Self { table, key, plain, sealed, .. } = self;
        format!(
            "UPDATE {table} AS target SET {plain} = NULL \
             FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::bytea[])) AS swap (key, old) \
             WHERE target.{key} = swap.key::{key_type} AND target.{sealed} = swap.old"
        )
    }

    /// `$1`: keys as text, `$2`: sealed values, `$3`: plaintexts as text.
    pub(crate) fn restore(&self, form: Form, key_type: &str, plain_type: &str) -> String {
        let Self { table, key, plain, sealed, .. } = self;
        let value = match form {
            Form::Bytes => "pg_catalog.decode(swap.new, 'hex')".to_owned(),
            Form::Integer | Form::Text => format!("swap.new::{plain_type}"),
        };
        format!(
            "UPDATE {table} AS target SET {plain} = {value}, {sealed} = NULL \
             FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::bytea[]), \
             pg_catalog.unnest($3::text[])) AS swap (key, old, new) \
             WHERE target.{key} = swap.key::{key_type} AND target.{sealed} = swap.old"
        )
    }

    fn condition(&self, rows: Rows) -> String {
        let Self { plain, sealed, only, .. } = self;
        let rows = match rows {
            Rows::Unsealed => format!("{plain} IS NOT NULL AND {sealed} IS NULL"),
            Rows::Both => format!("{plain} IS NOT NULL AND {sealed} IS NOT NULL"),
            Rows::Sealed => format!("{sealed} IS NOT NULL"),
        };
        match only {
            Some((column, value)) => format!("{rows} AND {column}::text = {value}"),
            None => rows,
        }
    }

    /// The plaintext as the bytes that are sealed.
    fn bytes(&self, form: Form) -> String {
        let plain = &self.plain;
        match form {
            Form::Bytes => plain.clone(),
            Form::Integer => format!("pg_catalog.int8send({plain}::pg_catalog.int8)"),
            Form::Text => format!("pg_catalog.convert_to({plain}::text, 'UTF8')"),
        }
    }

    /// A sealed value that was made from another plaintext must not survive it.
    fn before_cut_over(&self) -> String {
        let Self { plain, sealed, .. } = self;
        format!(
            "BEGIN IF TG_OP = 'UPDATE' THEN \
               IF NEW.{plain}::text IS DISTINCT FROM OLD.{plain}::text AND NEW.{sealed} IS NOT DISTINCT FROM OLD.{sealed} \
               THEN NEW.{sealed} := NULL; END IF; \
             END IF; RETURN NEW; END"
        )
    }

    fn guard_of(&self, body: &str) -> String {
        let Self { table, schema, guard, .. } = self;
        format!(
            "CREATE OR REPLACE FUNCTION {schema}.{guard}() RETURNS trigger LANGUAGE plpgsql \
             SET search_path = pg_catalog, pg_temp AS {}; \
             CREATE OR REPLACE TRIGGER {guard} BEFORE INSERT OR UPDATE ON {table} \
             FOR EACH ROW EXECUTE FUNCTION {schema}.{guard}()",
            escape_literal(body)
        )
    }
}

/// Which rows a step works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    Unsealed,
    Both,
    Sealed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Lock;

    #[test]
    fn names_cannot_leave_their_quotes() {
        let evil = r#"a"'$$; DROP TABLE b; --"#;
        let mut twin = Twin::new((evil, evil), evil, evil, evil);
        twin.only(evil, evil);
        // What is left outside of quotes, with doubled quotes taken as the text they stand for.
        let outside = |sql: &str| -> String {
            let (mut out, mut quote) = (String::new(), None);
            for c in sql.chars() {
                match quote {
                    None if c == '"' || c == '\'' => quote = Some(c),
                    None => out.push(c),
                    Some(open) if c == open => quote = None,
                    Some(_) => (),
                }
            }
            assert_eq!(quote, None, "{sql}");
            out
        };
        let page = Page { after: true, skipping: true, skip_locked: true, lock: Lock::NoKey };
        for sql in [
            twin.prepare(),
            twin.lock(),
            twin.cut_over(),
            twin.count_unsealed(),
            twin.count(Rows::Both),
            twin.is_left(Rows::Both),
            twin.page(Rows::Unsealed, Form::Text, page, "uuid"),
            twin.seal(Form::Integer, "uuid"),
            twin.erase("uuid"),
            twin.restore(Form::Bytes, "uuid", "bytea"),
        ] {
            assert!(!outside(&sql).contains("DROP TABLE"), "{sql}");
        }
    }
}
