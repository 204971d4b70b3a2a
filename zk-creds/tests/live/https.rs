//! HTTPS between services: authority, certificates and roots rotate under load, and what must be refused is.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode, header};
use axum::routing::get;
use http_body_util::{BodyExt, Full};
use hyper_util::service::TowerToHyperService;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use zk_creds::tls::https::{self, HttpsClient, Peer, ServerOptions};
use zk_creds::tls::{Authority, AuthorityConfig, Clients, KeyRequest, Material, Names, Servers, Tls};
use zk_creds::{Clock, ErrorKind};

use super::shop::StoppedClock;

const HOUR: Duration = Duration::from_secs(3600);

fn authority() -> Authority {
    Authority::create(AuthorityConfig::new("shop.example")).unwrap()
}

/// A certificate of a service that serves on localhost.
fn material(authority: &Authority, service: &str, roots: &str) -> Material {
    let request = KeyRequest::generate().unwrap();
    let names = Names::service(service).dns("localhost");
    let leaf = authority.sign(request.pem(), &names, HOUR).unwrap();
    request.into_material(&leaf, roots)
}

fn tls(authority: &Authority, service: &str) -> Tls {
    Tls::new(material(authority, service, authority.certificate())).unwrap()
}

struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    done: tokio::task::JoinHandle<Result<(), zk_creds::Error>>,
}

impl Server {
    /// Tells who asked: REST at `/`, and a body that is read at `/graphql`.
    async fn start(tls: &Tls, options: ServerOptions) -> Self {
        async fn who(peer: Option<Extension<Peer>>) -> String {
            peer.map_or_else(|| "nobody".to_owned(), |peer| peer.0.0)
        }
        async fn graphql(body: Bytes) -> String {
            format!("{} bytes", body.len())
        }
        let router = axum::Router::new().route("/", get(who)).route("/graphql", axum::routing::post(graphql));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let tls = tls.clone();
        let done = tokio::spawn(async move {
            let service = TowerToHyperService::new(router);
            https::serve(listener, &tls, options, service, async { drop(stopped.await) }).await
        });
        Self { address, stop: Some(stop), done }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.done.await.unwrap().unwrap();
    }
}

/// What a client is answered, or the whole chain of reasons why it is not.
async fn ask(tls: &Tls, url: &str) -> Result<String, String> {
    let client = https::client::<Full<Bytes>>(tls).unwrap();
    send(&client, url).await
}

async fn send(client: &HttpsClient<Full<Bytes>>, url: &str) -> Result<String, String> {
    let answer = client.get(url.parse().unwrap()).await.map_err(|e| reasons(&e))?;
    assert_eq!(answer.headers()[header::STRICT_TRANSPORT_SECURITY], "max-age=63072000; includeSubDomains");
    let body = answer.into_body().collect().await.map_err(|e| reasons(&e))?;
    Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

/// One request over a connection of its own, read to its end.
async fn get_once(config: &Arc<rustls::ClientConfig>, server: &Server) -> Result<String, String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let connector = tokio_rustls::TlsConnector::from(config.clone());
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let connected = connector.connect("localhost".try_into().unwrap(), stream).await;
    let mut stream = connected.map_err(|e| e.to_string())?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|e| e.to_string())?;
    Ok(answer)
}

/// Why the server refuses a client after its part of the handshake.
async fn alert(tls: &Tls, server: &Server) -> String {
    use tokio::io::AsyncReadExt;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls.client().unwrap()));
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    match connector.connect("localhost".try_into().unwrap(), stream).await {
        Ok(mut stream) => stream.read_u8().await.unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text += &format!(": {error}");
        next = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn services_know_each_other() {
    let authority = authority();
    let billing = tls(&authority, "billing");
    let orders = "spiffe://shop.example/orders".to_owned();
    let options = |clients| {
        let mut options = ServerOptions::default();
        options.clients = clients;
        options
    };
    let server = Server::start(&billing, options(Clients::These(BTreeSet::from([orders.clone()])))).await;
    assert_eq!(ask(&tls(&authority, "orders"), &server.url("/")).await.unwrap(), orders);
    let reports = tls(&authority, "reports");
    assert!(ask(&reports, &server.url("/")).await.is_err());
    let refused = alert(&reports, &server).await;
    assert!(refused.contains("AccessDenied"), "{refused}");
    let nobody = Tls::new(Material::trusting(authority.certificate())).unwrap();
    assert!(ask(&nobody, &server.url("/")).await.is_err());
    let refused = alert(&nobody, &server).await;
    assert!(refused.contains("CertificateRequired"), "{refused}");
    server.stop().await;

    let open = Server::start(&billing, ServerOptions::default()).await;
    assert_eq!(ask(&nobody, &open.url("/")).await.unwrap(), "nobody");
    let client = https::client::<Full<Bytes>>(&nobody).unwrap();
    let query = Request::builder()
        .method(Method::POST)
        .uri(open.url("/graphql"))
        .body(Full::from("{ orders }"))
        .unwrap();
    let answer = client.request(query).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer, "10 bytes");
    // It refuses to speak plain HTTP at all.
    let plain = format!("http://localhost:{}/", open.address.port());
    let refused = reasons(&client.get(plain.parse().unwrap()).await.unwrap_err());
    assert!(refused.contains("http"), "{refused}");
    open.stop().await;
}

/// Every service of the authority answers under the name that was asked for; only one of them is billing.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_speaks_to_the_service_that_it_means() {
    let authority = authority();
    let orders = tls(&authority, "orders");
    let billing = Server::start(&tls(&authority, "billing"), ServerOptions::default()).await;
    let reports = Server::start(&tls(&authority, "reports"), ServerOptions::default()).await;
    let means_billing =
        https::client_to::<Full<Bytes>>(&orders, Servers::service("shop.example", "billing")).unwrap();
    assert_eq!(send(&means_billing, &billing.url("/")).await.unwrap(), "nobody");
    let refused = send(&means_billing, &reports.url("/")).await.unwrap_err();
    let why = "the server is spiffe://shop.example/reports, and not spiffe://shop.example/billing";
    assert!(refused.contains(why), "{refused}");
    // Whose authority it is, and the name, are asked all the same.
    let foreign = Server::start(&tls(&self::authority(), "billing"), ServerOptions::default()).await;
    let refused = send(&means_billing, &foreign.url("/")).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer") || refused.contains("BadSignature"), "{refused}");
    let by_address = billing.url("/").replace("localhost", "127.0.0.1");
    let refused = send(&means_billing, &by_address).await.unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");
    // A certificate that names nobody.
    let nobody = testkit::Authority::new("nobody's").unwrap();
    let leaf = nobody.server_certificate(&["localhost"]).unwrap();
    let material = || Material::trusting(nobody.pem());
    let served = Tls::new(material().proving(leaf.certificate_pem, leaf.key_pem.into())).unwrap();
    let server = Server::start(&served, ServerOptions::default()).await;
    let trusting = Tls::new(material()).unwrap();
    assert!(ask(&trusting, &server.url("/")).await.is_ok());
    let means_billing =
        https::client_to::<Full<Bytes>>(&trusting, Servers::service("shop.example", "billing")).unwrap();
    let refused = send(&means_billing, &server.url("/")).await.unwrap_err();
    assert!(refused.contains("names no service"), "{refused}");
    for server in [billing, reports, foreign, server] {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_redirected_or_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(https::redirect(listener, "shop.example:8443", std::future::pending()));
    let client =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let ask = async |method: Method| {
        let url = format!("http://{address}/orders?id=7");
        let request = Request::builder().method(method).uri(url).body(Body::empty()).unwrap();
        client.request(request).await.unwrap()
    };
    let answer = ask(Method::GET).await;
    assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(answer.headers()[header::LOCATION], "https://shop.example:8443/orders?id=7");
    assert_eq!(ask(Method::POST).await.status(), StatusCode::FORBIDDEN);
}

/// Under load: the server's certificate is replaced, then the authority behind everybody, in the order of the runbook.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_rotates_without_a_failed_request() {
    let (old, new) = (authority(), authority());
    let both = format!("{}{}", old.certificate(), new.certificate());
    let (server_tls, client_tls) = (tls(&old, "billing"), tls(&old, "orders"));
    let mut options = ServerOptions::default();
    options.clients = Clients::Known;
    let server = Server::start(&server_tls, options).await;

    let (asked, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut clients = Vec::new();
    for number in 0..8 {
        let mut client = https::client::<Full<Bytes>>(&client_tls).unwrap();
        let (asked, stop, url, tls) = (asked.clone(), stop.clone(), server.url("/"), client_tls.clone());
        clients.push(tokio::spawn(async move {
            let mut failures = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                // Half of them keep their connection throughout, the others shake hands for each request.
                if number % 2 == 0 {
                    client = https::client(&tls).unwrap();
                }
                if let Err(error) = send(&client, &url).await {
                    failures.push(error);
                }
                asked.fetch_add(1, Ordering::Relaxed);
            }
            failures
        }));
    }
    let until = async |count: u64| {
        let goal = asked.load(Ordering::Relaxed) + count;
        while asked.load(Ordering::Relaxed) < goal {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    until(300).await;
    // 1. Everybody trusts both.
    server_tls.reload(material(&old, "billing", &both)).unwrap();
    until(300).await;
    client_tls.reload(material(&old, "orders", &both)).unwrap();
    until(300).await;
    // 2. Everybody gets a certificate of the new one, in any order.
    client_tls.reload(material(&new, "orders", &both)).unwrap();
    until(300).await;
    server_tls.reload(material(&new, "billing", &both)).unwrap();
    until(300).await;
    // 3. Nobody trusts the old one any more.
    client_tls.reload(material(&new, "orders", new.certificate())).unwrap();
    server_tls.reload(material(&new, "billing", new.certificate())).unwrap();
    until(300).await;
    stop.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    for client in clients {
        failures.extend(client.await.unwrap());
    }
    let asked = asked.load(Ordering::Relaxed);
    println!("{asked} requests, {} failed", failures.len());
    assert!(asked >= 1800);
    assert!(failures.is_empty(), "{} of {asked} failed, such as {}", failures.len(), failures[0]);

    // A certificate of the old authority is refused now, in both directions.
    let late = Tls::new(material(&old, "orders", &both)).unwrap();
    assert!(ask(&late, &server.url("/")).await.is_err());
    let stale = Tls::new(material(&new, "orders", old.certificate()));
    assert_eq!(stale.unwrap_err().kind(), ErrorKind::Invalid);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_good_is_not_reloaded() {
    let (ours, foreign) = (authority(), authority());
    let served = tls(&ours, "billing");
    let server = Server::start(&served, ServerOptions::default()).await;
    let client = Tls::new(Material::trusting(ours.certificate())).unwrap();
    let expires_at = served.expires_at().unwrap();

    let key = KeyRequest::generate().unwrap();
    let other = KeyRequest::generate().unwrap();
    let leaf = ours.sign(key.pem(), &Names::service("billing").dns("localhost"), HOUR).unwrap();
    for (bad, why) in [
        (Material::trusting("nothing"), "no certificate"),
        (material(&ours, "billing", foreign.certificate()), "not valid now under the roots"),
        (other.into_material(&leaf, ours.certificate()), "do not fit"),
        (Material::trusting(ours.certificate()).proving("x", "y".into()), "cannot be read"),
    ] {
        let error = served.reload(bad).unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(why), "{error}");
        assert_eq!(ask(&client, &server.url("/")).await.unwrap(), "nobody", "the last good stays");
    }
    assert_eq!(served.expires_at(), Some(expires_at));
    server.stop().await;
}

#[test]
fn the_authority_signs_what_the_caller_says_and_not_what_is_asked() {
    let clock = StoppedClock::at_present();
    let mut config = AuthorityConfig::new("shop.example");
    (config.clock, config.lifetime) = (clock.clone(), 2 * HOUR);
    let authority = Authority::create(config.clone()).unwrap();
    // Somebody asks for a certificate of another service, and to be an authority.
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wish = rcgen::CertificateParams::new(vec!["billing.shop.example".to_owned()]).unwrap();
    wish.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let wish = wish.serialize_request(&key).unwrap();
    let names = Names::service("orders").dns("orders.internal");
    let leaf = authority.sign(&wish.pem().unwrap(), &names, HOUR).unwrap();
    let shown = openssl(&["x509", "-noout", "-text"], leaf.certificate.as_bytes());
    assert!(shown.contains("URI:spiffe://shop.example/orders, DNS:orders.internal"), "{shown}");
    assert!(!shown.contains("billing") && !shown.contains("CA:TRUE"), "{shown}");

    let mut forged = wish.der().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let forged = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        data_encoding::BASE64.encode(&forged)
    );
    for (request, names, lifetime) in [
        (forged.as_str(), names.clone(), HOUR),
        ("nothing", names.clone(), HOUR),
        (&wish.pem().unwrap(), Names::service("a/b"), HOUR),
        (&wish.pem().unwrap(), Names::service("a").dns("*.example"), HOUR),
        (&wish.pem().unwrap(), names.clone(), Duration::ZERO),
        (&wish.pem().unwrap(), names.clone(), 25 * HOUR),
    ] {
        assert_eq!(authority.sign(request, &names, lifetime).unwrap_err().kind(), ErrorKind::Invalid);
    }
    // No certificate outlives its authority.
    clock.advance(HOUR + HOUR / 2);
    let leaf = authority.sign(&wish.pem().unwrap(), &names, HOUR).unwrap();
    assert_eq!(leaf.expires_at, authority.ends());
    clock.advance(HOUR);
    let ended = authority.sign(&wish.pem().unwrap(), &names, HOUR);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Expired);
    assert!(clock.now() > authority.ends());
}

#[tokio::test]
async fn the_authority_is_sealed_under_a_kms() {
    use zk_crypto::{Encryptor, EncryptorConfig, MemoryKeyStore, Scope};
    let kms = Arc::new(zk_kms::LocalKms::ephemeral("test").unwrap());
    let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), EncryptorConfig::default()).unwrap();
    let scope = Scope::tenant("platform").unwrap();
    encryptor.create_key(&scope).await.unwrap();
    let config = || AuthorityConfig::new("shop.example");
    let first = authority();
    let sealed = first.seal(&encryptor, &scope).await.unwrap();
    let sealed = serde_json::from_str(&serde_json::to_string(&sealed).unwrap()).unwrap();
    let opened = Authority::open(&sealed, &encryptor, &scope, config()).await.unwrap();
    let client = Tls::new(material(&opened, "orders", first.certificate()));
    assert!(client.is_ok(), "what it signs is trusted where the first is: {client:?}");

    let mut swapped = sealed.clone();
    swapped.certificate = authority().certificate().to_owned();
    let refused = Authority::open(&swapped, &encryptor, &scope, config()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
    let other = AuthorityConfig::new("elsewhere.example");
    assert_eq!(
        Authority::open(&sealed, &encryptor, &scope, other).await.unwrap_err().kind(),
        ErrorKind::Denied
    );
    assert!(!format!("{opened:?} {sealed:?}").contains("PRIVATE"));
}

// --- Refusals, with our own client and with those that everybody has ------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn tls_refusals() {
    let (ours, foreign) = (authority(), authority());
    let server = Server::start(&tls(&ours, "billing"), ServerOptions::default()).await;
    let trusting = |roots: &str| Tls::new(Material::trusting(roots)).unwrap();
    let (good, port) = (trusting(ours.certificate()), server.address.port());
    let check = async |tls: &Tls, url: String, why: &str| {
        let refused = ask(tls, &url).await.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    };
    assert_eq!(ask(&good, &server.url("/")).await.unwrap(), "nobody");
    // The address is none of the certificate's names.
    check(&good, format!("https://127.0.0.1:{port}/"), "not valid for name").await;
    check(&trusting(foreign.certificate()), server.url("/"), "UnknownIssuer").await;
    let clock = StoppedClock::at_present();
    clock.advance(2 * HOUR);
    let later = Tls::with_clock(Material::trusting(ours.certificate()), clock).unwrap();
    check(&later, server.url("/"), "expired").await;
    // A root that is taken away is taken away from the next connection on, also for a client that had connected before.
    // With one configuration: a session that was resumed would not be verified again.
    let follows = trusting(ours.certificate());
    let config = Arc::new(follows.client().unwrap());
    assert!(get_once(&config, &server).await.unwrap().ends_with("nobody"));
    follows.reload(Material::trusting(foreign.certificate())).unwrap();
    let refused = get_once(&config, &server).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    server.stop().await;
}

/// What everybody has.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl and openssl"]
async fn curl_and_openssl_agree() {
    let (ours, foreign) = (authority(), authority());
    let server = Server::start(&tls(&ours, "billing"), ServerOptions::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (root, other) = (write("root.pem", ours.certificate()), write("other.pem", foreign.certificate()));
    let url = server.url("/");
    let curl = async |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--include"]).args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (code, text) = curl(&["--cacert", &root, &url]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.ends_with("nobody")
            && text.to_lowercase().contains("strict-transport-security: max-age=63072000"),
        "{text}"
    );
    // 60: the peer's certificate cannot be authenticated; 35: the handshake failed; 52: no answer.
    for (arguments, expected) in [
        (vec!["--cacert", &other, &url], vec![60]),
        (
            vec![
                "--cacert",
                &root,
                "--resolve",
                "shop.example:1:127.0.0.1",
                "--connect-to",
                "::localhost:0",
                &url.replace("localhost", "127.0.0.1"),
            ],
            vec![60, 7],
        ),
        (vec!["--cacert", &root, "--tls-max", "1.1", &url], vec![35]),
        (vec![&url.replace("https", "http")], vec![52, 56, 1]),
    ] {
        let (code, text) = curl(&arguments).await;
        assert!(expected.contains(&code.unwrap()), "{arguments:?} {code:?} {text}");
    }

    let request = KeyRequest::generate().unwrap();
    let leaf = ours.sign(request.pem(), &Names::service("orders"), HOUR).unwrap();
    let (certificate, key) =
        (write("leaf.pem", &leaf.certificate), write("key.pem", request.key().expose_secret()));
    let mut options = ServerOptions::default();
    options.clients = Clients::Known;
    let mutual = Server::start(&tls(&ours, "billing"), options).await;
    let url = mutual.url("/");
    let (code, text) = curl(&["--cacert", &root, "--cert", &certificate, "--key", &key, &url]).await;
    assert!(code == Some(0) && text.ends_with("spiffe://shop.example/orders"), "{code:?} {text}");
    let (code, text) = curl(&["--cacert", &root, &url]).await;
    assert!(matches!(code, Some(55 | 56)), "{text}");

    for (arguments, expected) in [
        (["-tls1_3", "-verify_hostname", "localhost"], "Verify return code: 0 (ok)"),
        (["-tls1_2", "-verify_hostname", "localhost"], "Verify return code: 0 (ok)"),
        (["-tls1_2", "-verify_hostname", "shop.example"], "hostname mismatch"),
        (["-tls1_1", "-verify_hostname", "localhost"], "Cipher is (NONE)"),
        // A downgrade that the client signals is refused by the server (RFC 7507), or here by having no such version.
        (["-tls1", "-verify_hostname", "localhost"], "Cipher is (NONE)"),
    ] {
        let address = server.address.to_string();
        let root = root.clone();
        let shown = tokio::task::spawn_blocking(move || {
            let all = [
                &["s_client", "-connect", &address, "-CAfile", &root, "-servername", "localhost"],
                &arguments[..],
            ]
            .concat();
            openssl(&all, b"Q\n")
        });
        let shown = shown.await.unwrap();
        assert!(shown.contains(expected), "{arguments:?}: {shown}");
        assert!(!shown.contains("Reused, TLS"), "no session is resumed: {shown}");
    }
    server.stop().await;
    mutual.stop().await;
}

/// Runs openssl, which must not wait for more input, and returns all that it prints.
fn openssl(arguments: &[&str], input: &[u8]) -> String {
    use std::io::Write;
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
