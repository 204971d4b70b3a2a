//! Deploying a manifest: what would change, shown first; then all of it in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::audit::{self, Action};
use super::grants::Held;
use super::issuer::{Issuer, Wanted, in_grace, roles_of};
use super::tables::{self, LEASE};
use super::transaction::Transaction;
use crate::credential::{Credential, Lease};
use crate::error::{Error, ErrorKind};
use crate::manifest::{Manifest, Service};

/// What deploying a manifest does, service by service. Printed, it is what somebody reads before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deployment {
    /// One step for each service of the manifest and for each that is no longer in it, by name.
    pub steps: Vec<Step>,
    /// The tokens, certificates and loans of services that are no longer in it, which are revoked.
    pub withdrawn: Vec<Held>,
}

/// One service, and what is done for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The service.
    pub service: String,
    /// What is done for it.
    pub change: Change,
}

/// What is done for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It has no live credential: one is issued.
    Issue,
    /// It has one that was issued for the same declaration: nothing is done.
    Keep(Lease),
    /// It was declared otherwise: one is issued, and the present one ends after [`IssuerConfig::handover`].
    ///
    /// [`IssuerConfig::handover`]: super::IssuerConfig::handover
    Reissue {
        /// The present one.
        lease: Lease,
        /// What is declared otherwise, such as `roles: a → a, b`.
        differences: Vec<String>,
    },
    /// It is no longer in the manifest: all that it has is revoked.
    Revoke(Vec<Lease>),
}

/// What one [`Issuer::deploy`] did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Deployed {
    /// The new credentials, in the order of the manifest.
    pub issued: Vec<Credential>,
    /// The leases that stay as they are.
    pub kept: Vec<Lease>,
    /// The leases of services that are declared otherwise, which end soon.
    pub ending: Vec<Lease>,
    /// The leases of removed services, which are closed.
    pub revoked: Vec<Lease>,
    /// The tokens, certificates and loans of removed services, which are revoked.
    pub withdrawn: Vec<Held>,
    /// Those of [`revoked`](Self::revoked) whose sessions or belongings are still there, with the reason:
    /// [`Issuer::reap`] tries again.
    pub unfinished: Vec<(Lease, Error)>,
}

impl Deployment {
    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.withdrawn.is_empty() && self.steps.iter().all(|step| matches!(step.change, Change::Keep(_)))
    }
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Step { service, change } in &self.steps {
            match change {
                Change::Issue => writeln!(f, "+ {service}: issue a login")?,
                Change::Keep(lease) => writeln!(f, "  {service}: keep {}", lease.login)?,
                Change::Reissue { lease, differences } => {
                    writeln!(f, "~ {service}: issue another login beside {}", lease.login)?;
                    for difference in differences {
                        writeln!(f, "    {difference}")?;
                    }
                }
                Change::Revoke(leases) => {
                    for lease in leases {
                        writeln!(f, "- {service}: revoke {}", lease.login)?;
                    }
                }
            }
        }
        for held in &self.withdrawn {
            writeln!(f, "- {}: revoke {held}", held.lease.service)?;
        }
        Ok(())
    }
}

impl Issuer {
    /// Says what [`deploy`](Self::deploy) would do now.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the manifest is, or is another solution's; [`ErrorKind::Missing`] when nothing is
    /// installed; [`ErrorKind::Denied`] when the tables are not the issuer's; those of the connection.
    pub async fn plan(&self, client: &mut Client, manifest: &Manifest) -> Result<Deployment, Error> {
        self.check(manifest)?;
        let (transaction, _) = self.begin(client).await?;
        self.plan_in(&transaction, manifest).await
    }

    /// Sees that each service of the manifest has a credential and that no other service has one, all in one
    /// transaction.
    ///
    /// Doing it again does nothing. A credential is handed out once: when the answer was lost, [`replace`](Self::replace)
    /// issues another.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] for a service that is declared otherwise within the grace of a rotation; as
    /// [`issue`](Self::issue) and [`plan`](Self::plan). Nothing was done then.
    pub async fn deploy(&self, client: &mut Client, manifest: &Manifest) -> Result<Deployed, Error> {
        let outcome = self.try_deploy(client, manifest).await;
        let mut deployed = self.record_refusal(client, self.entry(Action::Deploy, ""), outcome).await?;
        for lease in &deployed.revoked {
            if let Err(error) = self.finish(client, lease).await {
                deployed.unfinished.push((lease.clone(), error));
            }
        }
        Ok(deployed)
    }

    async fn try_deploy(&self, client: &mut Client, manifest: &Manifest) -> Result<Deployed, Error> {
        self.check(manifest)?;
        let roles = roles_of(&manifest.services);
        let (transaction, server, reached) = self.begin_to_create(client, &roles).await?;
        let (mut kept, mut ending, mut revoked) = (Vec::new(), Vec::new(), Vec::new());
        let mut wanted = Vec::new();
        let mut script = String::new();
        let Deployment { steps, withdrawn } = self.plan_in(&transaction, manifest).await?;
        self.withdraw(&transaction, &withdrawn).await?;
        for Step { service, change } in steps {
            match change {
                Change::Issue => wanted.push(manifest.service(&service)?),
                Change::Keep(lease) => kept.push(lease),
                Change::Reissue { lease, .. } => {
                    if self.live(&transaction, &service).await?.len() > 1 {
                        return Err(in_grace(&service));
                    }
                    wanted.push(manifest.service(&service)?);
                    script.push_str(&self.ending(&lease, self.config.handover)?);
                    ending.push(lease);
                }
                Change::Revoke(leases) => {
                    for lease in leases {
                        revoked.extend(self.close_in(&transaction, &server, lease.id).await?);
                    }
                }
            }
        }
        script.push_str(&audit::recording(&[self.entry(Action::Deploy, "")])?);
        transaction.batch_execute(&script).await?;
        let wanted = Wanted::new(wanted);
        reached.check(&server, wanted.roles())?;
        let (issued, script) = self.create(&transaction, wanted, Action::Issue).await?;
        transaction.commit_with(&script).await?;
        Ok(Deployed { issued, kept, ending, revoked, withdrawn, unfinished: Vec::new() })
    }

    fn check(&self, manifest: &Manifest) -> Result<(), Error> {
        manifest.validate()?;
        if manifest.solution == self.solution {
            return Ok(());
        }
        let message =
            format!("this issuer is for `{}`, the manifest for `{}`", self.solution, manifest.solution);
        Err(Error::new(ErrorKind::Invalid, message))
    }

    async fn plan_in(&self, transaction: &Transaction<'_>, manifest: &Manifest) -> Result<Deployment, Error> {
        let now = self.now();
        let rows = transaction
            .query_typed(
                &format!(
                    "SELECT {LEASE}, declared FROM zk.leases
                     WHERE solution = $1 AND state = 'active' AND expires_at > $2
                       -- One list for all of them: a server that has not counted its leases yet would look for each anew.
                       AND login = ANY (ARRAY(SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.rolcanlogin))
                     ORDER BY generation"
                ),
                &[(&self.solution, Type::TEXT), (&now, Type::TIMESTAMPTZ)],
            )
            .await?;
        let mut found: BTreeMap<String, Vec<(Lease, String)>> = BTreeMap::new();
        for row in &rows {
            let lease = tables::lease(row)?;
            found.entry(lease.service.clone()).or_default().push((lease, row.try_get(7)?));
        }
        let mut steps = Vec::new();
        for service in &manifest.services {
            let newest = found.remove(&service.name).and_then(|mut leases| leases.pop());
            steps.push(Step { service: service.name.clone(), change: change(service, newest) });
        }
        for (service, leases) in found {
            let leases = leases.into_iter().map(|(lease, _)| lease).collect();
            steps.push(Step { service, change: Change::Revoke(leases) });
        }
        let services: Vec<&str> = manifest.services.iter().map(|service| service.name.as_str()).collect();
        let withdrawn = self.left_behind(transaction, &services).await?;
        Ok(Deployment { steps, withdrawn })
    }
}

fn change(service: &Service, newest: Option<(Lease, String)>) -> Change {
    let Some((lease, declared)) = newest else { return Change::Issue };
    let differences = match serde_json::from_str::<Service>(&declared) {
        Ok(declared) => differences(&declared, service),
        Err(_) => vec!["what it was issued for cannot be read".to_owned()],
    };
    if differences.is_empty() { Change::Keep(lease) } else { Change::Reissue { lease, differences } }
}

/// What of a login would be different.
fn differences(old: &Service, new: &Service) -> Vec<String> {
    let Service {
        name: _,
        roles,
        peers: _,
        secrets: _,
        scopes: _,
        databases,
        search_path,
        lifetime_seconds,
        max_lifetime_seconds,
        connections,
        statement_timeout_ms,
        scram_iterations,
    } = old;
    let names = |databases: &BTreeMap<String, String>| {
        databases.values().collect::<BTreeSet<_>>().into_iter().cloned().collect::<Vec<_>>().join(", ")
    };
    let sorted = |roles: &[String]| {
        let mut roles = roles.to_vec();
        roles.sort();
        roles.dedup();
        roles.join(", ")
    };
    [
        ("roles", sorted(roles), sorted(&new.roles)),
        ("databases", names(databases), names(&new.databases)),
        ("search_path", search_path.join(", "), new.search_path.join(", ")),
        ("lifetime_seconds", lifetime_seconds.to_string(), new.lifetime_seconds.to_string()),
        ("max_lifetime_seconds", max_lifetime_seconds.to_string(), new.max_lifetime_seconds.to_string()),
        ("connections", connections.to_string(), new.connections.to_string()),
        ("statement_timeout_ms", statement_timeout_ms.to_string(), new.statement_timeout_ms.to_string()),
        ("scram_iterations", scram_iterations.to_string(), new.scram_iterations.to_string()),
    ]
    .into_iter()
    .filter(|(_, old, new)| old != new)
    .map(|(field, old, new)| format!("{field}: {old} → {new}"))
    .collect()
}
