//! Who uses the clinics: their tokens, their requests, and the patients that they know.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::http::{Method, Request, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;
use zk_creds::Clock;
use zk_creds::signed::{SignedClaims, SigningKey, TokenSigner};

use super::processes::Solution;
use super::table::ensure;
use crate::Result;
use crate::http::Http;

/// Three clinics that share everything.
pub const TENANTS: [Uuid; 3] = [
    Uuid::from_u128(0x0a1e_0000_0000_4000_8000_0000_0000_0001),
    Uuid::from_u128(0x0a1e_0000_0000_4000_8000_0000_0000_0002),
    Uuid::from_u128(0x0a1e_0000_0000_4000_8000_0000_0000_0003),
];
/// Patients of each clinic.
pub const PATIENTS: usize = 20;
const TOKEN: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub role: &'static str,
    pub tenant: Uuid,
    pub id: Uuid,
}

/// Stands for the system that knows users and their passwords.
pub struct SignIn {
    signer: TokenSigner,
    key: Mutex<SecretString>,
}

impl SignIn {
    pub fn new(key: SigningKey) -> Result<Self> {
        let kept = key.expose();
        Ok(Self { signer: TokenSigner::new("clinic", key)?, key: Mutex::new(kept) })
    }

    /// Signs with another key from now on. Returns one that still signs with the former.
    pub fn rotate(&self, key: SigningKey) -> Result<Self> {
        let former = std::mem::replace(&mut *self.key()?, key.expose());
        self.signer.rotate(key);
        Self::new(SigningKey::parse(&former)?)
    }

    fn key(&self) -> Result<MutexGuard<'_, SecretString>> {
        Ok(self.key.lock().map_err(|_| "somebody failed meanwhile")?)
    }

    /// As [`token`](Self::token), by another clock.
    pub fn token_by(&self, clock: Arc<dyn Clock>, user: &User, service: &str) -> Result<SecretString> {
        let key = self.key()?;
        let key = SigningKey::parse(&key)?;
        Ok(TokenSigner::new("clinic", key)?.with_clock(clock).sign(&claims(user, service), TOKEN)?)
    }

    /// A token with which `user` asks one service.
    pub fn token(&self, user: &User, service: &str) -> Result<SecretString> {
        Ok(self.signer.sign(&claims(user, service), TOKEN)?)
    }
}

fn claims(user: &User, service: &str) -> SignedClaims {
    let claims = SignedClaims::new(user.id.to_string(), service);
    claims.scope(format!("role:{}", user.role)).scope(format!("tenant:{}", user.tenant))
}

/// A user with a browser.
#[derive(Clone)]
pub struct Visitor {
    pub user: User,
    pub http: Http,
    pub rest: String,
    pub graphql: String,
    sign_in: Arc<SignIn>,
}

impl Visitor {
    pub fn new(solution: &Solution, user: User) -> Result<Self> {
        Ok(Self {
            user,
            http: Http::new(&solution.browser)?,
            rest: solution.url("rest")?,
            graphql: solution.url("graphql")?,
            sign_in: solution.world.sign_in.clone(),
        })
    }

    /// A token for `rest`, as it is signed now.
    pub fn token(&self) -> Result<SecretString> {
        self.sign_in.token(&self.user, "rest")
    }

    /// Asks `rest`.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<(StatusCode, Value)> {
        self.ask_with(&self.token()?, method, path, body).await
    }

    /// Asks `rest` with another token.
    pub async fn ask_with(
        &self,
        token: &SecretString,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Value)> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.rest));
        let request = request.header("authorization", format!("Bearer {}", token.expose_secret()));
        self.http.send(request, body.as_ref()).await
    }

    pub async fn get(&self, path: &str) -> Result<(StatusCode, Value)> {
        self.ask(Method::GET, path, None).await
    }

    pub async fn query(&self, query: &str) -> Result<(StatusCode, Value)> {
        let request = Request::post(format!("{}/graphql", self.graphql));
        let token = self.sign_in.token(&self.user, "graphql")?;
        let request = request.header("authorization", format!("Bearer {}", token.expose_secret()));
        self.http.send(request, Some(&json!({ "query": query }))).await
    }
}

/// A patient, as the drive knows the truth.
#[derive(Clone, Debug)]
pub struct Known {
    pub id: Uuid,
    pub tenant: Uuid,
    pub doctor: Uuid,
    pub email: String,
    pub diagnosis: String,
    name: String,
    phone: String,
}

impl Known {
    /// What `rest` answers about the patient.
    pub fn as_answered(&self) -> Value {
        json!({ "id": self.id, "name": self.name, "phone": self.phone, "email": self.email })
    }
}

/// All users, and the patients that were registered before the drive.
pub struct Clinic {
    pub visitors: Vec<Visitor>,
    pub patients: Arc<Vec<Known>>,
}

impl Clinic {
    /// Registers so many patients in each clinic, through its front desk.
    pub async fn open(solution: &Solution, number: usize) -> Result<Self> {
        let mut visitors = Vec::new();
        for tenant in TENANTS {
            for role in ["receptionist", "doctor", "doctor"] {
                visitors.push(Visitor::new(solution, User { role, tenant, id: Uuid::new_v4() })?);
            }
        }
        let mut patients = Vec::new();
        for team in visitors.chunks(3) {
            for number in 0..number {
                patients.push(register(team, number).await?);
            }
        }
        Ok(Self { visitors, patients: Arc::new(patients) })
    }

    /// The first user of a role in the clinic of that number.
    pub fn visitor(&self, tenant: usize, role: &str) -> Result<&Visitor> {
        let found =
            self.visitors.iter().find(|v| Some(&v.user.tenant) == TENANTS.get(tenant) && v.user.role == role);
        Ok(found.ok_or("there is no such user")?)
    }

    /// The first patient of a user's clinic; of a doctor, the first that is theirs.
    pub fn patient_of(&self, user: &User) -> Result<&Known> {
        let theirs = |p: &&Known| p.tenant == user.tenant && (user.role != "doctor" || p.doctor == user.id);
        Ok(self.patients.iter().find(theirs).ok_or("the user has no patient")?)
    }
}

async fn register(team: &[Visitor], number: usize) -> Result<Known> {
    let [desk, doctors @ ..] = team else { return Err("a clinic has a front desk".into()) };
    let doctor = doctors.get(number % 2).ok_or("a clinic has two doctors")?;
    let mut patient = Known {
        id: Uuid::nil(),
        tenant: desk.user.tenant,
        doctor: doctor.user.id,
        email: format!("Patient{number}.{}@Mail.example", &testkit::unique_name("p")),
        diagnosis: format!("melancholia, case {}", testkit::unique_name("d")),
        name: format!("Patient {number:02}"),
        phone: format!("+20 2 {}", 100_000 + number),
    };
    let body = json!({
        "name": patient.name, "phone": patient.phone, "email": patient.email, "doctor": patient.doctor
    });
    let (status, id) = desk.ask(Method::POST, "/patients", Some(body)).await?;
    ensure(status == StatusCode::OK, format!("a patient was not registered: {status} {id}"))?;
    patient.id = serde_json::from_value(id)?;
    let path = format!("/patients/{}/diagnosis", patient.id);
    let (status, _) = doctor.ask(Method::PUT, &path, Some(json!(patient.diagnosis))).await?;
    ensure(status == StatusCode::OK, format!("a diagnosis was not written: {status}"))?;
    Ok(patient)
}
