//! The custom program in Python: run with a login, run with its successor, and refused once that is revoked.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use zk_creds::Credential;
use zk_creds::postgres::Login;

use super::processes::Solution;
use super::table::{Table, ensure};
use super::world::GRACE;
use crate::Result;

const SERVICE: &str = "report";
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/report.py");

pub async fn run(solution: &mut Solution, table: &mut Table) -> Result<()> {
    let python = python();
    let next = rotate(solution).await?;
    let first = solution.credentials.insert(SERVICE.to_owned(), next).ok_or("the report was not deployed")?;
    match &python {
        Some(python) => {
            let lines = report(solution, python).await?;
            let right = expected(solution).await?;
            ensure(lines == right, format!("the report says {lines:?}, and not {right:?}"))?;
            let how = format!("{} clinics, as libpq connects, under a rotated login", lines.len());
            table.holds("a program in Python reports", how);
        }
        None => println!("NOT CHECKED: the report needs Python with psycopg, which `./dev test` installs"),
    }
    stolen(solution, &first, table).await?;
    if let Some(python) = &python {
        let refused =
            report(solution, python).await.err().map_or("it ran".to_owned(), |error| error.to_string());
        let outcome =
            if refused.contains("authentication failed") { "authentication failed" } else { &refused };
        table.refused("the program in Python runs on after that", outcome, "authentication failed")?;
    }
    Ok(())
}

async fn rotate(solution: &mut Solution) -> Result<Credential> {
    let world = &mut solution.world;
    let service = world.manifest.service(SERVICE)?;
    Ok(world.issuer.rotate(&mut world.deployer, service, GRACE).await?)
}

/// Whoever has stolen a login has nothing once it is revoked: no new session, and not the open one either.
async fn stolen(solution: &mut Solution, first: &Credential, table: &mut Table) -> Result<()> {
    let endpoint = solution.world.endpoint();
    let kind = |outcome: std::result::Result<_, zk_creds::Error>| match outcome {
        Ok(_) => "a connection".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    };
    let present = solution.credentials.get(SERVICE).ok_or("the report has no login")?;
    let login = || Login::of(endpoint.clone(), present);
    let doctor = login().acting_as("clinic_doctor").connect().await;
    table.refused("the report's login as a doctor", &kind(doctor), "Denied")?;
    let thief = login().acting_as("clinic_analyst").connect().await?;
    let rows = thief.query("SELECT cents FROM invoices", &[]).await?.len();
    table.refused("the report's login without a signature", &format!("{rows} rows"), "0 rows")?;
    let world = &mut solution.world;
    world.issuer.revoke(&mut world.deployer, present.lease()).await?;
    let open = thief.simple_query("SELECT 1").await;
    table.refused("a session with a stolen login, after its revocation", ended(open.is_err()), "ended")?;
    table.refused(
        "a stolen login connects after its revocation",
        &kind(login().connect().await),
        "Denied",
    )?;
    world.issuer.revoke(&mut world.deployer, first.lease()).await?;
    let before = Login::of(endpoint.clone(), first).connect().await;
    table.refused("… and the login before it", &kind(before), "Denied")
}

fn ended(is_error: bool) -> &'static str {
    if is_error { "ended" } else { "still open" }
}

/// Runs the program with its environment and nothing else; its lines, or what it said went wrong.
async fn report(solution: &mut Solution, python: &PathBuf) -> Result<Vec<serde_json::Value>> {
    let environment = solution.short_environment(SERVICE).await?;
    let mut command = environment.command(python);
    command.arg(PROGRAM).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    String::from_utf8(output.stdout)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// What the report has to say, as the superuser counts.
async fn expected(solution: &Solution) -> Result<Vec<serde_json::Value>> {
    let client = solution.world.database.connect().await?;
    let sql =
        "SELECT json_build_object('tenant', tenant_id, 'invoices', count(*), 'cents', sum(cents)::int8)::text
               FROM invoices GROUP BY tenant_id ORDER BY tenant_id";
    client.query(sql, &[]).await?.iter().map(|row| Ok(serde_json::from_str(row.get(0))?)).collect()
}

/// An interpreter that has psycopg: that of `./dev test`, or the system's.
fn python() -> Option<PathBuf> {
    let ours = std::env::var_os("ZK_PYTHON_ENV").map(|folder| PathBuf::from(folder).join("bin/python"));
    let has_psycopg = |python: &PathBuf| {
        let tried = Command::new(python).args(["-c", "import psycopg"]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    ours.into_iter().chain([PathBuf::from("python3")]).find(has_psycopg)
}
