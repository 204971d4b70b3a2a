//! The front desk and the doctors' rooms, by REST.

use axum::Router;
use axum::extract::{Json, Path, Query};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Row, SimpleQueryMessage};
use uuid::Uuid;
use zk_creds::tls::Clients;

use crate::Result;
use crate::caller::Caller;
use crate::fault::{Answer, Fault};
use crate::records::{DIAGNOSIS, DRUG, EMAIL};
use crate::service::Service;
use crate::worker::Visit;

pub async fn run() -> Result<()> {
    let routes = Router::new()
        .route("/patients", get(find).post(register))
        .route("/patients/page", get(page))
        .route("/patients/{id}", get(patient))
        .route("/patients/{id}/diagnosis", get(diagnosis).put(diagnose))
        .route("/patients/{id}/visits", post(visit))
        .route("/patients/{id}/prescriptions", post(prescribe))
        .route("/careless", get(careless));
    Service::start("rest").await?.serve(routes, Clients::Anybody).await
}

#[derive(Serialize)]
struct Patient {
    id: Uuid,
    name: String,
    phone: Option<String>,
    email: Option<String>,
}

impl Patient {
    async fn read(caller: &Caller, row: &Row) -> std::result::Result<Self, Fault> {
        let email = caller.open(EMAIL, row.get(0), row.get(3)).await?;
        Ok(Self::with((row, email)))
    }

    async fn read_all(caller: &Caller, rows: &[Row]) -> std::result::Result<Vec<Self>, Fault> {
        let sealed: Vec<_> = rows.iter().map(|row| (row.get(0), row.get(3))).collect();
        let emails = caller.open_many(EMAIL, &sealed).await?;
        Ok(rows.iter().zip(emails).map(Self::with).collect())
    }

    fn with((row, email): (&Row, Option<String>)) -> Self {
        Self { id: row.get(0), name: row.get(1), phone: row.get(2), email }
    }
}

async fn patient(caller: Caller, Path(id): Path<Uuid>) -> Answer<Patient> {
    let row = caller.row("SELECT id, name, phone, email FROM patients WHERE id = $1", &[&id]).await?;
    Ok(Json(Patient::read(&caller, &row).await?))
}

#[derive(Deserialize)]
pub struct After {
    pub after: Option<Uuid>,
}

/// The next 50 patients after one, in the order of their ids.
async fn page(caller: Caller, Query(from): Query<After>) -> Answer<Vec<Patient>> {
    let sql = "SELECT id, name, phone, email FROM patients WHERE id > $1 ORDER BY id LIMIT 50";
    let rows = caller.rows(sql, &[&from.after.unwrap_or_default()]).await?;
    Ok(Json(Patient::read_all(&caller, &rows).await?))
}

#[derive(Deserialize)]
struct ByEmail {
    email: String,
}

/// Finds by what the database cannot read.
async fn find(caller: Caller, Query(by): Query<ByEmail>) -> Answer<Patient> {
    let tokens = caller.email_tokens(&by.email).await?;
    let sql = "SELECT id, name, phone, email FROM patients WHERE email_odd = $1 OR email_even = $2";
    let row = caller.row(sql, &[&tokens.odd, &tokens.even]).await?;
    Ok(Json(Patient::read(&caller, &row).await?))
}

#[derive(Deserialize)]
struct NewPatient {
    name: String,
    phone: Option<String>,
    email: String,
    doctor: Uuid,
}

async fn register(caller: Caller, Json(new): Json<NewPatient>) -> Answer<Uuid> {
    let id = Uuid::new_v4();
    let email = caller.seal(EMAIL, id, &new.email).await?;
    let tokens = caller.email_tokens(&new.email).await?;
    let sql = "INSERT INTO patients (tenant_id, id, doctor_id, name, phone, email, email_odd, email_even)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    caller
        .change(
            sql,
            &[&caller.tenant, &id, &new.doctor, &new.name, &new.phone, &email, &tokens.odd, &tokens.even],
        )
        .await?;
    Ok(Json(id))
}

async fn diagnosis(caller: Caller, Path(id): Path<Uuid>) -> Answer<Option<String>> {
    let row = caller.row("SELECT diagnosis FROM patients WHERE id = $1", &[&id]).await?;
    Ok(Json(caller.open(DIAGNOSIS, id, row.get(0)).await?))
}

async fn diagnose(caller: Caller, Path(id): Path<Uuid>, Json(text): Json<String>) -> Answer<()> {
    let sealed = caller.seal(DIAGNOSIS, id, &text).await?;
    match caller.change("UPDATE patients SET diagnosis = $2 WHERE id = $1", &[&id, &sealed]).await? {
        0 => Err(Fault::NOT_FOUND),
        _ => Ok(Json(())),
    }
}

/// Books a visit, and has the worker make out the invoice.
async fn visit(caller: Caller, Path(patient): Path<Uuid>) -> Answer<Uuid> {
    let id = Uuid::new_v4();
    let sql = "INSERT INTO visits (tenant_id, id, patient_id, doctor_id)
               SELECT tenant_id, $2, id, doctor_id FROM patients WHERE id = $1";
    if caller.change(sql, &[&patient, &id]).await? == 0 {
        return Err(Fault::NOT_FOUND);
    }
    caller.ask("worker", "/visits", Some(&Visit { tenant: caller.tenant, id })).await?;
    Ok(Json(id))
}

/// Prescribes once for each token.
async fn prescribe(caller: Caller, Path(patient): Path<Uuid>, Json(drug): Json<String>) -> Answer<Uuid> {
    let sealed = caller.seal(DRUG, caller.token, &drug).await?;
    let sql = "INSERT INTO prescriptions (tenant_id, token, patient_id, doctor_id, drug)
               SELECT tenant_id, $2, id, $3, $4 FROM patients WHERE id = $1";
    match caller.change(sql, &[&patient, &caller.token, &caller.user, &sealed]).await? {
        0 => Err(Fault::NOT_FOUND),
        _ => Ok(Json(caller.token)),
    }
}

#[derive(Deserialize)]
struct ByName {
    name: String,
}

/// DELIBERATELY CARELESS: pastes what somebody typed into SQL, and gives out whatever comes back. The policy has to hold all
/// the same; the drive injects everything it can think of here.
async fn careless(caller: Caller, Query(by): Query<ByName>) -> Answer<Vec<Vec<Option<String>>>> {
    let mut connection = caller.connect().await?;
    let transaction = caller.begin(&mut connection).await?;
    let sql = format!("SELECT id, name FROM patients WHERE name LIKE '{}%' ORDER BY name", by.name);
    let messages = transaction.simple_query(&sql).await?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let cells = |row: &tokio_postgres::SimpleQueryRow| {
        (0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()
    };
    Ok(Json(rows.map(cells).collect()))
}
