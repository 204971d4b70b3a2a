//! Two endpoints of `rest` without a policy and without sealing, for `--measure` and nothing else: the same HTTPS, the same
//! token, a tenant that somebody has to remember in every statement.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{self, Json, Query, State};
use axum::http::HeaderMap;
use axum::routing::get;
use deadpool_postgres::Pool;
use secrecy::ExposeSecret;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;
use zk_creds::Environment;
use zk_creds::postgres::Login;
use zk_creds::signed::TokenVerifier;
use zk_creds::tls::Clients;

use crate::caller::granted;
use crate::fault::{Answer, Fault};
use crate::rest::After;
use crate::service::{Ages, serve};
use crate::{Result, followed};

/// The role that may read the table without sealed columns.
pub const ROLE: &str = "clinic_plain";

struct Plain {
    pool: Pool,
    tokens: Arc<TokenVerifier>,
}

#[derive(Serialize)]
struct Patient {
    id: Uuid,
    name: String,
    phone: Option<String>,
    email: String,
}

pub async fn run() -> Result<()> {
    let environment = Environment::take(&["CLINIC_AGES", "CLINIC_FOLLOWED"])?;
    let text = |name| environment.get(name).map(ExposeSecret::expose_secret);
    let (ages, directory) = (Ages::named(text("CLINIC_AGES")?)?, Path::new(text("CLINIC_FOLLOWED")?));
    let tls = followed::tls(directory, ages.look)?;
    let tokens = followed::tokens(directory, ages.look, "plain")?;
    let pool = Login::from_environment()?.acting_as(ROLE).pool(8)?;
    let routes = Router::new().route("/patients/{id}", get(patient)).route("/patients/page", get(page));
    let routes = routes.with_state(Arc::new(Plain { pool, tokens }));
    serve(&tls, routes, Clients::Anybody, &ages).await
}

/// The tenant of a request, from its token.
fn tenant(plain: &Plain, headers: &HeaderMap) -> std::result::Result<Uuid, Fault> {
    let grant = granted(&plain.tokens, headers)?;
    let tenant = grant.scopes().find_map(|scope| scope.strip_prefix("tenant:")).ok_or(Fault::UNAUTHORIZED)?;
    tenant.parse().map_err(|_| Fault::UNAUTHORIZED)
}

impl Patient {
    fn read(row: &Row) -> Self {
        Self { id: row.get(0), name: row.get(1), phone: row.get(2), email: row.get(3) }
    }
}

async fn patient(
    State(plain): State<Arc<Plain>>,
    extract::Path(id): extract::Path<Uuid>,
    headers: HeaderMap,
) -> Answer<Patient> {
    let tenant = tenant(&plain, &headers)?;
    let client = plain.pool.get().await?;
    let sql = "SELECT id, name, phone, email FROM plain_patients WHERE tenant_id = $1 AND id = $2";
    let statement = client.prepare_cached(sql).await?;
    let row = client.query_opt(&statement, &[&tenant, &id]).await?.ok_or(Fault::NOT_FOUND)?;
    Ok(Json(Patient::read(&row)))
}

async fn page(
    State(plain): State<Arc<Plain>>,
    Query(from): Query<After>,
    headers: HeaderMap,
) -> Answer<Vec<Patient>> {
    let tenant = tenant(&plain, &headers)?;
    let client = plain.pool.get().await?;
    let sql = "SELECT id, name, phone, email FROM plain_patients WHERE tenant_id = $1 AND id > $2
               ORDER BY id LIMIT 50";
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&tenant, &from.after.unwrap_or_default()]).await?;
    Ok(Json(rows.iter().map(Patient::read).collect()))
}
