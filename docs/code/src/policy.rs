//! Pages about zk-policy.

use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use zk_policy::pg::{self, ApplyConfig, ClaimKey};
use zk_policy::{Command, Consent, Document, Policy, Session, Value, check};

use crate::Run;

type Request<'a> = (&'a str, &'a str);

async fn sessions_on_a_connection(
    text: String,
    (mut client, config, tls): (Client, Config, MakeRustlsConnect),
    (tenant, user): Request<'_>,
) -> Run {
    block!("sessions.1");
    Ok(())
}

async fn sessions_signed(
    text: String,
    (mut client, config, tls): (Client, Config, MakeRustlsConnect),
    (tenant, user): Request<'_>,
    key: ClaimKey,
) -> Run {
    block!("sessions.1.or");
    Ok(())
}

fn sessions_in_process(policy: Policy, session: Session, row: [Value<'_>; 3]) -> Run {
    block!("sessions.2");
    Ok(())
}

async fn readme_at_deployment(mut client: Client) -> Run {
    block!("zk-policy.1");
    Ok(())
}

async fn readme_in_the_service(mut client: Client, policy: Policy, (tenant, user): Request<'_>) -> Run {
    block!("zk-policy.2");
    Ok(())
}
