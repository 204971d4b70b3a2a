//! What a deployment has: the server with the policy on it, keys, secrets, and an issuer of logins.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use testkit::{Cluster, ClusterConfig, Database};
use tokio_postgres::Client;
use zk_creds::postgres::{Endpoint, Issuer, IssuerConfig, Login};
use zk_creds::secret::{MemorySecrets, SecretName, Secrets};
use zk_creds::signed::{PublicKey, SigningKey};
use zk_creds::{Environment, Manifest};
use zk_crypto::{Access, Encryptor, EncryptorConfig, PostgresKeyStore, Scope};
use zk_kms::{LocalKms, PassphraseCost};
use zk_policy::pg::{self, ClaimKey};
use zk_policy::{Consent, Document, Policy, check};

use super::processes::SERVICES;
use super::table::ensure;
use super::users::{SignIn, TENANTS};
use crate::service::{Ages, KEY_READER, MANIFEST, POLICY};
use crate::{Result, records};

/// The role that owns the tables. Nobody logs in as it.
const OWNER: &str = "clinic_owner";
/// Who deploys: may create roles, is a member of the owner, is no superuser.
const DEPLOYER: &str = "clinic_deployer";
/// The secret that signs claims.
pub const CLAIMS: &str = "claim-key";
/// How long an old login lives beside its successor: longer than a connection is held.
pub const GRACE: Duration = Duration::from_secs(5);

pub struct World {
    pub database: Database,
    pub deployer: Client,
    pub manifest: Manifest,
    pub issuer: Issuer,
    pub secrets: Secrets,
    pub kms: Arc<LocalKms>,
    /// The deployment's: it may create and rotate keys.
    pub encryptor: Encryptor,
    pub policy: Policy,
    pub ages: Ages,
    pub sign_in: Arc<SignIn>,
    /// What signed before it was replaced.
    pub former: Option<SignIn>,
    /// With which tokens are verified, the oldest first.
    pub token_keys: Vec<PublicKey>,
    /// The name of the key that signs claims.
    pub claim_key: String,
    /// Key ring, certificates and logs.
    pub folder: tempfile::TempDir,
    password: String,
}

impl World {
    /// Creates everything. `lifetimes`: how long the login of a service lives and how far it can be renewed, in seconds.
    pub async fn create(config: ClusterConfig, lifetimes: (u64, u64), ages: Ages) -> Result<Self> {
        let cluster = tokio::task::spawn_blocking(|| Cluster::start(config)).await??;
        let database = cluster.database().await?;
        let password = testkit::unique_name("deployer");
        let roles = format!(
            "CREATE ROLE {OWNER} NOLOGIN;
             CREATE ROLE {DEPLOYER} LOGIN CREATEROLE PASSWORD '{password}' IN ROLE {OWNER};
             ALTER DATABASE {} OWNER TO {OWNER}",
            database.name()
        );
        database.execute(&roles).await?;
        let mut deployer = database.connect_as(DEPLOYER, &password).await?;
        let schema = format!("SET ROLE {OWNER};\n{}\nRESET ROLE;", include_str!("../../schema.sql"));
        deployer.batch_execute(&schema).await?;

        let claim_key = ClaimKey::generate()?;
        let policy = apply(&mut deployer, &claim_key).await?;
        let folder = tempfile::tempdir()?;
        let passphrase = SecretString::from(testkit::unique_name("passphrase"));
        let ring = folder.path().join("clinic.keyring");
        let kms = Arc::new(LocalKms::create(&ring, "clinic", &passphrase, PassphraseCost::default())?);
        PostgresKeyStore::install(&deployer).await?;
        deployer.batch_execute(&format!("CREATE ROLE {KEY_READER} NOLOGIN")).await?;
        PostgresKeyStore::grant(&deployer, KEY_READER, Access::Read).await?;
        let store = Arc::new(PostgresKeyStore::new(database.pool(DEPLOYER, &password)));
        let encryptor = Encryptor::new(kms.clone(), store, EncryptorConfig::default().max_age(ages.key))?;
        for tenant in TENANTS {
            let scope = Scope::tenant(&tenant.to_string())?;
            encryptor.create_key(&scope).await?;
            records::emails()?.ensure_key(&encryptor, &scope).await?;
        }

        let secrets = Secrets::new(Arc::new(MemorySecrets::default()));
        secrets.create(&SecretName::new(CLAIMS)?, &claim_key.to_text()).await?;
        secrets.create(&SecretName::new("key-ring-passphrase")?, &passphrase).await?;
        let mut manifest = Manifest::from_json(MANIFEST)?;
        for service in
            manifest.services.iter_mut().filter(|service| SERVICES.contains(&service.name.as_str()))
        {
            (service.lifetime_seconds, service.max_lifetime_seconds) = lifetimes;
        }
        Issuer::install(&mut deployer).await?;
        let issuer = Issuer::new(&manifest, IssuerConfig::default())?;
        let signing_key = SigningKey::generate()?;
        let token_keys = vec![signing_key.public()];
        let sign_in = Arc::new(SignIn::new(signing_key)?);
        Ok(Self {
            database,
            deployer,
            manifest,
            issuer,
            secrets,
            kms,
            encryptor,
            policy,
            ages,
            sign_in,
            former: None,
            token_keys,
            claim_key: claim_key.id().to_owned(),
            folder,
            password,
        })
    }

    /// The keys of tokens, as services read them.
    pub fn token_keys(&self) -> SecretString {
        let keys: Vec<String> = self.token_keys.iter().map(ToString::to_string).collect();
        SecretString::from(keys.join("\n"))
    }

    /// Lends a service the secrets of its manifest as they are now.
    pub async fn lend(&mut self, service: &str) -> Result<Environment> {
        let mut lent = Environment::default();
        let Self { manifest, issuer, deployer, secrets, .. } = self;
        issuer.lend_secrets(deployer, secrets, manifest.service(service)?, &mut lent).await?;
        Ok(lent)
    }

    /// Where services find the database, and what proves that it is the right one.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: self.database.host().to_owned(),
            port: self.database.port(),
            database: self.database.name().to_owned(),
            root_certificate: self.database.cluster().ca_file(),
        }
    }

    /// The issuer's own login.
    pub fn deployer_login(&self) -> Login {
        Login::new(self.endpoint(), DEPLOYER, SecretString::from(self.password.as_str()))
    }
}

/// Checks, plans and applies the policy.
async fn apply(deployer: &mut Client, key: &ClaimKey) -> Result<Policy> {
    pg::install_signing(deployer).await?;
    pg::add_claim_key(deployer, key).await?;
    let policy = check(&Document::parse(POLICY)?, &pg::read_schema(deployer).await?)?;
    ensure(policy.warnings().is_empty(), policy.warnings().to_string())?;
    let plan = pg::plan(deployer, &policy).await?;
    pg::apply(deployer, plan.accept(Consent::Widening)?, &pg::ApplyConfig::default()).await?;
    Ok(policy)
}
