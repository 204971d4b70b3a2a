//! Reads a live catalog and finds what weakens or slows a policy. A file for each topic, a few queries in each.

mod columns;
mod functions;
mod grants;
mod indexes;
mod keys;
mod masks;
mod policies;
mod relations;
mod roles;
mod scope;
mod server;
mod tree;

use std::cmp::Reverse;

use tokio_postgres::{Client, IsolationLevel};

use super::{Error, check_version, read};
use crate::ir::Policy;
use crate::lint::Finding;
use scope::Scope;

/// Finds what in a live database weakens or slows the policy: roles, grants, views, functions, keys and indexes that are
/// not part of it and so not part of a [`plan`](super::plan()).
///
/// The worst come first. It changes nothing, reads one snapshot, and needs no privilege on any table: catalogs are open
/// to everybody. Run it after applying; before, it also reports what the plan is about to repair.
///
/// # Errors
/// [`ErrorKind::TooOld`](super::ErrorKind::TooOld), [`ErrorKind::MissingTable`](super::ErrorKind::MissingTable),
/// [`ErrorKind::Unavailable`](super::ErrorKind::Unavailable), [`ErrorKind::Database`](super::ErrorKind::Database).
pub async fn lint(client: &mut Client, policy: &Policy) -> Result<Vec<Finding>, Error> {
    let version = check_version(client).await?;
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    read::pin_search_path(&transaction).await?;
    let scope = Scope::read(&transaction, policy, version).await?;
    let mut findings = server::vulnerabilities(version);
    findings.extend(server::presets(&transaction).await?);
    findings.extend(policies::find(&transaction, &scope).await?);
    findings.extend(roles::find(&transaction, &scope).await?);
    findings.extend(grants::find(&transaction, &scope).await?);
    let outside = scope.outside(&transaction).await?;
    findings.extend(relations::find(&outside, &scope));
    findings.extend(functions::find(&outside));
    findings.extend(masks::find(&transaction).await?);
    findings.extend(keys::find(&transaction, &scope).await?);
    findings.extend(columns::find(&transaction, &scope).await?);
    findings.extend(indexes::find(&transaction, &scope).await?);
    transaction.rollback().await?;
    findings.sort_by(|a, b| (Reverse(a.severity), a).cmp(&(Reverse(b.severity), b)));
    findings.dedup();
    Ok(findings)
}
