//! Stored secrets that services were given, and which of them have to be replaced.
//!
//! A stored secret, such as the key of a payment provider, does not end when the lease of who was given it does: it is known.
//! So a loan remembers which version of it who has seen, and a loan that is revoked says that the version has to go.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::audit::Action;
use super::grants::{Draft, GrantKind, LEASE, Lifetimes, Stored};
use super::issuer::Issuer;
use crate::credential::Lease;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::manifest::Service;
use crate::secret::{SecretName, Secrets, Stage, Version};

/// A secret whose current version is known to who should no longer know it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exposed {
    /// The secret.
    pub name: SecretName,
    /// The version, which is current.
    pub version: Version,
    /// The loans of it that were revoked.
    pub loans: Vec<Lease>,
}

/// What the table says of a loan.
#[derive(Serialize, Deserialize)]
struct Detail {
    version: String,
}

impl Issuer {
    /// Gives a service the current versions of the secrets that its manifest declares, in the variables that it names, and
    /// records under leases of the service's lifetimes that it has them: all of them, or none.
    ///
    /// [`Environment::add_secrets`] does the same without leases.
    ///
    /// # Errors
    /// What the store says, such as [`ErrorKind::Missing`]; [`ErrorKind::Invalid`] for a variable that is none;
    /// [`ErrorKind::Denied`] when the tables are not the issuer's; those of the connection.
    pub async fn lend_secrets(
        &self,
        client: &mut Client,
        secrets: &Secrets,
        service: &Service,
        environment: &mut Environment,
    ) -> Result<Vec<Lease>, Error> {
        service.validate()?;
        let mut found = Vec::new();
        for (variable, name) in &service.secrets {
            found.push((variable, name, secrets.read(&SecretName::new(name)?, Stage::Current).await?));
        }
        let lifetimes = Lifetimes {
            lifetime: Duration::from_secs(service.lifetime_seconds),
            max_lifetime: Duration::from_secs(service.max_lifetime_seconds),
        };
        let (transaction, _) = self.begin_to_issue(client).await?;
        let mut loans = Vec::with_capacity(found.len());
        for (_, name, secret) in &found {
            let detail = &Detail { version: secret.version().to_string() };
            let (kind, service) = (GrantKind::Secret, service.name.as_str());
            let draft = Draft { kind, service, name, hash: None, detail, lifetimes, fixed: None };
            loans.push(self.grant(&transaction, draft, Action::Issue).await?);
        }
        transaction.commit().await?;
        for (variable, _, secret) in found {
            environment.set(variable, secret.value().clone())?;
        }
        Ok(loans)
    }

    /// The secrets of which a revoked loan, such as that of a service that is no longer deployed, has seen the version that
    /// is still current: whoever held it may use it until it is replaced, where it is from and in the store.
    ///
    /// A secret that is no longer in the store is not among them.
    ///
    /// # Errors
    /// What the store says; [`ErrorKind::Denied`] when the tables are not the issuer's; those of the connection.
    pub async fn secrets_to_rotate(
        &self,
        client: &mut Client,
        secrets: &Secrets,
    ) -> Result<Vec<Exposed>, Error> {
        let (transaction, _) = self.begin(client).await?;
        let rows = transaction
            .query_typed(
                &format!(
                    "SELECT {LEASE}, detail FROM zk.grants
                     WHERE solution = $1 AND kind = 'secret' AND revoked_at IS NOT NULL ORDER BY name, service, generation"
                ),
                &[(&self.solution, Type::TEXT)],
            )
            .await?;
        drop(transaction);
        let mut seen: BTreeMap<String, Vec<Stored<Detail>>> = BTreeMap::new();
        for row in &rows {
            let stored: Stored<Detail> = Stored::from_row(row)?;
            seen.entry(stored.lease.login.clone()).or_default().push(stored);
        }
        let mut exposed = Vec::new();
        for (name, loans) in seen {
            let name = SecretName::new(&name)?;
            let version = match secrets.versions(&name).await {
                Ok(versions) => versions.current,
                Err(error) if error.kind() == ErrorKind::Missing => continue,
                Err(error) => return Err(error),
            };
            let of_it =
                |loan: Stored<Detail>| (loan.detail.version == version.as_str()).then_some(loan.lease);
            let loans: Vec<Lease> = loans.into_iter().filter_map(of_it).collect();
            if !loans.is_empty() {
                exposed.push(Exposed { name, version, loans });
            }
        }
        Ok(exposed)
    }
}
