//! What somebody on the network can try: without TLS, with certificates and logins that are for something else.

use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::routing::get;
use hyper_util::service::TowerToHyperService;
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::NoTls;
use tokio_postgres::config::{ChannelBinding, SslMode};
use zk_creds::ErrorKind;
use zk_creds::postgres::{HttpsRenewer, Renewer};
use zk_creds::tls::https::{self, ServerOptions};
use zk_creds::tls::{Authority, KeyRequest, Material, Names, Tls};

use super::identities::{Held, new_authority};
use super::processes::Solution;
use super::table::Table;
use super::users::{Clinic, TENANTS};
use crate::Result;
use crate::fault::sqlstate;
use crate::http::Http;

pub async fn try_everything(solution: &mut Solution, clinic: &Clinic, table: &mut Table) -> Result<()> {
    plaintext(solution, clinic, table).await?;
    certificates(solution, table).await?;
    revoked_certificate(solution, table).await
}

async fn plaintext(solution: &Solution, clinic: &Clinic, table: &mut Table) -> Result<()> {
    let desk = clinic.visitor(0, "receptionist")?;
    let mut stream = TcpStream::connect(("127.0.0.1", solution.port("rest")?)).await?;
    let token = desk.token()?;
    let token = token.expose_secret();
    let request =
        format!("GET /patients HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // Reset or closed: what matters is that nobody answers in HTTP.
    drop(stream.read_to_end(&mut answer).await);
    let outcome = if answer.starts_with(b"HTTP") { "an answer" } else { "no answer" };
    table.refused("HTTP without TLS", outcome, "no answer")?;

    let login = solution.credentials.get("worker").ok_or("the worker was not deployed")?;
    let mut config = solution.world.database.config(&login.lease().login, login.password().expose_secret());
    config.ssl_mode(SslMode::Disable).channel_binding(ChannelBinding::Disable);
    let outcome = config.connect(NoTls).await.err().and_then(|error| sqlstate(&error));
    table.refused("PostgreSQL without TLS", &outcome.unwrap_or_else(|| "a connection".to_owned()), "28000")
}

/// A certificate of some authority for some service.
fn signed_by(authority: &Authority, service: &str, roots: &str) -> Result<Tls> {
    let request = KeyRequest::generate()?;
    let names = Names::service(service).dns("localhost");
    let leaf = authority.sign(request.pem(), &names, Duration::from_secs(3600))?;
    Ok(Tls::new(Material::trusting(roots).proving(leaf.certificate.as_bytes(), request.key().clone()))?)
}

fn tls_of(solution: &Solution, held: &Held) -> Result<Tls> {
    Ok(Tls::new(held.material(&solution.identities.roots))?)
}

/// What the worker answers somebody who shows this.
async fn ask_worker(solution: &Solution, tls: &Tls) -> Result<String> {
    let [tenant, ..] = TENANTS;
    let request = Request::get(format!("{}/invoices/{tenant}", solution.url("worker")?));
    Ok(match Http::new(tls)?.send(request, None).await {
        Ok((status, _)) => status.as_str().to_owned(),
        Err(_) => "no connection".to_owned(),
    })
}

async fn certificates(solution: &mut Solution, table: &mut Table) -> Result<()> {
    let refused = "no connection";
    let roots = solution.identities.roots.clone();
    let nobody = Tls::new(Material::trusting(roots.as_str()))?;
    table.refused("a user calls the worker", &ask_worker(solution, &nobody).await?, refused)?;
    let report = {
        let world = &mut solution.world;
        solution.identities.sign(&world.issuer, &mut world.deployer, "report").await?
    };
    let report = tls_of(solution, &report)?;
    table.refused(
        "the report's certificate at the worker",
        &ask_worker(solution, &report).await?,
        refused,
    )?;
    let foreign = new_authority()?;
    // It trusts the right authority, and another one signed its own certificate.
    let both = format!("{roots}{}", foreign.certificate());
    let fake = signed_by(&foreign, "rest", &both)?;
    table.refused(
        "a certificate of another authority at the worker",
        &ask_worker(solution, &fake).await?,
        refused,
    )?;

    let rest = solution.identities.of("rest")?;
    let graphql = tls_of(solution, &solution.identities.of("graphql")?)?;
    let leases = solution.world.issuer.leases(&mut solution.world.deployer).await?;
    let lease = leases.iter().rfind(|lease| lease.service == "rest").ok_or("rest has no lease")?;
    let renewer = HttpsRenewer::new(&solution.renew_url, &graphql, solution.world.endpoint())?;
    let kind = |error: Option<ErrorKind>| error.map_or("it did".to_owned(), |kind| format!("{kind:?}"));
    let renewed = renewer.renew(lease.id).await.err().map(|error| error.kind());
    table.refused("graphql renews the login of rest", &kind(renewed), "Expired")?;
    let rotated = renewer.rotate(lease.id).await.err().map(|error| error.kind());
    table.refused("graphql takes the next login of rest", &kind(rotated), "Expired")?;

    // Somebody in the place of the worker, with a certificate of its own making.
    let impostor = signed_by(&foreign, "worker", &both)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://localhost:{}", listener.local_addr()?.port());
    let service = TowerToHyperService::new(Router::new().route("/", get(async || "welcome")));
    let serving = tokio::spawn(async move {
        https::serve(listener, &impostor, ServerOptions::default(), service, std::future::pending()).await
    });
    let asked = Http::new(&tls_of(solution, &rest)?)?.send(Request::get(url), None).await;
    serving.abort();
    table.refused(
        "somebody in the place of the worker",
        if asked.is_err() { refused } else { "believed" },
        refused,
    )
}

/// A stolen key and certificate are good until they are called back, whatever the certificate says.
async fn revoked_certificate(solution: &mut Solution, table: &mut Table) -> Result<()> {
    let stolen = solution.identities.of("graphql")?;
    let thief = tls_of(solution, &stolen)?;
    if ask_worker(solution, &thief).await? != "200" {
        return Err("the certificate was of no use before it was called back".into());
    }
    let Solution { world, identities, .. } = solution;
    identities.issue(&world.issuer, &mut world.deployer, &["graphql"]).await?;
    world.issuer.revoke_grant(&mut world.deployer, &stolen.lease).await?;
    identities.refuse_revoked(&world.issuer, &mut world.deployer).await?;
    tokio::time::sleep(world.ages.seen()).await;
    let outcome = ask_worker(solution, &thief).await?;
    table.refused("a stolen certificate after it was called back", &outcome, "no connection")?;
    let graphql = tls_of(solution, &solution.identities.of("graphql")?)?;
    match ask_worker(solution, &graphql).await?.as_str() {
        "200" => Ok(()),
        other => Err(format!("with its next certificate, graphql is answered {other}").into()),
    }
}
