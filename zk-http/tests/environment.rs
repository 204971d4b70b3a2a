//! Nothing of the process's environment decides where a request goes, or whom it trusts beside the given authorities.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use testkit::{
    Authority,
    fake::{Cloud, Fake},
    surroundings::Surroundings,
};
use zk_http::{Client, ClientConfig, Endpoint, Error, ErrorKind, Method, Request};

/// In a process whose environment names a proxy, and an authority as one of the system's.
#[tokio::test]
async fn only_given_authorities_count_and_no_proxy() {
    let test = "only_given_authorities_count_and_no_proxy";
    let Some(surroundings) = Surroundings::inside(test).unwrap() else { return };
    let (plain, tls) = (Fake::start(Cloud::Google).unwrap(), surroundings.server());
    // The environment counts for a client that nobody told otherwise: so what follows shows something.
    let usual = reqwest::Client::new();
    usual.get(plain.url()).send().await.unwrap_err();
    let controls = surroundings.proxied();
    assert!(controls > 0, "the control met no proxy");
    let direct = reqwest::Client::builder().no_proxy().build().unwrap();
    direct.get(tls.url()).send().await.expect("the system's authorities are those of the environment");

    ask(&plain.url(), None).await.unwrap();
    ask(&tls.url(), None).await.expect("without given authorities it is the system's that count");
    ask(&tls.url(), Some(tls.authority().pem())).await.unwrap();
    let other = Authority::new("another").unwrap();
    let error = ask(&tls.url(), Some(other.pem())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    assert_eq!(surroundings.proxied(), controls, "a request went to the proxy");
}

async fn ask(url: &str, authorities: Option<&str>) -> Result<u16, Error> {
    let endpoint = Endpoint::new(url)?;
    let endpoint = match authorities {
        Some(pem) => endpoint.trusting(pem),
        None => endpoint,
    };
    let client = Client::new(&endpoint, ClientConfig::default())?;
    client.send(Request::new(Method::Get, ["v1"])).await.map(|answer| answer.status())
}
