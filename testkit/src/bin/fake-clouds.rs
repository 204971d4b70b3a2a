//! Runs the fakes of [`testkit::fake`] for a client in another language, until its input ends.
//!
//! It prints one line of JSON that says where the fakes are, then reads one order in JSON a line and answers `ok`:
//!
//! ```text
//! {"cloud": "google", "operation": "decrypt", "times": 2, "fault": "Throttled"}
//! {"cloud": "azure", "advance_seconds": 8000000}
//! {"cloud": "azure", "token": "another"}
//! ```

use std::io::BufRead;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::fake::{Cloud, Fake, Fault};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let google = Fake::start(Cloud::Google)?;
    let azure = Fake::start(Cloud::Azure)?;
    let places = json!({
        "google": { "url": google.url() },
        "azure": { "url": azure.url(), "token": azure.token(), "authority": azure.authority().pem() },
    });
    println!("{places}");
    for line in std::io::stdin().lock().lines() {
        let order: Value = serde_json::from_str(&line?)?;
        let fake = match order["cloud"].as_str() {
            Some("google") => &google,
            Some("azure") => &azure,
            _ => return Err("`cloud` is `google` or `azure`".into()),
        };
        obey(fake, &order)?;
        println!("ok");
    }
    Ok(())
}

fn obey(fake: &Fake, order: &Value) -> Result<(), String> {
    if let Some(seconds) = order["advance_seconds"].as_u64() {
        fake.advance(Duration::from_secs(seconds));
    }
    if let Some(token) = order["token"].as_str() {
        fake.require_token(token);
    }
    if let Some(operation) = order["operation"].as_str() {
        let times = order["times"].as_u64().and_then(|times| usize::try_from(times).ok()).unwrap_or(1);
        fake.inject(operation, times, fault(order["fault"].as_str().unwrap_or_default())?);
    }
    Ok(())
}

fn fault(name: &str) -> Result<Fault, String> {
    Ok(match name {
        "Cut" => Fault::Cut,
        "LostAnswer" => Fault::LostAnswer,
        "CutAnswer" => Fault::CutAnswer,
        "Throttled" => Fault::Throttled { retry_after: 1 },
        "Failing" => Fault::Failing(503),
        "Denied" => Fault::Denied,
        "ExpiredToken" => Fault::ExpiredToken,
        "WrongChecksum" => Fault::WrongChecksum,
        "Unverified" => Fault::Unverified,
        "WrongBytes" => Fault::WrongBytes,
        "TruncatedJson" => Fault::TruncatedJson,
        "WrongContentType" => Fault::WrongContentType,
        _ => return Err(format!("there is no fault `{name}` here")),
    })
}
