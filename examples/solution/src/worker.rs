//! The worker: makes out invoices. Other services call it over mutual TLS; users do not.

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
use crate::records::{EMAIL, RECIPIENT};
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
    Service::start("worker").await?.serve(routes, callers).await
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

async fn count(State(service): State<Arc<Service>>, Path(tenant): Path<Uuid>) -> Answer<i64> {
    let biller = Caller::service(&service, "biller", tenant)?;
    Ok(Json(biller.row("SELECT count(*) FROM invoices", &[]).await?.get(0)))
}
