//! The worker: makes out invoices, and seals rows again when keys were rotated. Other services call it over mutual TLS;
//! users do not.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zk_creds::Manifest;
use zk_creds::tls::Clients;

use crate::Result;
use crate::caller::Caller;
use crate::fault::{Answer, Fault};
use crate::records::{self, EMAIL, RECIPIENT};
use crate::service::{MANIFEST, Service, TRUST_DOMAIN};

const CENTS: i64 = 4200;

/// What is to be invoiced.
#[derive(Serialize, Deserialize)]
pub struct Visit {
    pub tenant: Uuid,
    pub id: Uuid,
}

pub async fn run() -> Result<()> {
    let routes = Router::new().route("/visits", post(invoice)).route("/invoices/{tenant}", get(count));
    let callers = Clients::callers(&Manifest::from_json(MANIFEST)?, "worker", TRUST_DOMAIN);
    let service = Service::start("worker").await?;
    tokio::spawn(tend(service.clone()));
    service.serve(routes, callers).await
}

async fn invoice(State(service): State<Arc<Service>>, Json(visit): Json<Visit>) -> Answer<()> {
    let biller = Caller::service(&service, "biller", visit.tenant)?;
    let sql = "SELECT p.id, p.email FROM visits v JOIN patients p ON p.id = v.patient_id WHERE v.id = $1";
    let row = biller.row(sql, &[&visit.id]).await?;
    let recipient = biller.open(EMAIL, row.get(0), row.get(1)).await?.ok_or(Fault::NOT_FOUND)?;
    let recipient = biller.seal(RECIPIENT, visit.id, &recipient).await?;
    let sql = "INSERT INTO invoices (tenant_id, visit_id, cents, recipient) VALUES ($1, $2, $3, $4)
               ON CONFLICT DO NOTHING";
    biller.change(sql, &[&visit.tenant, &visit.id, &CENTS, &recipient]).await?;
    Ok(Json(()))
}

/// Looks from time to time for what older keys have sealed or indexed: also what another service wrote meanwhile that had not
/// noticed the rotation.
async fn tend(service: Arc<Service>) {
    loop {
        tokio::time::sleep(service.ages.tend).await;
        if let Err(fault) = tend_all(&service).await {
            eprintln!("rows under older keys are left: {fault}");
        }
    }
}

async fn tend_all(service: &Arc<Service>) -> std::result::Result<(), Fault> {
    for tenant in service.tenants().await? {
        let keeper = Arc::new(Caller::service(service, "keeper", tenant)?);
        let mut connection = keeper.connect().await?;
        for job in records::reseals(keeper.scope()) {
            job.session(keeper.clone()).run(&mut connection, &service.encryptor).await?;
        }
        let job = records::reindex(keeper.scope())?;
        job.session(keeper).run(&mut connection, &service.encryptor).await?;
    }
    Ok(())
}

async fn count(State(service): State<Arc<Service>>, Path(tenant): Path<Uuid>) -> Answer<i64> {
    let biller = Caller::service(&service, "biller", tenant)?;
    Ok(Json(biller.row("SELECT count(*) FROM invoices", &[]).await?.get(0)))
}
