//! Servers that answer what no service should: each answer is a typed error, goes nowhere else, and shows no secret.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use zk_kms::{
    AsymmetricKms, AwsKeyPair, AwsKms, AzureKeyPair, Context, DataKey, ErrorKind, GcpKeyPair, KeySpec,
    KeyVersion, Kms, LocalKeyPair, OpenConfig, PinnedKms, PublicKey, WrappedKey, layers::Guard, open,
};

use crate::captured::{Captured, SECRET, TOKEN};

const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Redirect,
    Oversized,
    Endless,
    TruncatedJson,
    NoJson,
    OtherJson,
    WrongContentType,
    Cut,
    Dripping,
    Status(u16),
    /// AWS' refusal of this name.
    Code(&'static str),
}

const ANSWERS: [Answer; 17] = [
    Answer::Redirect,
    Answer::Oversized,
    Answer::Endless,
    Answer::TruncatedJson,
    Answer::NoJson,
    Answer::OtherJson,
    Answer::WrongContentType,
    Answer::Cut,
    Answer::Status(400),
    Answer::Status(401),
    Answer::Status(403),
    Answer::Status(404),
    Answer::Status(418),
    Answer::Status(429),
    Answer::Status(500),
    Answer::Status(502),
    Answer::Status(503),
];

#[tokio::test]
async fn bad_answers_are_typed_errors_and_show_nothing() {
    let (captured, _logging) = Captured::logging(tracing::Level::DEBUG);
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere_url = format!("http://{}", elsewhere.local_addr().unwrap());
    elsewhere.set_nonblocking(true).unwrap();

    for answer in ANSWERS {
        let server = Server::start(answer, elsewhere_url.clone());
        for kms in backends(&server.url).await {
            let what = format!("{answer:?} to {}", kms.uri());
            captured.debug(&kms);
            let (key, context) = (DataKey::from_slice(SECRET).unwrap(), Context::new());
            let (wrapped, other) = (wrapped(&*kms), Context::new().with("to", "b").unwrap());
            let error = kms.unwrap_key(&wrapped, &context).await.map(|_| what.clone()).unwrap_err();
            captured.error(&error);
            check_kind(answer, &error, &what);
            let rewrapped = kms.rewrap_key(&wrapped, &context, &other).await;
            let error = rewrapped.map(|_| what.clone()).unwrap_err();
            captured.error(&error);
            check_kind(answer, &error, &what);
            // What wraps here asks nobody, and Vault's server answers questions about the key.
            let asks = !kms.capabilities().wraps_with_public_key();
            let answers_status = kms.uri().service() == zk_kms::Service::VaultTransit;
            let wrap = kms.wrap_key(&key, &context).await.map(drop);
            check_call(&captured, answer, wrap, asks, &format!("wrapping, {what}"));
            check_call(&captured, answer, kms.status().await.map(drop), !answers_status, &what);
            let spec = KeySpec::new().tag("a", "b");
            if let Err(error) = zk_kms::ensure_key(kms.uri(), &config(&server.url), &spec).await {
                captured.error(&error);
            }
        }
        for pair in pairs(&server.url).await {
            let what = format!("{answer:?} to the pair {}", pair.uri());
            captured.debug(&pair);
            let version = wrapped_version(pair.uri());
            let error = pair.decrypt(&version, &[7; 384]).await.map(|_| what.clone()).unwrap_err();
            captured.error(&error);
            check_kind(answer, &error, &what);
            check_call(&captured, answer, pair.public_key().await.map(drop), true, &what);
        }
    }
    assert!(elsewhere.accept().is_err(), "a redirect to another host was followed");
    assert!(captured.text().contains("a call failed"), "the log of the layers is here");
    captured.check();
}

/// A server that never stops and never finishes costs its caller the timeout, whatever it drips.
#[tokio::test]
async fn an_answer_that_drips_meets_the_timeout() {
    let server = Server::start(Answer::Dripping, String::new());
    let config = config(&server.url).timeout(Duration::from_secs(1));
    let mut calls = tokio::task::JoinSet::new();
    for uri in ["vault-transit://vault/other/k", "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k"] {
        let kms = open(&uri.parse().unwrap(), &config).await.unwrap();
        calls.spawn(async move { kms.unwrap_key(&wrapped(&*kms), &Context::new()).await.map(drop) });
    }
    let kms = open(&format!("aws-kms://{ARN}").parse().unwrap(), &config).await.unwrap();
    calls.spawn(async move { kms.unwrap_key(&wrapped(&*kms), &Context::new()).await.map(drop) });
    let pair = AzureKeyPair::open(&"azure-kv://shop.vault.azure.net/k".parse().unwrap(), &config).unwrap();
    calls.spawn(async move { pair.public_key().await.map(drop) });
    let ended = tokio::time::timeout(Duration::from_secs(10), calls.join_all()).await.expect("they end");
    for result in ended {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

/// What the services say when a clock is wrong names the clock, and is not tried again.
#[tokio::test]
async fn a_wrong_clock_is_named() {
    for code in
        ["InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired", "RequestTimeTooSkewed"]
    {
        let server = Server::start(Answer::Code(code), String::new());
        let kms = open(&format!("aws-kms://{ARN}").parse().unwrap(), &config(&server.url)).await.unwrap();
        let error = kms.unwrap_key(&wrapped(&*kms), &Context::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("clock") && error.to_string().contains(code), "{error}");
    }
    let server = Server::start(Answer::Status(401), String::new());
    let pair =
        AzureKeyPair::open(&"azure-kv://shop.vault.azure.net/k".parse().unwrap(), &config(&server.url));
    let error = pair.unwrap().public_key().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("has expired, is not valid yet"), "{error}");
}

/// A call that asks the service fails as it answers; one that does not may succeed.
fn check_call(captured: &Captured, answer: Answer, call: Result<(), zk_kms::Error>, asks: bool, what: &str) {
    match call {
        Ok(()) => assert!(!asks, "{what} went well"),
        Err(error) => {
            captured.error(&error);
            match answer {
                // Only what unwraps can be wrong about the bytes.
                Answer::Status(400) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{what}: {error}"),
                _ => check_kind(answer, &error, what),
            }
        }
    }
}

/// A service that cannot be told from a stranger is away; one that says no has said no.
fn check_kind(answer: Answer, error: &zk_kms::Error, what: &str) {
    let allowed: &[ErrorKind] = match answer {
        Answer::Status(401 | 403) => &[ErrorKind::Denied],
        Answer::Status(404) => &[ErrorKind::NotFound],
        Answer::Status(400) => &[ErrorKind::Invalid],
        Answer::Status(418) => &[ErrorKind::Invalid, ErrorKind::Unsupported],
        Answer::Status(429) => &[ErrorKind::Throttled],
        _ => &[ErrorKind::Unavailable],
    };
    assert!(allowed.contains(&error.kind()), "{what}: {:?} {error}", error.kind());
}

fn config(url: &str) -> OpenConfig {
    OpenConfig::new()
        .endpoint(url)
        .bearer_token(TOKEN.into())
        .access_key("id", TOKEN.into())
        .timeout(Duration::from_secs(5))
}

/// Each backend, behind all layers.
async fn backends(url: &str) -> Vec<Arc<dyn Kms>> {
    let guard = Guard {
        retry: zk_kms::layers::RetryConfig { attempts: 1, ..Default::default() },
        ..Guard::default()
    };
    let mut all = Vec::new();
    for uri in [
        "vault-transit://vault/transit/k",
        "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k",
        &format!("aws-kms://{ARN}"),
    ] {
        all.push(guard.around(open(&uri.parse().unwrap(), &config(url)).await.unwrap()));
    }
    let azure = "azure-kv://shop.vault.azure.net/k".parse().unwrap();
    let pair = AzureKeyPair::open(&azure, &config(url)).unwrap();
    all.push(guard.around(PinnedKms::new(Arc::new(pair), some_public_key(azure).await).unwrap()));
    all
}

/// Key pairs without what wraps for them here.
async fn pairs(url: &str) -> Vec<Arc<dyn AsymmetricKms>> {
    let in_google = "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k".parse().unwrap();
    let in_aws = format!("aws-kms://{ARN}").parse().unwrap();
    let in_azure = "azure-kv://shop.vault.azure.net/k".parse().unwrap();
    vec![
        Arc::new(GcpKeyPair::open(&in_google, &config(url)).unwrap()),
        Arc::new(AwsKeyPair::open(&in_aws, &config(url)).await.unwrap()),
        Arc::new(AzureKeyPair::open(&in_azure, &config(url)).unwrap()),
    ]
}

fn wrapped_version(uri: &zk_kms::KeyUri) -> KeyVersion {
    KeyVersion::new(if uri.service() == zk_kms::Service::AwsKms { "1234abcd" } else { "1" }).unwrap()
}

async fn some_public_key(uri: zk_kms::KeyUri) -> PublicKey {
    // Made once: it takes a while.
    static DER: tokio::sync::OnceCell<Vec<u8>> = tokio::sync::OnceCell::const_new();
    let der = DER.get_or_init(async || {
        LocalKeyPair::ephemeral("any").unwrap().public_key().await.unwrap().der().to_vec()
    });
    PublicKey::rsa_oaep_256(uri, KeyVersion::new("1").unwrap(), der.await).unwrap()
}

/// Something that looks wrapped, for each backend.
fn wrapped(kms: &dyn Kms) -> WrappedKey {
    let (version, len) = match kms.uri().service() {
        zk_kms::Service::AwsKms => ("1234abcd", 180),
        zk_kms::Service::AzureKeyVault => ("1", 1 + 256 + 72),
        _ => ("1", 60),
    };
    let mut bytes = vec![7; len];
    bytes[0] = 1;
    WrappedKey::new(kms.uri().clone(), KeyVersion::new(version).unwrap(), bytes).unwrap()
}

/// Answers every request the same, apart from questions about Vault's key, so that more is asked.
struct Server {
    url: String,
}

impl Server {
    fn start(answer: Answer, elsewhere: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, elsewhere) = (stream.unwrap(), elsewhere.clone());
                // A client that has read enough goes away.
                thread::spawn(move || serve(stream, answer, &elsewhere).ok());
            }
        });
        Self { url }
    }
}

fn serve(mut stream: TcpStream, answer: Answer, elsewhere: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;

    let (json, html) = ("application/json", "text/html");
    let (base64, url64) = (BASE64.encode(SECRET), BASE64URL_NOPAD.encode(SECRET));
    let good = format!(
        r#"{{"plaintext":"{base64}","Plaintext":"{base64}","value":"{url64}","data":{{"plaintext":"{base64}"}},"message":"{base64}""#
    );
    if head.starts_with("GET /v1/transit/keys/") {
        return send(
            &mut stream,
            200,
            json,
            "",
            r#"{"data":{"type":"aes256-gcm96","derived":true,"latest_version":1}}"#,
        );
    }
    match answer {
        Answer::Redirect => send(&mut stream, 307, json, &format!("Location: {elsewhere}/v1/\r\n"), "{}"),
        Answer::Oversized => {
            send(&mut stream, 200, json, "", &format!("{good},\"x\":\"{}\"}}", "y".repeat(4 << 20)))
        }
        Answer::Endless => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {json}\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                write!(stream, "1000\r\n{}\r\n", "z".repeat(0x1000))?;
            }
        }
        Answer::TruncatedJson => send(&mut stream, 200, json, "", &good),
        Answer::NoJson => send(&mut stream, 200, json, "", &base64),
        Answer::OtherJson => send(&mut stream, 200, json, "", "[1,2,3]"),
        Answer::WrongContentType => send(&mut stream, 200, html, "", &format!("<p>{base64}</p>")),
        Answer::Cut => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {json}\r\nContent-Length: 999\r\n\r\n{good}")
        }
        Answer::Dripping => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {json}\r\nContent-Length: 9999\r\n\r\n")?;
            loop {
                write!(stream, " ")?;
                thread::sleep(Duration::from_millis(100));
            }
        }
        Answer::Code(code) => {
            let body =
                format!(r#"{{"__type":"{code}","message":"Signature not yet current: 20380119T031407Z"}}"#);
            send(&mut stream, 400, "application/x-amz-json-1.1", "", &body)
        }
        Answer::Status(status) => {
            send(&mut stream, status, json, "", &format!("{good},\"__type\":\"Strange\"}}"))
        }
    }
}

fn send(stream: &mut TcpStream, status: u16, kind: &str, headers: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// The type is public, and made with the configuration too.
#[test]
fn backends_of_another_service_are_refused() {
    let uri = "local:orders".parse().unwrap();
    let kind = |e: zk_kms::Error| e.kind();
    assert_eq!(AzureKeyPair::open(&uri, &config("https://h")).map_err(kind).unwrap_err(), ErrorKind::Invalid);
    let _: fn(&zk_kms::KeyUri, _) -> Result<AwsKms, zk_kms::Error> = AwsKms::new;
}
