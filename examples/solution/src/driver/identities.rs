//! Certificates of the services, each under a lease, in a directory of its own that its service follows, with the keys
//! that may be replaced.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use tokio_postgres::Client;
use zk_creds::postgres::{CertificateRequest, Issuer, Lifetimes};
use zk_creds::tls::{Authority, AuthorityConfig, KeyRequest, Material, Names};
use zk_creds::{Environment, Lease};

use crate::Result;
use crate::service::TRUST_DOMAIN;

const HOUR: Duration = Duration::from_secs(3600);

pub struct Identities {
    folder: PathBuf,
    authority: Authority,
    /// Whom everybody trusts, PEM: two while one replaces the other.
    pub roots: String,
    /// Whom nobody trusts although the authority signed it, PEM.
    refused: String,
    held: BTreeMap<String, Held>,
    /// What else a service finds in its directory.
    keys: BTreeMap<String, Environment>,
}

/// A service's certificate and key.
#[derive(Clone)]
pub struct Held {
    pub lease: Lease,
    chain: String,
    key: SecretString,
}

impl Held {
    pub fn material(&self, roots: &str) -> Material {
        Material::trusting(roots).proving(self.chain.as_bytes(), self.key.clone())
    }
}

pub fn new_authority() -> Result<Authority> {
    Ok(Authority::create(AuthorityConfig::new(TRUST_DOMAIN))?)
}

impl Identities {
    pub fn new(folder: PathBuf) -> Result<Self> {
        let authority = new_authority()?;
        let roots = authority.certificate().to_owned();
        Ok(Self {
            folder,
            authority,
            roots,
            refused: String::new(),
            held: BTreeMap::new(),
            keys: BTreeMap::new(),
        })
    }

    /// The directory that a service follows.
    pub fn directory(&self, service: &str) -> PathBuf {
        self.folder.join(service)
    }

    /// Issues a certificate for each service; [`publish`](Self::publish) hands them out.
    pub async fn issue(&mut self, issuer: &Issuer, client: &mut Client, services: &[&str]) -> Result<()> {
        for service in services {
            let held = self.sign(issuer, client, service).await?;
            self.held.insert((*service).to_owned(), held);
        }
        Ok(())
    }

    /// Replaces the keys of a service; [`publish`](Self::publish) hands them out.
    pub fn replace_keys(&mut self, service: &str, keys: Environment) {
        self.keys.insert(service.to_owned(), keys);
    }

    /// A certificate for a service.
    pub async fn sign(&self, issuer: &Issuer, client: &mut Client, service: &str) -> Result<Held> {
        let request = KeyRequest::generate()?;
        let lifetimes = Lifetimes { lifetime: HOUR, max_lifetime: 24 * HOUR };
        let names = Names::service(service).dns("localhost");
        let wanted = CertificateRequest { pem: request.pem().to_owned(), names, lifetimes };
        let (lease, leaf) = issuer.issue_certificate(client, &self.authority, &wanted).await?;
        Ok(Held { lease, chain: leaf.certificate, key: request.key().clone() })
    }

    /// What a service has now.
    pub fn of(&self, service: &str) -> Result<Held> {
        Ok(self.held.get(service).ok_or("the service has no certificate")?.clone())
    }

    /// Replaces the authority from now on, and returns the one before. Whom to trust is a step of its own.
    pub fn replace_authority(&mut self, authority: Authority) -> Authority {
        std::mem::replace(&mut self.authority, authority)
    }

    /// Calls certificates back that were revoked.
    pub async fn refuse_revoked(&mut self, issuer: &Issuer, client: &mut Client) -> Result<()> {
        self.refused = issuer.revocations(client, &self.authority, HOUR).await?;
        self.publish()
    }

    /// Writes what each service follows. Each file is whole at any time; a set that does not fit is not taken.
    pub fn publish(&self) -> Result<()> {
        for (service, held) in &self.held {
            let mut files = Environment::default();
            files.set("ZK_TLS_ROOTS", SecretString::from(self.roots.as_str()))?;
            files.set("ZK_TLS_CHAIN", SecretString::from(held.chain.as_str()))?;
            files.set("ZK_TLS_KEY", held.key.clone())?;
            files.set("ZK_TLS_REFUSED", SecretString::from(self.refused.as_str()))?;
            if let Some(keys) = self.keys.get(service) {
                for name in keys.names() {
                    files.set(name, keys.get(name)?.clone())?;
                }
            }
            files.write_directory(&self.directory(service))?;
        }
        Ok(())
    }
}
