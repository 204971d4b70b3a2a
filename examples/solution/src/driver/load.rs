//! Users at work: every answer is compared with what is known to be true.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::table::{Table, ensure};
use super::users::{Clinic, Known, PATIENTS, Visitor};
use crate::Result;
use crate::fault::chain;

/// Requests of one kind that were answered as they should.
type Counts = BTreeMap<&'static str, u64>;

pub struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    visitors: Vec<JoinHandle<Done>>,
}

#[derive(Default)]
pub struct Done {
    right: Counts,
    failures: Vec<String>,
}

impl Load {
    pub fn start(clinic: &Clinic) -> Result<Self> {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut visitors = Vec::new();
        for visitor in &clinic.visitors {
            let work = Work {
                visitor: visitor.clone(),
                patients: clinic.patients.clone(),
                mine: clinic.patient_of(&visitor.user)?.clone(),
                asked: asked.clone(),
            };
            let stop = stop.clone();
            visitors.push(tokio::spawn(async move { work.until(&stop).await }));
        }
        Ok(Self { stop, asked, visitors })
    }

    /// Waits until so many requests were answered.
    pub async fn reach(&self, requests: u64) -> Result<()> {
        let start = Instant::now();
        while self.asked.load(Ordering::Relaxed) < requests {
            ensure(start.elapsed() < Duration::from_secs(60), "the services answer next to nothing")?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    pub async fn stop(self) -> Result<Done> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Done::default();
        for visitor in self.visitors {
            let done = visitor.await?;
            done.right.into_iter().for_each(|(kind, count)| *all.right.entry(kind).or_default() += count);
            all.failures.extend(done.failures);
        }
        Ok(all)
    }
}

impl Done {
    pub fn check(&self, table: &mut Table) -> Result<()> {
        let asked: u64 = self.right.values().sum();
        let failed = self.failures.len();
        let such = self.failures.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n  ");
        ensure(
            failed == 0,
            format!("{failed} requests failed beside {asked} that did not, such as\n  {such}"),
        )?;
        let kinds: Vec<String> = self.right.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        table.holds("requests while everything rotated", format!("{asked}, 0 failed"));
        table.holds("of these", kinds.join(", "));
        Ok(())
    }
}

struct Work {
    visitor: Visitor,
    patients: Arc<Vec<Known>>,
    mine: Known,
    asked: Arc<AtomicU64>,
}

impl Work {
    async fn until(self, stop: &AtomicBool) -> Done {
        let mut done = Done::default();
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            let (kind, outcome) = match self.visitor.user.role {
                "doctor" => self.doctor(turn).await,
                _ => self.receptionist(turn).await,
            };
            match outcome {
                Ok(()) => *done.right.entry(kind).or_default() += 1,
                Err(error) => done.failures.push(format!("{kind}: {}", chain(&*error))),
            }
            self.asked.fetch_add(1, Ordering::Relaxed);
            turn += 1;
        }
        done
    }

    async fn receptionist(&self, turn: usize) -> (&'static str, Result<()>) {
        let known = self.patient(turn);
        match turn % 8 {
            0 | 4 => ("search", self.search(known).await),
            3 => ("booking", self.book(known).await),
            5 => ("registration", self.register(turn).await),
            6 => ("page", self.page().await),
            7 => ("graphql", self.list(known).await),
            _ => ("read", self.read(known).await),
        }
    }

    async fn doctor(&self, turn: usize) -> (&'static str, Result<()>) {
        let mine = &self.mine;
        let path = format!("/patients/{}/diagnosis", mine.id);
        match turn % 8 {
            0 | 4 => ("diagnosis", expect(self.visitor.get(&path).await, json!(mine.diagnosis))),
            2 => {
                let body = Some(json!(mine.diagnosis));
                ("diagnosing", expect(self.visitor.ask(Method::PUT, &path, body).await, Value::Null))
            }
            5 => ("graphql", self.ask_about(mine).await),
            7 => ("refused", self.pry(self.patient(turn)).await),
            _ => ("read", self.read(mine).await),
        }
    }

    /// Some patient of the user's clinic.
    fn patient(&self, turn: usize) -> &Known {
        let tenant = self.visitor.user.tenant;
        let ours = self.patients.iter().filter(|patient| patient.tenant == tenant);
        ours.cycle().nth(turn % PATIENTS).unwrap_or(&self.mine)
    }

    async fn read(&self, known: &Known) -> Result<()> {
        expect(self.visitor.get(&format!("/patients/{}", known.id)).await, known.as_answered())
    }

    /// The first page, on which are all patients up to its last one, and nobody else's.
    async fn page(&self) -> Result<()> {
        let (status, answer) = self.visitor.get("/patients/page").await?;
        let patients = answer.as_array().map_or(&[][..], Vec::as_slice);
        let id = |patient: &Value| serde_json::from_value::<Uuid>(patient["id"].clone()).ok();
        let last = patients.last().and_then(id);
        let known = self.patients.iter().filter(|known| Some(known.id) <= last);
        let right = patients.len() >= PATIENTS
            && patients.is_sorted_by(|one, next| id(one) < id(next))
            && known.into_iter().all(|known| {
                patients.contains(&known.as_answered()) == (known.tenant == self.visitor.user.tenant)
            });
        ensure(status == StatusCode::OK && right, format!("{status} {answer}"))
    }

    async fn search(&self, known: &Known) -> Result<()> {
        // Another spelling of the same address.
        let path = format!("/patients?email={}", known.email.to_uppercase());
        expect(self.visitor.get(&path).await, known.as_answered())
    }

    async fn book(&self, known: &Known) -> Result<()> {
        let path = format!("/patients/{}/visits", known.id);
        let (status, answer) = self.visitor.ask(Method::POST, &path, None).await?;
        ensure(status == StatusCode::OK, format!("{status} {answer}"))
    }

    async fn register(&self, turn: usize) -> Result<()> {
        let email = format!("{}@mail.example", testkit::unique_name("new"));
        let doctor = self.mine.doctor;
        let body =
            json!({ "name": format!("Somebody {turn}"), "phone": null, "email": email, "doctor": doctor });
        let (status, answer) = self.visitor.ask(Method::POST, "/patients", Some(body)).await?;
        ensure(status == StatusCode::OK, format!("{status} {answer}"))
    }

    async fn list(&self, known: &Known) -> Result<()> {
        let query = format!(
            "{{ patient(id: \"{}\") {{ email visits {{ id }} }} patients {{ name }} invoices }}",
            known.id
        );
        let (status, answer) = self.visitor.query(&query).await?;
        let right = answer["data"]["patient"]["email"] == known.email
            && answer["data"]["patients"].as_array().is_some_and(|patients| patients.len() == 20)
            && answer["data"]["invoices"].is_i64();
        ensure(status == StatusCode::OK && right, format!("{status} {answer}"))
    }

    async fn ask_about(&self, known: &Known) -> Result<()> {
        let query = format!("{{ patient(id: \"{}\") {{ email diagnosis }} }}", known.id);
        let right = json!({ "data": { "patient": { "email": known.email, "diagnosis": known.diagnosis } } });
        expect(self.visitor.query(&query).await, right)
    }

    /// A doctor asks for a patient who may be a colleague's.
    async fn pry(&self, known: &Known) -> Result<()> {
        let answer = self.visitor.get(&format!("/patients/{}", known.id)).await;
        if known.doctor == self.visitor.user.id {
            return expect(answer, known.as_answered());
        }
        let (status, answer) = answer?;
        ensure(status == StatusCode::NOT_FOUND, format!("a colleague's patient: {status} {answer}"))
    }
}

fn expect(answer: Result<(StatusCode, Value)>, right: Value) -> Result<()> {
    let (status, answer) = answer?;
    ensure(status == StatusCode::OK && answer == right, format!("{status} {answer}, expected {right}"))
}
