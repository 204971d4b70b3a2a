//! The catalog of a live database as data, and a policy's own objects in the server's spelling.

mod attach;
mod defaults;
mod exposed;
mod roles;
mod schema;
mod settle;
mod tables;

use tokio_postgres::{Row, Transaction};

pub(super) use self::attach::attach;
pub(super) use self::schema::LEADING;
pub use self::schema::read_schema;
pub(super) use self::settle::settle;
use super::{Error, ErrorKind, owner, signed};
use crate::catalog::State;
use crate::ir::Policy;
use crate::schema::QualifiedName;

/// Makes names mean the server's own objects: somebody who may create objects in a schema could put better-matching
/// operators and functions on the search path, and they would run with our rights (CVE-2018-1058). It also makes the
/// server's spelling of expressions one.
///
/// The planner takes catalog queries for expensive ones, and compiling them takes longer than running them: no JIT.
pub(super) async fn pin_search_path(transaction: &Transaction<'_>) -> Result<(), Error> {
    Ok(transaction.batch_execute("SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL jit = off").await?)
}

/// Who owns the policy's tables.
async fn owners(transaction: &Transaction<'_>, policy: &Policy) -> Result<Vec<String>, Error> {
    let (schemas, tables) = name_arrays(policy.tables());
    let rows = transaction
        .query(
            "SELECT DISTINCT pg_get_userbyid(c.relowner)::text FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
             JOIN pg_namespace n ON n.nspname = wanted.schema
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name",
            &[&schemas, &tables],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Refuses to plan a policy with signed claims for a database that cannot verify them, or no longer does.
pub(super) async fn check_signing(transaction: &Transaction<'_>, policy: &Policy) -> Result<(), Error> {
    let owners = owners(transaction, policy).await?;
    let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
    let found = owner::check_owner(transaction, signed::KEYS, &signed::FUNCTIONS, &owners).await?;
    let functions = transaction
        .query(
            "SELECT oid::regprocedure::text, prosrc,
                    prosecdef AND provolatile = 's' AND proconfig = ARRAY['search_path=pg_catalog, pg_temp']
             FROM pg_proc WHERE oid IN (to_regprocedure('zk.claim(text)'), to_regprocedure('zk.signed()'))",
            &[],
        )
        .await?;
    let mut whole = functions.len() == signed::FUNCTIONS.len();
    for row in &functions {
        whole &= signed::is_installed_body(row.try_get(0)?, row.try_get(1)?)
            && row.try_get::<_, Option<bool>>(2)? == Some(true);
    }
    let message = match (found, functions.is_empty()) {
        (true, false) if whole => return Ok(()),
        (_, true) | (false, _) => {
            "the policy says `claims signed`, and this database cannot verify them; call install_signing first"
        }
        (true, false) => {
            "zk.claim and zk.signed are not the functions of this version that verify claims: after an upgrade call install_signing; otherwise find out first who changed them"
        }
    };
    Err(Error::new(ErrorKind::MissingSigning, message))
}

/// Refuses to plan a policy with masks that hash for a database that has no place for their keys, or somebody else's.
pub(super) async fn check_mask_keys(transaction: &Transaction<'_>, policy: &Policy) -> Result<(), Error> {
    let owners = owners(transaction, policy).await?;
    let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
    if owner::check_owner(transaction, "mask_keys", &[], &owners).await? {
        return Ok(());
    }
    let message = "the policy masks with a hash, and this database has no place for its key; call install_mask_keys first";
    Err(Error::new(ErrorKind::MissingMaskKeys, message))
}

/// What the database holds of all that `wanted` speaks of, and what the policy's roles hold anywhere else.
pub(super) async fn catalog(
    transaction: &Transaction<'_>,
    policy: &str,
    wanted: &State,
) -> Result<State, Error> {
    let mut state = State { roles: roles::roles(transaction, policy, wanted).await?, ..State::default() };
    state.alongside.clone_from(&wanted.alongside);
    state.others = roles::others(transaction, wanted).await?;
    let names = tables::flags(transaction, policy, wanted, &mut state).await?;
    if let Some(gone) = wanted.tables.keys().find(|name| !state.tables.contains_key(*name)) {
        return Err(Error::missing_table(gone));
    }
    if let Some((table, owner)) = owned_by_role(wanted, &state) {
        return Err(Error::owned_by_role(table, owner));
    }
    tables::policies(transaction, &names, &mut state).await?;
    tables::checks(transaction, &names, &mut state).await?;
    roles::memberships(transaction, wanted, &mut state).await?;
    tables::grants(transaction, &names, &mut state).await?;
    roles::usage(transaction, &mut state).await?;
    tables::views(transaction, wanted, &mut state).await?;
    state.exposed = exposed::exposed(transaction, &names, &wanted.schemas, &state).await?;
    state.exposed.extend(defaults::opening(transaction, wanted, &state).await?);
    state.strangers = exposed::strangers(transaction, wanted, &state).await?;
    state.born_with = defaults::born_with(transaction, wanted).await?;
    Ok(state)
}

/// A table that belongs to a role of the policy, and that role.
fn owned_by_role<'a>(wanted: &'a State, state: &'a State) -> Option<(&'a QualifiedName, &'a str)> {
    let owned = wanted.tables.keys().filter_map(|name| Some((name, state.tables.get(name)?.owner.as_str())));
    owned.into_iter().find(|(_, owner)| state.roles.contains_key(*owner))
}

fn name(row: &Row) -> Result<QualifiedName, Error> {
    Ok(QualifiedName { schema: row.try_get(0)?, table: row.try_get(1)? })
}

fn name_arrays<'a>(names: impl IntoIterator<Item = &'a QualifiedName>) -> (Vec<&'a str>, Vec<&'a str>) {
    names.into_iter().map(|n| (n.schema.as_str(), n.table.as_str())).unzip()
}
