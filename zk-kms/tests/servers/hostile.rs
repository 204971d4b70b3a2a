//! Servers that answer what no service should: each answer is a typed error, goes nowhere else, and shows no secret.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use tracing_subscriber::fmt::MakeWriter;
use zk_kms::{
    AsymmetricKms, AwsKms, AzureKeyPair, Context, DataKey, ErrorKind, KeySpec, KeyVersion, Kms, LocalKeyPair,
    OpenConfig, PinnedKms, PublicKey, WrappedKey, layers::Guard, open,
};

/// The data key, which every answer of the server holds.
const SECRET: &[u8; 32] = b"MARKED-SECRET-KEY-0123456789-abc";
const TOKEN: &str = "MARKED-TOKEN-9876543210";
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
    Status(u16),
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
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(captured.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere_url = format!("http://{}", elsewhere.local_addr().unwrap());
    elsewhere.set_nonblocking(true).unwrap();

    for answer in ANSWERS {
        let server = Server::start(answer, elsewhere_url.clone());
        for kms in backends(&server.url).await {
            let what = format!("{answer:?} to {}", kms.uri());
            captured.note(&format!("{kms:?}"));
            let (key, context) = (DataKey::from_slice(SECRET).unwrap(), Context::new());
            if let Err(error) = kms.wrap_key(&key, &context).await {
                captured.error(&error);
            }
            let wrapped = wrapped(&*kms);
            let error = kms.unwrap_key(&wrapped, &context).await.map(|_| what.clone()).unwrap_err();
            captured.error(&error);
            check_kind(answer, &error, &what);
            if let Err(error) =
                kms.rewrap_key(&wrapped, &context, &Context::new().with("to", "b").unwrap()).await
            {
                captured.error(&error);
            }
            if let Err(error) = kms.status().await {
                captured.error(&error);
            }
            let spec = KeySpec::new().tag("a", "b");
            if let Err(error) = zk_kms::ensure_key(kms.uri(), &config(&server.url), &spec).await {
                captured.error(&error);
            }
        }
    }
    assert!(elsewhere.accept().is_err(), "a redirect to another host was followed");
    captured.check();
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

async fn some_public_key(uri: zk_kms::KeyUri) -> PublicKey {
    let der = LocalKeyPair::ephemeral("any").unwrap().public_key().await.unwrap().der().to_vec();
    PublicKey::rsa_oaep_256(uri, KeyVersion::new("1").unwrap(), &der).unwrap()
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
        return send(&mut stream, 200, json, "", r#"{"data":{"derived":true,"latest_version":1}}"#);
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

/// Everything that anybody could have read: logs, errors with all their causes, Debug.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn note(&self, text: &str) {
        self.0.lock().unwrap().extend(text.as_bytes());
    }

    fn error(&self, error: &zk_kms::Error) {
        self.note(&format!("{error:?} {error:#?}"));
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = cause {
            self.note(&format!("{error} {error:?}"));
            cause = error.source();
        }
    }

    fn check(&self) {
        let text = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        assert!(text.contains("a call failed"), "the log of the layers is here");
        let numbers = |bytes: &[u8]| format!("{:?}", &bytes[..8]).replace(['[', ']'], "");
        for shown in [
            "MARKED".to_owned(),
            BASE64.encode(SECRET)[..16].to_owned(),
            HEXLOWER.encode(&SECRET[..8]),
            numbers(SECRET),
            numbers(BASE64.encode(SECRET).as_bytes()),
            numbers(TOKEN.as_bytes()),
        ] {
            if let Some(at) = text.find(&shown) {
                let around: String = text.chars().skip(at.saturating_sub(300)).take(600).collect();
                panic!("`{shown}` is shown: ..{around}..");
            }
        }
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The type is public, and made with the configuration too.
#[test]
fn backends_of_another_service_are_refused() {
    let uri = "local:orders".parse().unwrap();
    let kind = |e: zk_kms::Error| e.kind();
    assert_eq!(AzureKeyPair::open(&uri, &config("https://h")).map_err(kind).unwrap_err(), ErrorKind::Invalid);
    let _: fn(&zk_kms::KeyUri, _) -> Result<AwsKms, zk_kms::Error> = AwsKms::new;
}
