//! Which roles a service may be able to become.

use std::collections::{BTreeMap, BTreeSet};

use postgres_protocol::escape::escape_identifier;

use super::estate;
use super::question::{REACHED, text, texts};
use super::transaction::{Server, Transaction};
use crate::error::{Error, ErrorKind};

/// The roles that services may become and all that they are members of, whatever a membership's options are.
#[derive(Debug)]
pub(super) struct Reached(BTreeMap<String, Role>);

impl Reached {
    /// Looks where these roles lead.
    pub(super) async fn from(
        transaction: &Transaction<'_>,
        solution: &str,
        wanted: &[&str],
    ) -> Result<Self, Error> {
        if wanted.is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        reached(transaction, &estate::name(solution), wanted).await.map(Self)
    }

    /// Refuses roles that do not exist, and roles that no service should be able to become, directly or through others.
    pub(super) fn check<'a>(
        &self,
        server: &Server,
        wanted: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Error> {
        for name in wanted {
            let Some(role) = self.0.get(name) else {
                let message =
                    format!("there is no role {name}; apply the policy first, or correct the manifest");
                return Err(Error::new(ErrorKind::Missing, message));
            };
            if let Some((path, power)) = first_powerful(&self.0, name) {
                let subject = match path.as_slice() {
                    [_] | [] => format!("role {name}"),
                    _ => format!("role {name} leads to a role ({}) that", path.join(" → ")),
                };
                let message = format!("{subject} {power}: a service must not be able to become it");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            // Before PostgreSQL 16, whoever may create roles may also grant them.
            if server.major >= 16 && !role.grantable {
                let message = format!(
                    "the issuer may not grant role {name}; as who may, GRANT {} TO {} WITH ADMIN OPTION",
                    escape_identifier(name),
                    escape_identifier(&role.issuer),
                );
                return Err(Error::new(ErrorKind::Denied, message));
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Role {
    grantable: bool,
    issuer: String,
    power: Option<String>,
    memberships: Vec<String>,
}

/// The shortest way from a role to one with powers, and what these are.
fn first_powerful(roles: &BTreeMap<String, Role>, start: &str) -> Option<(Vec<String>, String)> {
    let mut seen = BTreeSet::from([start.to_owned()]);
    let mut paths = vec![vec![start.to_owned()]];
    while !paths.is_empty() {
        let mut longer = Vec::new();
        for path in paths {
            let Some(role) = path.last().and_then(|name| roles.get(name)) else { continue };
            if let Some(power) = &role.power {
                return Some((path, power.clone()));
            }
            for next in role.memberships.iter().filter(|name| seen.insert((*name).clone())) {
                longer.push(path.iter().chain([next]).cloned().collect());
            }
        }
        paths = longer;
    }
    None
}

async fn reached(
    transaction: &Transaction<'_>,
    estate: &str,
    wanted: &[&str],
) -> Result<BTreeMap<String, Role>, Error> {
    let rows = REACHED.ask(transaction, &[texts(wanted), text(estate)]).await?;
    let mut roles = BTreeMap::new();
    for row in &rows {
        let role = Role {
            power: row.try_get(1)?,
            memberships: row.try_get(2)?,
            grantable: row.try_get(3)?,
            issuer: row.try_get(4)?,
        };
        roles.insert(row.try_get(0)?, role);
    }
    Ok(roles)
}
