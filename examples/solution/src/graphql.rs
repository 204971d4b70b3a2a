//! The same clinic, by GraphQL.

use async_graphql::{
    ComplexObject, Context, EmptyMutation, EmptySubscription, Object, Request, Response, Result, Schema,
    SimpleObject,
};
use axum::extract::Json;
use axum::routing::post;
use axum::{Extension, Router};
use tokio_postgres::Row;
use uuid::Uuid;
use zk_creds::tls::Clients;

use crate::caller::Caller;
use crate::fault::Fault;
use crate::records::{DIAGNOSIS, EMAIL};
use crate::service::Service;

type Clinic = Schema<Query, EmptyMutation, EmptySubscription>;

pub async fn run() -> crate::Result<()> {
    let clinic: Clinic =
        Schema::build(Query, EmptyMutation, EmptySubscription).limit_depth(6).limit_complexity(200).finish();
    let routes = Router::new().route("/graphql", post(answer)).layer(Extension(clinic));
    Service::start("graphql").await?.serve(routes, Clients::Anybody).await
}

async fn answer(
    caller: Caller,
    Extension(clinic): Extension<Clinic>,
    Json(request): Json<Request>,
) -> Json<Response> {
    Json(clinic.execute(request.data(caller)).await)
}

struct Query;

#[derive(SimpleObject)]
#[graphql(complex)]
struct Patient {
    id: Uuid,
    name: String,
    email: Option<String>,
}

#[derive(SimpleObject)]
struct Visit {
    id: Uuid,
    doctor: Uuid,
}

impl Patient {
    async fn read(caller: &Caller, row: &Row) -> std::result::Result<Self, Fault> {
        let email = caller.open(EMAIL, row.get(0), row.get(2)).await?;
        Ok(Self::with((row, email)))
    }

    fn with((row, email): (&Row, Option<String>)) -> Self {
        Self { id: row.get(0), name: row.get(1), email }
    }
}

#[Object]
impl Query {
    async fn patient(&self, context: &Context<'_>, id: Uuid) -> Result<Patient> {
        let caller = context.data::<Caller>()?;
        let row = caller.row("SELECT id, name, email FROM patients WHERE id = $1", &[&id]).await?;
        Ok(Patient::read(caller, &row).await?)
    }

    #[graphql(complexity = "20 * child_complexity")]
    async fn patients(&self, context: &Context<'_>) -> Result<Vec<Patient>> {
        let caller = context.data::<Caller>()?;
        let rows = caller.rows("SELECT id, name, email FROM patients ORDER BY name LIMIT 20", &[]).await?;
        let sealed: Vec<_> = rows.iter().map(|row| (row.get(0), row.get(2))).collect();
        let emails = caller.open_many(EMAIL, &sealed).await?;
        Ok(rows.iter().zip(emails).map(Patient::with).collect())
    }

    /// How many invoices the clinic has, as the worker says.
    async fn invoices(&self, context: &Context<'_>) -> Result<Option<i64>> {
        let caller = context.data::<Caller>()?;
        let path = format!("/invoices/{}", caller.tenant);
        Ok(caller.ask("worker", &path, None::<&()>).await?.as_i64())
    }
}

#[ComplexObject]
impl Patient {
    async fn diagnosis(&self, context: &Context<'_>) -> Result<Option<String>> {
        let caller = context.data::<Caller>()?;
        let row = caller.row("SELECT diagnosis FROM patients WHERE id = $1", &[&self.id]).await?;
        Ok(caller.open(DIAGNOSIS, self.id, row.get(0)).await?)
    }

    async fn visits(&self, context: &Context<'_>) -> Result<Vec<Visit>> {
        let caller = context.data::<Caller>()?;
        let rows = caller.rows("SELECT id, doctor_id FROM visits WHERE patient_id = $1", &[&self.id]).await?;
        Ok(rows.iter().map(|row| Visit { id: row.get(0), doctor: row.get(1) }).collect())
    }
}
