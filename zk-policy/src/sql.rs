//! The one place where values become SQL text.
//!
//! SECURITY: every identifier and literal in a statement of this crate passes through [`ident`] or [`literal`].
//! Both are correct under every setting of `standard_conforming_strings`: a literal with a backslash is written in
//! the `E''` form (PostgreSQL manual, sections 4.1.1 and 4.1.2).

pub(crate) mod predicate;

use crate::catalog::{Grant, Membership, PolicyObject, Privilege};
use crate::document::Command;
use crate::schema::QualifiedName;

/// Quotes an identifier. A NUL character, which PostgreSQL cannot store, is removed.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}

/// Quotes a literal. A NUL character, which PostgreSQL cannot store, is removed.
pub(crate) fn literal(value: &str) -> String {
    let value = value.replace('\0', "").replace('\'', "''");
    if value.contains('\\') { format!(" E'{}'", value.replace('\\', "\\\\")) } else { format!("'{value}'") }
}

/// A table's name, quoted with its schema.
pub(crate) fn table(name: &QualifiedName) -> String {
    format!("{}.{}", ident(&name.schema), ident(&name.table))
}

/// The setting that carries a claim.
pub(crate) fn setting(claim: &str) -> String {
    format!("zk.{claim}")
}

/// The CHECK of a critical column: bytes of the shape of a sealed value, version 1 (zk-crypto, SPEC.md).
///
/// The shape is a guard against writing plaintext by mistake, not a proof: only opening a value proves that it was
/// sealed. NULL passes, as in any CHECK.
pub(crate) fn sealed_check(column: &str) -> String {
    let column = ident(column);
    format!(
        "((octet_length({column}) >= {SEALED_OVERHEAD}) AND (substr({column}, 1, 1) IN ('\\x01'::bytea, '\\x02'::bytea)))"
    )
}

/// The bytes that sealing adds: the shortest sealed value is that of the empty text.
const SEALED_OVERHEAD: usize = 57;

pub(crate) fn create_policy(on: &str, name: &str, policy: &PolicyObject) -> String {
    let kind = if policy.permissive { "PERMISSIVE" } else { "RESTRICTIVE" };
    let command = policy.command.map_or("ALL", command_keyword);
    let roles: Vec<String> = policy.roles.iter().map(|r| role(r)).collect();
    format!(
        "CREATE POLICY {} ON {on} AS {kind} FOR {command} TO {}{}",
        ident(name),
        roles.join(", "),
        policy_clauses(policy)
    )
}

pub(crate) fn alter_policy(on: &str, name: &str, policy: &PolicyObject) -> String {
    let roles: Vec<String> = policy.roles.iter().map(|r| role(r)).collect();
    format!("ALTER POLICY {} ON {on} TO {}{}", ident(name), roles.join(", "), policy_clauses(policy))
}

pub(crate) fn drop_policy(on: &str, name: &str) -> String {
    format!("DROP POLICY {} ON {on}", ident(name))
}

/// A restrictive policy stays until the other one is there; of a permissive one nothing may be left by then.
pub(crate) fn replace_policy(
    on: &str,
    name: &str,
    before: &PolicyObject,
    after: &PolicyObject,
) -> Vec<String> {
    const ASIDE: &str = "zk_replaced";
    if before.permissive {
        return vec![drop_policy(on, name), create_policy(on, name, after)];
    }
    vec![
        format!("ALTER POLICY {} ON {on} RENAME TO {}", ident(name), ident(ASIDE)),
        create_policy(on, name, after),
        drop_policy(on, ASIDE),
    ]
}

fn policy_clauses(policy: &PolicyObject) -> String {
    let clause =
        |word: &str, expr: &Option<String>| expr.as_ref().map_or(String::new(), |e| format!(" {word} ({e})"));
    clause("USING", &policy.using) + &clause("WITH CHECK", &policy.check)
}

/// A grantee: `PUBLIC` is a keyword, everything else a name. (A role cannot be called `public`.)
pub(crate) fn role(name: &str) -> String {
    if name == PUBLIC { "PUBLIC".to_owned() } else { ident(name) }
}

/// Takes a membership away, and what came of it where it was handed on.
pub(crate) fn revoke_membership(membership: &Membership) -> String {
    let Membership { role, member, grantor, admin } = membership;
    let by = grantor.as_ref().map_or(String::new(), |grantor| {
        format!(" GRANTED BY {}{}", ident(grantor), if *admin { " CASCADE" } else { "" })
    });
    format!("REVOKE {} FROM {}{by}", ident(role), ident(member))
}

/// How the catalog and this crate name the pseudo-role of everybody.
pub(crate) const PUBLIC: &str = "public";

pub(crate) fn grant(on: &QualifiedName, grants: &[Grant]) -> String {
    format!("GRANT {}", privileges(on, grants, "TO"))
}

/// What could be passed on is taken from those as well to whom it was.
pub(crate) fn revoke(on: &QualifiedName, grants: &[Grant]) -> String {
    let cascade = if grants.iter().any(|g| g.grantable) { " CASCADE" } else { "" };
    format!("REVOKE {}{cascade}", privileges(on, grants, "FROM"))
}

/// `SELECT ("a", "b") ON … TO "r"`: grants that differ only in their column.
fn privileges(on: &QualifiedName, grants: &[Grant], word: &str) -> String {
    let Some(first) = grants.first() else { return String::new() };
    let columns: Vec<String> = grants.iter().filter_map(|g| g.column.as_deref().map(ident)).collect();
    let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    // The other privileges on a sequence may be named as if it were a table.
    let kind = if first.privilege == Privilege::Usage { "SEQUENCE " } else { "" };
    format!("{}{columns} ON {kind}{} {word} {}", first.privilege.keyword(), table(on), role(&first.role))
}

pub(crate) fn command_keyword(command: Command) -> &'static str {
    match command {
        Command::Select => "SELECT",
        Command::Insert => "INSERT",
        Command::Update => "UPDATE",
        Command::Delete => "DELETE",
    }
}

impl Privilege {
    pub(crate) fn keyword(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
            Self::References => "REFERENCES",
            Self::Trigger => "TRIGGER",
            Self::Maintain => "MAINTAIN",
            Self::Usage => "USAGE",
        }
    }
}
