//! Pages and READMEs about all crates.

use tokio_postgres::Client;
use zk_creds::Manifest;
use zk_creds::postgres::{Issuer, IssuerConfig, Login};
use zk_crypto::{Encryptor, PostgresKeyStore, Scope};
use zk_policy::pg::{self, ApplyConfig};
use zk_policy::{Consent, Document, Session, check};

use crate::Run;

async fn getting_started_at_deployment(mut client: Client, manifest: Manifest) -> Run {
    block!("getting-started.1");
    Ok(())
}

async fn getting_started_in_the_service(
    document: Document,
    encryptor: Encryptor,
    place: zk_crypto::Context,
    (tenant, user, id): (&str, &str, i64),
) -> Run {
    block!("getting-started.2");
    Ok(())
}

async fn readme() -> Run {
    block!("README.1");
    Ok(())
}
