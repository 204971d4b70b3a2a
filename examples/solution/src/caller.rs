//! Who is asking: from a signed token to a session of the policy, and what services do as it. Nothing here is about clinics.

use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, HeaderMap};
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use deadpool_postgres::Client;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;
use zk_creds::signed::{SignedGrant, TokenVerifier};
use zk_crypto::{Column, ErrorKind, JobSession, Scope, Sealed, TokenPair};
use zk_policy::Session;
use zk_policy::pg::SessionTransaction;

use crate::fault::{Fault, chain};
use crate::service::Service;

type Result<T> = std::result::Result<T, Fault>;
type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A user with a token that was verified, or a service that acts for a tenant. Handlers take one as an argument.
#[derive(Clone)]
pub struct Caller {
    /// The tenant.
    pub tenant: Uuid,
    /// Who it is; nobody for a service.
    pub user: Uuid,
    /// The token's own number.
    pub token: Uuid,
    service: Arc<Service>,
    session: Session,
    scope: Scope,
}

/// What the token of a request grants.
pub fn granted(tokens: &TokenVerifier, headers: &HeaderMap) -> Result<SignedGrant> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).ok_or(Fault::UNAUTHORIZED)?;
    tokens.verify(&SecretString::from(token)).map_err(|_| Fault::UNAUTHORIZED)
}

impl FromRequestParts<Arc<Service>> for Caller {
    type Rejection = Fault;

    /// SECURITY: role, tenant and user come from the token alone. Nothing else in a request is asked about them.
    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self> {
        let grant = granted(&service.tokens, &parts.headers)?;
        Self::of_grant(service, &grant).ok_or(Fault::UNAUTHORIZED)?
    }
}

/// The transactions of a job are the caller's too.
#[async_trait]
impl JobSession for Caller {
    async fn begin(&self, transaction: &Transaction<'_>) -> std::result::Result<(), zk_crypto::Error> {
        let signed = self.session.signed(&self.service.claims.key()).sign(transaction.client()).await;
        signed.map_err(|e| zk_crypto::Error::new(ErrorKind::Denied, "the job has no claims").with_source(e))
    }
}

impl Caller {
    fn of_grant(service: &Arc<Service>, grant: &SignedGrant) -> Option<Result<Self>> {
        let said = |prefix| grant.scopes().find_map(|scope| scope.strip_prefix(prefix));
        let (role, tenant) = (said("role:")?, said("tenant:")?.parse().ok()?);
        let user = grant.subject().parse().ok()?;
        Some(Self::new(service, role, tenant, (user, grant.id())))
    }

    /// A service itself, for one tenant, as one of its own roles.
    pub fn service(service: &Arc<Service>, role: &str, tenant: Uuid) -> Result<Self> {
        Self::new(service, role, tenant, (Uuid::nil(), Uuid::nil()))
    }

    fn new(service: &Arc<Service>, role: &str, tenant: Uuid, (user, token): (Uuid, Uuid)) -> Result<Self> {
        let session = Session::new(&service.declared, role)?.claim("tenant", tenant.to_string())?;
        let session = session.claim("user", user.to_string())?;
        let scope = Scope::tenant(&tenant.to_string())?;
        Ok(Self { tenant, user, token, service: service.clone(), session, scope })
    }

    /// Rows that the policy lets this caller see.
    pub async fn rows(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>> {
        let mut connection = self.connect().await?;
        let statement = connection.prepare_cached(sql).await?;
        let transaction = self.begin(&mut connection).await?;
        Ok(transaction.query_and_commit(&statement, parameters).await?)
    }

    /// The one row that there has to be.
    pub async fn row(&self, sql: &str, parameters: Parameters<'_>) -> Result<Row> {
        self.rows(sql, parameters).await?.pop().ok_or(Fault::NOT_FOUND)
    }

    /// Changes rows that the policy lets this caller change, and says how many.
    pub async fn change(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64> {
        let mut connection = self.connect().await?;
        let statement = connection.prepare_cached(sql).await?;
        let transaction = self.begin(&mut connection).await?;
        Ok(transaction.execute_and_commit(&statement, parameters).await?)
    }

    /// A connection that acts as the caller's role, for transactions of several statements.
    pub async fn connect(&self) -> Result<Client> {
        let pool = self.service.pool(self.session.role()).ok_or(Fault::FORBIDDEN)?;
        Ok(pool.get().await?)
    }

    /// A transaction in which the caller's claims hold. It is rolled back unless it is committed.
    pub async fn begin<'c>(&self, connection: &'c mut Client) -> Result<SessionTransaction<'c, Client>> {
        Ok(self.session.signed(&self.service.claims.key()).begin(connection).await?)
    }

    /// The tenant's scope, of which jobs are.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Seals a value for its column and row.
    pub async fn seal(&self, column: Column<String>, row: Uuid, value: &String) -> Result<Sealed> {
        Ok(column.seal(&self.service.encryptor, &self.scope, row, value).await?)
    }

    /// Opens the value of a row; none where there is none.
    pub async fn open(
        &self,
        column: Column<String>,
        row: Uuid,
        sealed: Option<Sealed>,
    ) -> Result<Option<String>> {
        let Some(sealed) = sealed else { return Ok(None) };
        Ok(Some(column.open(&self.service.encryptor, &self.scope, row, &sealed).await?))
    }

    /// Opens a column of many rows, each with what names its row.
    pub async fn open_many(
        &self,
        column: Column<String>,
        rows: &[(Uuid, Option<Sealed>)],
    ) -> Result<Vec<Option<String>>> {
        Ok(column.open_many(&self.service.encryptor, &self.scope, rows).await?)
    }

    /// The tokens by which a patient is found by e-mail address.
    pub async fn email_tokens(&self, email: &str) -> Result<TokenPair> {
        let indexer = self.service.emails.indexer(&self.service.encryptor, &self.scope).await?;
        Ok(indexer.pair(&[email])?)
    }

    /// Asks another service, over mutual TLS.
    pub async fn ask(&self, peer: &str, path: &str, body: Option<&(impl Serialize + Sync)>) -> Result<Value> {
        let url = format!("{}{path}", self.service.address(peer).ok_or(Fault::FORBIDDEN)?);
        let request = if body.is_some() { Request::post(url) } else { Request::get(url) };
        let body = body.map(serde_json::to_value).transpose()?;
        let why = match self.service.peers.send(request, body.as_ref()).await {
            Ok((StatusCode::OK, answer)) => return Ok(answer),
            Ok((status, _)) => status.to_string(),
            Err(error) => chain(&*error),
        };
        eprintln!("{peer} does not answer {path}: {why}");
        Err(Fault::FAILED)
    }
}
