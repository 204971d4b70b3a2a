//! Keeps a service's login and its certificate alive while the service runs: renewed in time, replaced at their maximum,
//! without a restart.

#[cfg(feature = "https")]
mod answer;
#[cfg(all(feature = "authority", feature = "https"))]
mod certificate;
#[cfg(feature = "https")]
mod client;
mod keeper;
#[cfg(feature = "https")]
mod service;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::Client;
use uuid::Uuid;

#[cfg(all(feature = "authority", feature = "https"))]
pub use self::certificate::{CertificateRenewer, Certified, HttpsCertifier};
#[cfg(feature = "https")]
pub use self::client::HttpsRenewer;
#[cfg(feature = "https")]
pub(super) use self::client::{RENEW_IDENTITY, RENEW_URL};
use self::keeper::Keep;
pub use self::keeper::{Keeper, KeeperConfig, Kept};
#[cfg(all(feature = "authority", feature = "https"))]
pub use self::service::DirectCertifier;
#[cfg(feature = "https")]
pub use self::service::RenewalService;
use super::issuer::Issuer;
use super::login::{Endpoint, Login};
use super::source::Handover;
use crate::credential::Term;
use crate::error::{Error, ErrorKind};
use crate::manifest::Service;

/// Renews and rotates the login of one service.
///
/// Whoever implements it is bound to that service: it cannot be asked for the lease of another.
#[async_trait]
pub trait Renewer: fmt::Debug + Send + Sync {
    /// Lengthens the lease, up to its maximum.
    ///
    /// # Errors
    /// [`ErrorKind::Expired`] when it has ended or was revoked, after which nothing brings it back; [`ErrorKind::Denied`]
    /// when it is another service's; whatever keeps the issuer from being reached.
    async fn renew(&self, lease: Uuid) -> Result<Term, Error>;

    /// Issues the next login beside the present one, which ends after a grace.
    ///
    /// # Errors
    /// As [`renew`](Self::renew); [`ErrorKind::Conflict`] within the grace of an earlier rotation.
    async fn rotate(&self, lease: Uuid) -> Result<(Term, Login), Error>;
}

/// Renews as the issuer itself: for a program that deploys and runs its services in one process.
#[derive(Debug)]
pub struct DirectRenewer {
    issuer: Issuer,
    login: Login,
    endpoint: Endpoint,
    service: Service,
    grace: Duration,
}

impl DirectRenewer {
    /// Connects with the issuer's own `login` each time. `endpoint` is the service's, and `grace` the time that an old login
    /// lives on: longer than a connection is held.
    #[must_use]
    pub fn new(issuer: Issuer, login: Login, endpoint: Endpoint, service: Service, grace: Duration) -> Self {
        Self { issuer, login, endpoint, service, grace }
    }
}

#[async_trait]
impl Renewer for DirectRenewer {
    async fn renew(&self, lease: Uuid) -> Result<Term, Error> {
        let mut client = connect(&self.login).await?;
        let renewed = self.issuer.renew_own(&mut client, &self.service.name, lease).await?;
        Ok(Term::from(&renewed))
    }

    async fn rotate(&self, lease: Uuid) -> Result<(Term, Login), Error> {
        let mut client = connect(&self.login).await?;
        let credential = self.issuer.rotate_own(&mut client, &self.service, lease, self.grace).await?;
        Ok((Term::from(credential.lease()), Login::of(self.endpoint.clone(), &credential)))
    }
}

/// Connects as the issuer. SECURITY: that the issuer's own login has ended says nothing of the lease that is renewed, which
/// whoever keeps it must not take for ended.
async fn connect(login: &Login) -> Result<Client, Error> {
    let unreachable = "the issuer cannot log into its database; the lease is as it was";
    login.connect().await.map_err(|e| Error::new(ErrorKind::Unavailable, unreachable).because(e))
}

impl Keeper {
    /// Begins to keep the login that `handover` holds, whose lease is `term`, on the current tokio runtime. Another login is
    /// handed to whoever follows `handover`, such as a [`pool`](super::pool).
    #[must_use]
    pub fn start(
        handover: Arc<Handover>,
        term: Term,
        renewer: Arc<dyn Renewer>,
        config: KeeperConfig,
    ) -> Self {
        Self::keep(OneLogin { handover, renewer }, term, config)
    }
}

#[derive(Debug)]
struct OneLogin {
    handover: Arc<Handover>,
    renewer: Arc<dyn Renewer>,
}

#[async_trait]
impl Keep for OneLogin {
    fn what(&self) -> &'static str {
        "login"
    }

    async fn renew(&self, lease: Uuid) -> Result<Term, Error> {
        self.renewer.renew(lease).await
    }

    async fn rotate(&self, lease: Uuid) -> Result<Term, Error> {
        let (term, login) = self.renewer.rotate(lease).await?;
        self.handover.replace(login);
        Ok(term)
    }
}
