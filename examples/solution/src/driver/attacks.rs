//! What users can try: other clinics, other roles, tokens that are not theirs, and SQL through the careless endpoint.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::{Method, Request, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;
use zk_creds::signed::SigningKey;
use zk_creds::{Clock, SystemClock};

use super::processes::Solution;
use super::table::Table;
use super::users::{Clinic, Known, SignIn, User, Visitor};
use crate::Result;

pub async fn try_everything(solution: &mut Solution, clinic: &Clinic, table: &mut Table) -> Result<()> {
    others(clinic, table).await?;
    tokens(solution, clinic, table).await?;
    injections(clinic, table).await?;
    queries(clinic, table).await?;
    super::intruders::try_everything(solution, clinic, table).await
}

/// The status of an answer, as the table has it.
fn status(answer: Result<(StatusCode, Value)>) -> Result<String> {
    Ok(answer?.0.as_str().to_owned())
}

/// Other clinics, colleagues, roles.
async fn others(clinic: &Clinic, table: &mut Table) -> Result<()> {
    let (desk, doctor) = (clinic.visitor(0, "receptionist")?, clinic.visitor(0, "doctor")?);
    let theirs = clinic.patient_of(&clinic.visitor(1, "receptionist")?.user)?;
    let ours = clinic.patient_of(&desk.user)?;
    let path = format!("/patients/{}", theirs.id);
    table.refused("a patient of another clinic", &status(desk.get(&path).await)?, "404")?;
    let spoofed = format!("{path}?tenant={0}&tenant_id={0}", theirs.tenant);
    let mut request = Request::get(format!("{}{spoofed}", desk.rest))
        .header("authorization", format!("Bearer {}", desk.token()?.expose_secret()));
    for name in ["x-tenant-id", "x-tenant", "x-zk-tenant", "x-forwarded-user", "cookie"] {
        request = request.header(name, format!("tenant={0}", theirs.tenant));
    }
    table.refused(
        "… with its number in headers and the query",
        &status(desk.http.send(request, None).await)?,
        "404",
    )?;
    let by_email = format!("/patients?email={}", theirs.email);
    table.refused("… by its e-mail address", &status(desk.get(&by_email).await)?, "404")?;
    let booked = desk.ask(Method::POST, &format!("{path}/visits"), None).await;
    table.refused("… a visit is booked for it", &status(booked)?, "404")?;
    let diagnosis = format!("/patients/{}/diagnosis", ours.id);
    table.refused("the front desk reads a diagnosis", &status(desk.get(&diagnosis).await)?, "403")?;
    let written = desk.ask(Method::PUT, &diagnosis, Some(json!("healthy"))).await;
    table.refused("the front desk writes a diagnosis", &status(written)?, "403")?;
    let colleagues =
        clinic.patients.iter().find(|p| p.tenant == doctor.user.tenant && p.doctor != doctor.user.id);
    let path = format!("/patients/{}/diagnosis", colleagues.ok_or("there is one doctor only")?.id);
    let written = doctor.ask(Method::PUT, &path, Some(json!("healthy"))).await;
    table.refused("a doctor treats a colleague's patient", &status(written)?, "404")?;
    let new = json!({ "name": "X", "phone": null, "email": "x@y.example", "doctor": doctor.user.id });
    table.refused(
        "a doctor registers a patient",
        &status(doctor.ask(Method::POST, "/patients", Some(new)).await)?,
        "403",
    )
}

/// A clock that is behind.
#[derive(Debug)]
struct Behind(Duration);

impl Clock for Behind {
    fn now(&self) -> SystemTime {
        SystemClock::default().now() - self.0
    }
}

async fn tokens(solution: &Solution, clinic: &Clinic, table: &mut Table) -> Result<()> {
    let desk = clinic.visitor(0, "receptionist")?;
    let path = format!("/patients/{}", clinic.patient_of(&desk.user)?.id);
    let with = async |token: &SecretString| status(desk.ask_with(token, Method::GET, &path, None).await);
    let foreign = SignIn::new(SigningKey::generate()?)?;
    table.refused("no token", &with(&SecretString::from("")).await?, "401")?;
    table.refused("a token of another key", &with(&foreign.token(&desk.user, "rest")?).await?, "401")?;
    let former = solution.world.former.as_ref().ok_or("the key of tokens was not replaced")?;
    table.refused("a token of the key before", &with(&former.token(&desk.user, "rest")?).await?, "401")?;
    table.refused("a token that was changed", &with(&changed(&desk.token()?)).await?, "401")?;
    let sign_in = &solution.world.sign_in;
    table.refused(
        "a token for another service",
        &with(&sign_in.token(&desk.user, "graphql")?).await?,
        "401",
    )?;
    let late = sign_in.token_by(Arc::new(Behind(Duration::from_secs(3600))), &desk.user, "rest")?;
    table.refused("a token that has ended", &with(&late).await?, "401")?;
    let biller = User { role: "biller", ..desk.user };
    table.refused(
        "a token for a role that the service lacks",
        &with(&sign_in.token(&biller, "rest")?).await?,
        "403",
    )?;

    let doctor = clinic.visitor(0, "doctor")?;
    let once = sign_in.token(&doctor.user, "rest")?;
    let path = format!("/patients/{}/prescriptions", clinic.patient_of(&doctor.user)?.id);
    let prescribe =
        async || status(doctor.ask_with(&once, Method::POST, &path, Some(json!("aspirin"))).await);
    if prescribe().await? != "200" {
        return Err("a doctor could not prescribe".into());
    }
    table.refused("a prescription that is sent again", &prescribe().await?, "409")
}

/// The token with one letter of what is signed exchanged.
fn changed(token: &SecretString) -> SecretString {
    let text = token.expose_secret();
    let middle = text.len() / 3;
    let letter = |(place, letter)| match (place == middle, letter) {
        (true, 'A') => 'B',
        (true, _) => 'A',
        (false, letter) => letter,
    };
    SecretString::from(text.chars().enumerate().map(letter).collect::<String>())
}

/// The careless endpoint runs whatever is typed, with the rights of the front desk of one clinic.
async fn injections(clinic: &Clinic, table: &mut Table) -> Result<()> {
    let desk = clinic.visitor(0, "receptionist")?;
    let (ours, theirs) = (desk.user.tenant, clinic.visitor(1, "receptionist")?.user.tenant);
    let all = "SELECT id, name FROM patients --";
    let own = "own rows only";
    for (attempt, sql, expected) in [
        ("SQL injected: every row", "' OR true --".to_owned(), own),
        (
            "… the rows of another clinic",
            format!("' UNION SELECT id, name FROM patients WHERE tenant_id = '{theirs}' --"),
            own,
        ),
        (
            "… with its number as the claim",
            format!("'; SELECT set_config('zk.tenant', '{theirs}', true); {all}"),
            own,
        ),
        (
            "… with its number in the signed claims",
            format!(
                "'; SELECT set_config('zk.signed', replace(current_setting('zk.signed'), '{ours}', '{theirs}'), true); {all}"
            ),
            "403",
        ),
        ("… in a transaction of its own", format!("'; COMMIT; {all}"), own),
        (
            "… with the signature carried into another transaction",
            format!(
                "'; SELECT set_config('zk.signed', current_setting('zk.signed'), false); COMMIT; \
                 BEGIN; {all}"
            ),
            "403",
        ),
        (
            "… as another role",
            "'; SET LOCAL ROLE clinic_doctor; SELECT id, diagnosis FROM patients --".into(),
            "403",
        ),
        (
            "… as a role that the service lacks",
            "'; SET LOCAL ROLE clinic_biller; SELECT id FROM patients --".into(),
            "403",
        ),
        ("… the keys that sign claims", "'; SELECT id, inner_pad FROM zk.claim_keys --".into(), "403"),
        ("… the leases", "'; SELECT id, login FROM zk.leases --".into(), "403"),
        (
            "… row-level security is switched off",
            "'; ALTER TABLE patients DISABLE ROW LEVEL SECURITY --".into(),
            "403",
        ),
        ("… a table is dropped", "'; DROP TABLE invoices --".into(), "403"),
        ("… a program is run", "'; COPY patients (id) TO PROGRAM 'cat' --".into(), "403"),
        ("… a sealed column is overwritten", r"'; UPDATE patients SET email = '\x00' --".into(), "403"),
    ] {
        let outcome = inject(desk, clinic, &sql).await?;
        table.refused(attempt, &outcome, expected)?;
    }
    let known = clinic.patient_of(&desk.user)?;
    let (_, answer) = desk.get(&format!("/patients/{}", known.id)).await?;
    if answer != known.as_answered() {
        return Err(format!("after the injections, the service answers {answer}").into());
    }
    Ok(())
}

/// Types `sql` into the careless endpoint, and looks for anything of other clinics in what comes back.
async fn inject(desk: &Visitor, clinic: &Clinic, sql: &str) -> Result<String> {
    let encoded: String = sql.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let (status, answer) = desk.get(&format!("/careless?name={encoded}")).await?;
    if status != StatusCode::OK {
        return Ok(status.as_str().to_owned());
    }
    let text = answer.to_string();
    let foreign =
        |patient: &&Known| patient.tenant != desk.user.tenant && text.contains(&patient.id.to_string());
    let leaked = clinic.patients.iter().filter(foreign).count();
    Ok(if leaked == 0 { "own rows only".to_owned() } else { format!("{leaked} rows of others") })
}

/// GraphQL asks with the same rights, and not without end.
async fn queries(clinic: &Clinic, table: &mut Table) -> Result<()> {
    let desk = clinic.visitor(0, "receptionist")?;
    let theirs = clinic.patient_of(&clinic.visitor(1, "receptionist")?.user)?;
    let ours = clinic.patient_of(&desk.user)?;
    let asked = async |id: Uuid, what: &str| -> Result<String> {
        let (_, answer) = desk.query(&format!("{{ patient(id: \"{id}\") {{ {what} }} }}")).await?;
        Ok(answer["errors"][0]["message"].as_str().unwrap_or("answered").to_owned())
    };
    let missing = "there is no such thing";
    table.refused("GraphQL: a patient of another clinic", &asked(theirs.id, "email").await?, missing)?;
    table.refused(
        "GraphQL: the front desk reads a diagnosis",
        &asked(ours.id, "diagnosis").await?,
        "you may not do that",
    )?;
    let endless: String = (0..20).map(|n| format!("a{n}: patients {{ visits {{ id }} }} ")).collect();
    let (_, answer) = desk.query(&format!("{{ {endless} }}")).await?;
    let outcome = answer["errors"][0]["message"].as_str().unwrap_or("answered");
    table.refused("GraphQL: a query without end", outcome, "Query is too complex.")
}
