//! `AnyOf` with a member whose answers somebody changes on the way, or that lies: it never gives another key, and what is
//! damaged is made good by the member that is well.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use testkit::kms::{KeyService, Place};
use tokio::time::Instant;
use zk_kms::{AnyOf, Context, DataKey, Error, ErrorKind, KeySpec, Kms, LocalKms, OpenConfig, open};

use crate::admin::{config, name};

/// What becomes of the body of an answer to this first line; without one there is no answer.
type Change = Box<dyn FnMut(&str, Vec<u8>) -> Option<Vec<u8>> + Send>;

/// A key of Google's fake with somebody in between, and a local ring beside it.
struct World {
    _service: KeyService,
    meddler: Meddler,
    google: Arc<dyn Kms>,
    ring: Arc<dyn Kms>,
    both: AnyOf,
    key: DataKey,
    context: Context,
}

impl World {
    async fn new() -> Self {
        let service = KeyService::start(Place::FakeGoogle).unwrap();
        let meddler = Meddler::before(&service.direct_endpoint());
        let (uri, config) = (service.uri(&name()).parse().unwrap(), config(&service).endpoint(&meddler.url));
        zk_kms::ensure_key(&uri, &config, &KeySpec::new()).await.unwrap();
        let google = open(&uri, &config).await.unwrap();
        let ring: Arc<dyn Kms> = Arc::new(LocalKms::ephemeral(&name()).unwrap());
        let both = AnyOf::new("orders", [Arc::clone(&google), Arc::clone(&ring)]).unwrap();
        let context = Context::new().with("scope", "tenant-7").unwrap();
        Self { _service: service, meddler, google, ring, both, key: DataKey::generate().unwrap(), context }
    }

    fn alone(&self, member: &Arc<dyn Kms>) -> AnyOf {
        AnyOf::new("orders", [Arc::clone(member)]).unwrap()
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Every byte of every answer, one after the other.
#[tokio::test]
async fn no_changed_answer_gives_another_key() {
    let world = World::new().await;
    let World { meddler, both, key, context, .. } = &world;
    let wrapped = both.wrap_key(key, context).await.unwrap();

    let decrypt = meddler.length_of(async || drop(both.unwrap_key(&wrapped, context).await.unwrap())).await;
    assert!(decrypt > 40, "{decrypt}");
    for at in 0..decrypt {
        meddler.flip(at);
        // Damage is nobody's refusal: the ring is asked.
        assert_eq!(both.unwrap_key(&wrapped, context).await.unwrap(), *key, "byte {at}");
    }
    meddler.leave();
    let encrypt = meddler.length_of(async || drop(both.wrap_key(key, context).await.unwrap())).await;
    let mut refused = 0;
    for at in 0..encrypt {
        meddler.flip(at);
        let made = both.wrap_key(key, context).await;
        meddler.leave();
        match made {
            // What was taken for a wrap is one.
            Ok(made) => {
                assert_eq!(
                    world.alone(&world.google).unwrap_key(&made, context).await.unwrap(),
                    *key,
                    "byte {at}"
                );
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "byte {at}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused * 2 > encrypt, "{refused} of {encrypt}");
}

/// A whole answer to another request, which is right in itself.
#[tokio::test]
async fn anothers_answer_gives_no_other_key() {
    let world = World::new().await;
    let World { meddler, both, key, context, .. } = &world;
    let other = DataKey::generate().unwrap();
    let wrapped = both.wrap_key(key, context).await.unwrap();
    let others = both.wrap_key(&other, context).await.unwrap();

    // The one-time key of another wrapped key.
    meddler.repeat_first();
    assert_eq!(both.unwrap_key(&others, context).await.unwrap(), other);
    assert_eq!(kind(both.unwrap_key(&wrapped, context).await), ErrorKind::Invalid);
    meddler.leave();
    assert_eq!(both.unwrap_key(&wrapped, context).await.unwrap(), *key);

    // Another's wrap: it is found out when it is asked for, and the other member has the key.
    meddler.repeat_first();
    both.wrap_key(&other, context).await.unwrap();
    let lied = both.wrap_key(key, context).await.unwrap();
    meddler.leave();
    assert_eq!(kind(both.unwrap_key(&lied, context).await), ErrorKind::Invalid);
    assert_eq!(kind(world.alone(&world.google).unwrap_key(&lied, context).await), ErrorKind::Invalid);
    let whole = world.alone(&world.ring);
    assert_eq!(whole.unwrap_key(&lied, context).await.unwrap(), *key);
    // Who cannot be believed is taken out, and put in again.
    let repaired = both.repair(&whole.repair(&lied, context).await.unwrap(), context).await.unwrap();
    assert_eq!(world.alone(&world.google).unwrap_key(&repaired, context).await.unwrap(), *key);
}

/// A member that names another key than the one that was asked for.
#[tokio::test]
async fn a_member_that_names_another_key_is_not_believed() {
    let world = World::new().await;
    let World { meddler, both, key, context, .. } = &world;
    let ours = world.google.uri().name().to_owned();
    meddler.set(move |_, body| {
        Some(String::from_utf8(body).unwrap().replace(&ours, &ours.replace("/r/", "/x/")).into_bytes())
    });
    assert_eq!(kind(both.wrap_key(key, context).await), ErrorKind::Unavailable);
    assert_eq!(kind(both.status().await), ErrorKind::Unavailable);

    // AWS says which key it used, and a client of it lets the wrong one pass.
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd";
    let liar = Meddler::alone(|_, _| {
        let other = "arn:aws:kms:eu-west-1:111122223333:key/5678efab";
        Some(format!(r#"{{"KeyId":"{other}","CiphertextBlob":"AAAA","Plaintext":"AAAA"}}"#).into_bytes())
    });
    let config = OpenConfig::new().endpoint(&liar.url).access_key("id", "secret".into());
    let aws = open(&format!("aws-kms://{arn}").parse().unwrap(), &config).await.unwrap();
    let with_aws = AnyOf::new("orders", [aws, Arc::clone(&world.ring)]).unwrap().require(1).unwrap();
    // Not passed over, though one member would be enough: this is no outage.
    assert_eq!(kind(with_aws.wrap_key(key, context).await), ErrorKind::Conflict);
}

/// A member that takes requests and never answers costs its patience.
#[tokio::test]
async fn a_member_that_hangs_is_passed_over() {
    const PATIENCE: Duration = Duration::from_millis(300);
    let world = World::new().await;
    let World { meddler, key, context, .. } = &world;
    let both = AnyOf::new("orders", [Arc::clone(&world.google), Arc::clone(&world.ring)]).unwrap();
    let both = both.patience(PATIENCE).require(1).unwrap();
    let wrapped = both.wrap_key(key, context).await.unwrap();
    meddler.set(|_, _| None);
    let started = Instant::now();
    assert_eq!(both.unwrap_key(&wrapped, context).await.unwrap(), *key);
    let alone = both.wrap_key(key, context).await.unwrap();
    // Ten times as long as the two calls wait, because the machine may be busy.
    assert!((PATIENCE * 2..PATIENCE * 20).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert_eq!(both.missing(&alone).unwrap(), [world.google.uri()]);
    assert_eq!(kind(both.repair(&alone, context).await), ErrorKind::Unavailable);
    meddler.leave();
    let repaired = both.repair(&alone, context).await.unwrap();
    assert_eq!(world.alone(&world.google).unwrap_key(&repaired, context).await.unwrap(), *key);
}

/// Passes requests on, and changes the answers.
struct Meddler {
    url: String,
    change: Arc<Mutex<Change>>,
}

impl Meddler {
    fn before(endpoint: &str) -> Self {
        let server = endpoint.trim_start_matches("http://").to_owned();
        Self::start(Some(server), Box::new(|_, body| Some(body)))
    }

    /// There is nobody behind.
    fn alone(answer: impl FnMut(&str, Vec<u8>) -> Option<Vec<u8>> + Send + 'static) -> Self {
        Self::start(None, Box::new(answer))
    }

    fn start(server: Option<String>, change: Change) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let change = Arc::new(Mutex::new(change));
        let shared = Arc::clone(&change);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, server, shared) = (stream.unwrap(), server.clone(), Arc::clone(&shared));
                // A client that goes away is none of the test's business.
                thread::spawn(move || pass_on(stream, server.as_deref(), &shared).ok());
            }
        });
        Self { url, change }
    }

    fn set(&self, change: impl FnMut(&str, Vec<u8>) -> Option<Vec<u8>> + Send + 'static) {
        *self.change.lock().unwrap() = Box::new(change);
    }

    fn leave(&self) {
        self.set(|_, body| Some(body));
    }

    fn flip(&self, at: usize) {
        self.set(move |_, mut body| {
            if let Some(byte) = body.get_mut(at) {
                *byte ^= 1;
            }
            Some(body)
        });
    }

    /// Answers everything with the first answer.
    fn repeat_first(&self) {
        let mut first = None;
        self.set(move |_, body| Some(first.get_or_insert(body).clone()));
    }

    /// How long the last answer is that a call gets.
    async fn length_of(&self, call: impl AsyncFnOnce()) -> usize {
        let length = Arc::new(Mutex::new(0));
        let shared = Arc::clone(&length);
        self.set(move |_, body| {
            *shared.lock().unwrap() = body.len();
            Some(body)
        });
        call().await;
        self.leave();
        *length.lock().unwrap()
    }
}

fn pass_on(mut client: TcpStream, server: Option<&str>, change: &Mutex<Change>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    // Connections stay open.
    while let Some((head, body)) = read(&mut reader)? {
        let first = head.lines().next().unwrap_or_default().to_owned();
        let (status, answer) = match server {
            Some(server) => {
                let mut server = TcpStream::connect(server)?;
                server.write_all(head.as_bytes())?;
                server.write_all(&body)?;
                let (head, answer) = read(&mut BufReader::new(server))?.unwrap();
                (head.lines().next().unwrap_or_default().to_owned(), answer)
            }
            None => ("HTTP/1.1 200 OK".to_owned(), Vec::new()),
        };
        let changed = (change.lock().unwrap())(&first, answer);
        let Some(answer) = changed else {
            // Until the client goes away.
            reader.read_to_end(&mut Vec::new())?;
            return Ok(());
        };
        let length = answer.len();
        write!(client, "{status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")?;
        client.write_all(&answer)?;
    }
    Ok(())
}

/// One message with a length, or the end of the connection.
fn read(reader: &mut impl BufRead) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let before = head.len();
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        let line = head[before..].trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((head, body)))
}
