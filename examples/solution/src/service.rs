//! What every service starts with. All that it knows is in its environment; nothing here is about clinics.

use std::collections::BTreeMap;
use std::io::{Read, stdin};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use deadpool_postgres::Pool;
use hyper_util::service::TowerToHyperService;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use zk_creds::postgres::{Handover, HttpsRenewer, Keeper, KeeperConfig, Login, acting_as, pool_builder};
use zk_creds::signed::TokenVerifier;
use zk_creds::tls::https::{self, ServerOptions};
use zk_creds::tls::{Clients, Material, Tls};
use zk_creds::{Environment, Manifest};
use zk_crypto::{BlindIndex, Encryptor, EncryptorConfig, PostgresKeyStore, ScopedKeyStore};
use zk_kms::{KeyUri, OpenConfig};
use zk_policy::pg::{self, ClaimKey};
use zk_policy::{Declared, Document, Session};

use crate::fault::chain;
use crate::http::Http;
use crate::{Result, records};

pub const POLICY: &str = include_str!("../clinic.policy");
pub const MANIFEST: &str = include_str!("../manifest.json");
/// What identities begin with: `spiffe://clinic.example/rest`.
pub const TRUST_DOMAIN: &str = "clinic.example";
/// The role with which services read wrapped data keys.
pub const KEY_READER: &str = "clinic_keys";
/// How often a service looks for another certificate.
pub const LOOK: Duration = Duration::from_secs(1);
/// How long a data key is kept in memory, and so how soon a rotation is noticed. Seconds, so that the drive need not wait.
pub const KEY_AGE: Duration = Duration::from_secs(3);
/// Connections of each role of a service.
const CONNECTIONS: usize = 8;

pub struct Service {
    pub declared: Declared,
    pub claim_key: ClaimKey,
    pub tokens: TokenVerifier,
    pub encryptor: Encryptor,
    pub emails: BlindIndex,
    /// Asks other services, with our certificate.
    pub peers: Http,
    addresses: BTreeMap<String, String>,
    pools: BTreeMap<String, Pool>,
    tls: Tls,
}

impl Service {
    pub async fn start(name: &str) -> Result<Arc<Self>> {
        let environment = Environment::take(&[
            "CLINIC_TLS",
            "CLINIC_TOKEN_KEY",
            "CLINIC_CLAIM_KEY",
            "CLINIC_KEY_RING",
            "CLINIC_KEY_RING_PASSPHRASE",
            "ZK_KMS_URI",
            "ZK_SCOPES",
        ])?;
        let text = |name| environment.get(name).map(ExposeSecret::expose_secret);
        let tls = follow(Path::new(text("CLINIC_TLS")?))?;

        // The database: a login that renews and replaces itself, and a pool for each role that the service may act as.
        let login = Login::from_environment()?;
        let term = login.term().ok_or("the login has no lease")?;
        let renewer = Arc::new(HttpsRenewer::from_environment(&tls, &login)?);
        let logins = Arc::new(Handover::new(login));
        tokio::spawn(tell(Keeper::start(logins.clone(), term, renewer, KeeperConfig::default())));
        let declared = Declared::from(&Document::parse(POLICY)?);
        let manifest = Manifest::from_json(MANIFEST)?;
        let ours = manifest.service(name)?;
        let mut pools = BTreeMap::new();
        for role in declared.roles() {
            let database_role = Session::new(&declared, role)?.database_role().to_owned();
            if ours.roles.contains(&database_role) {
                let pool = pool_builder(logins.clone()).max_size(CONNECTIONS);
                pools.insert(role.to_owned(), pool.post_create(pg::enters(&declared, role)?).build()?);
            }
        }

        // Sealing: wrapped data keys from the database, unwrapped by the KMS, of the scopes in the manifest only.
        let passphrase = environment.get("CLINIC_KEY_RING_PASSPHRASE")?.clone();
        let ring = OpenConfig::new().key_ring(text("CLINIC_KEY_RING")?, passphrase);
        let kms = zk_kms::open(&KeyUri::parse(text("ZK_KMS_URI")?)?, &ring).await?;
        let keys = pool_builder(logins).max_size(2).post_create(acting_as(KEY_READER)).build()?;
        let keys = ScopedKeyStore::new(Arc::new(PostgresKeyStore::new(keys)), text("ZK_SCOPES")?.split(' '))?;

        let mut addresses = BTreeMap::new();
        for peer in &ours.peers {
            let variable = address_of(peer);
            let address = Environment::take(&[&variable])?.get(&variable)?.expose_secret().to_owned();
            addresses.insert(peer.clone(), address);
        }
        Ok(Arc::new(Self {
            declared,
            claim_key: ClaimKey::from_text(environment.get("CLINIC_CLAIM_KEY")?)?,
            tokens: TokenVerifier::new("clinic", name, [text("CLINIC_TOKEN_KEY")?.parse()?]),
            encryptor: Encryptor::new(kms, Arc::new(keys), EncryptorConfig::default().max_age(KEY_AGE))?,
            emails: records::emails()?,
            peers: Http::new(&tls)?,
            addresses,
            pools,
            tls,
        }))
    }

    /// Serves until whoever started the service closes its standard input, or ends. Says on which port.
    pub async fn serve(self: Arc<Self>, routes: Router<Arc<Self>>, clients: Clients) -> Result<()> {
        serve(&self.tls, routes.with_state(self.clone()), clients).await
    }

    /// The connections that act as a role of the policy; none for a role that is not in the service's manifest.
    pub fn pool(&self, role: &str) -> Option<&Pool> {
        self.pools.get(role)
    }

    /// Where a service is that the manifest lists among our peers.
    pub fn address(&self, peer: &str) -> Option<&str> {
        self.addresses.get(peer).map(String::as_str)
    }
}

/// The variable in which the address of a service arrives.
pub fn address_of(service: &str) -> String {
    format!("CLINIC_{}_URL", service.to_ascii_uppercase())
}

/// Serves on a free port of the loopback address and says which, in one line.
pub async fn serve(tls: &Tls, routes: Router, clients: Clients) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let mut options = ServerOptions::default();
    options.clients = clients;
    // Seconds, so that every client meets the next certificate while the drive looks on.
    (options.max_age, options.drain) = (Duration::from_secs(2), Duration::from_secs(1));
    Ok(https::serve(listener, tls, options, TowerToHyperService::new(routes), stopped()).await?)
}

/// TLS with the files of a directory, which whoever deploys may replace at any time.
pub fn follow(directory: &Path) -> Result<Tls> {
    let directory = directory.to_owned();
    let read = move || -> Result<Material> {
        let [roots, chain, key, refused] =
            ["ZK_TLS_ROOTS", "ZK_TLS_CHAIN", "ZK_TLS_KEY", "ZK_TLS_REFUSED"].map(|name| directory.join(name));
        Ok(Material::from_files(&roots, &chain, &key)?.refusing(std::fs::read(refused)?))
    };
    let tls = Tls::new(read()?)?;
    let following = tls.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            // In the middle of a change the files do not fit: the last good stays, and the next look finds the rest.
            let reloaded = read().map(|material| following.reload(material));
            drop(reloaded);
        }
    });
    Ok(tls)
}

/// Keeps the login, and logs what keeps it from being renewed.
async fn tell(mut keeper: Keeper) {
    loop {
        let kept = keeper.next().await;
        if let Some(failure) = kept.failure {
            eprintln!("the login is not renewed: {}", chain(&failure));
        }
        if kept.ended {
            return;
        }
    }
}

/// Completes when standard input ends. A thread of its own: the runtime would wait for one of its own when it ends.
async fn stopped() {
    let (tell, told) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        while matches!(stdin().read(&mut [0; 64]), Ok(1..)) {}
        drop(tell);
    });
    drop(told.await);
}
