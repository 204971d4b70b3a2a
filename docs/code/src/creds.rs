//! Pages about zk-creds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Client;
use zk_creds::postgres::{
    CertificateRequest, Endpoint, Handover, HttpsCertifier, HttpsRenewer, Issuer, IssuerConfig, Keeper,
    KeeperConfig, Lifetimes, Login,
};
use zk_creds::secret::Secrets;
use zk_creds::signed::{SignedClaims, SigningKey, TokenSigner, TokenVerifier};
use zk_creds::tls::{Authority, FollowConfig, Material, MaterialFiles, Names, Servers, Tls, https};
use zk_creds::{Environment, Manifest, Service, Term};
use zk_crypto::{KeyStore, ScopedKeyStore};

use crate::Run;

async fn deploying(mut client: Client, manifest: Manifest, endpoint: Endpoint) -> Run {
    block!("credentials.1");
    Ok(())
}

fn in_the_service() -> Run {
    block!("credentials.2");
    Ok(())
}

fn renewing(tls: Tls) -> Run {
    block!("credentials.3");
    Ok(())
}

async fn keeping_a_certificate(material: Material, term: Term, database_root: String) -> Run {
    block!("credentials.4");
    Ok(())
}

async fn following_files() -> Run {
    block!("credentials.5");
    Ok(())
}

async fn certificates(
    (issuer, mut client, authority): (Issuer, Client, Authority),
    (pem, next_pem): (String, String),
    lifetimes: Lifetimes,
    (tls, material): (Tls, Material),
) -> Run {
    block!("credentials.6");
    Ok(())
}

async fn loans(
    (issuer, mut client): (Issuer, Client),
    (secrets, service): (Secrets, &Service),
    mut environment: Environment,
) -> Run {
    block!("credentials.7");
    Ok(())
}

fn signed_tokens(stored: SecretString) -> Run {
    block!("credentials.8");
    Ok(())
}

fn scopes(store: Arc<dyn KeyStore>) -> Run {
    block!("manifest.1");
    Ok(())
}

async fn readme_deploying(mut client: Client, endpoint: Endpoint) -> Run {
    block!("zk-creds.1");
    Ok(())
}

async fn readme_in_the_service() -> Run {
    block!("zk-creds.2");
    Ok(())
}
