//! AWS Secrets Manager: moto, with what it does not have, and ministack.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_secretsmanager::{Client, Config};
use testkit::emulator::{Emulator, Service};
use testkit::kms::{KeyService, Login, Place};
use zk_creds::ErrorKind;
use zk_creds::secret::{AwsSecrets, SecretName, SecretStore, Stage, Version};
use zk_kms::testing::Gap;

use crate::harness;

const MOTO: [Gap; 1] = [Gap::at_times(
    "of_two_writers_one_wins",
    "two calls won",
    "moto moves a label that another version has without being told to",
)];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn moto_keeps_the_laws_but_for_its_gaps() {
    let moto = Emulator::start(Service::Moto).unwrap();
    harness::run("moto", &store(&moto), &MOTO).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn ministack_keeps_the_laws() {
    let ministack = Emulator::start(Service::Ministack).unwrap();
    harness::run("ministack", &store(&ministack), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn an_outage_is_unavailable() {
    let mut moto = Emulator::start(Service::Moto).unwrap();
    let store = store(&moto);
    moto.stop().unwrap();
    let error = store.create(&SecretName::new("key").unwrap(), &"one".into()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_transient(), "{error}");
}

/// A label that was moved, and whose answer was lost, is not moved again by a client that retries: it would look like
/// somebody else's change. And an answer without end is given up.
#[tokio::test]
async fn a_change_is_sent_once_and_an_answer_has_a_limit() {
    let (moves, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, wrote) = (Arc::clone(&moves), Arc::clone(&sent));
    let url = serve(move |operation, stream| match operation {
        "describesecret" => json(stream, r#"{"VersionIdsToStages": {"one": ["AWSCURRENT"]}}"#),
        "putsecretvalue" => json(stream, r#"{"VersionId": "two"}"#),
        // The connection ends before the answer.
        "updatesecretversionstage" => {
            counted.fetch_add(1, SeqCst);
        }
        _ => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).ok();
            while stream.write_all(format!("1000\r\n{}\r\n", "z".repeat(0x1000)).as_bytes()).is_ok() {
                wrote.fetch_add(0x1000, SeqCst);
            }
        }
    });
    let config = config(&url, "test", "test").to_builder().retry_config(RetryConfig::standard());
    let store = AwsSecrets::new(Client::from_conf(config.build()), "crm").unwrap();
    let (name, one) = (SecretName::new("key").unwrap(), Version::new("one").unwrap());
    let error = store.put(&name, &"value".into(), &one).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true), "{error}");
    // One to make the version current, one to take its own label away.
    assert_eq!(moves.load(SeqCst), 2, "a change was sent again");
    let read = tokio::time::timeout(Duration::from_secs(20), store.read(&name, Stage::Current)).await;
    assert_eq!(read.expect("it ends").unwrap_err().kind(), ErrorKind::Unavailable);
    // What the sockets hold besides.
    assert!(sent.load(SeqCst) < 16 << 20, "{sent:?} bytes were taken");
}

/// Answers each request as its operation says, until the process ends.
fn serve(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut operation, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    let line = line.trim().to_ascii_lowercase();
                    if let Some(value) = line.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    if let Some(target) = line.strip_prefix("x-amz-target:") {
                        operation = target.rsplit('.').next().unwrap().to_owned();
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                reader.read_exact(&mut vec![0; length]).unwrap();
                answer(&operation, &mut stream);
            });
        }
    });
    url
}

fn json(stream: &mut TcpStream, body: &str) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nConnection: close";
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
}

/// moto enforces the actions of policies, not their resources.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python environment: ./dev test"]
async fn the_policy_of_the_manual_suffices_and_no_action_is_spare() {
    let moto = KeyService::start(Place::Moto).unwrap();
    let policy = harness::in_the_manual("<!-- the policy of who keeps secrets in AWS -->");
    let mut policy: serde_json::Value = serde_json::from_str(policy).unwrap();
    let statement = &mut policy["Statement"][0];
    statement["Resource"] = "*".into();
    let actions = statement["Action"].as_array().unwrap().clone();
    let with = |policy: &serde_json::Value| {
        moto.enforce(false).unwrap();
        let Login::AccessKey(id, secret) = moto.log_in_with(&policy.to_string()).unwrap() else {
            panic!("AWS has access keys")
        };
        moto.enforce(true).unwrap();
        store_at(&moto.endpoint(), &id, &secret)
    };
    harness::run("moto, with the manual's policy", &with(&policy), &MOTO).await;
    for spare in &actions {
        let left: Vec<_> = actions.iter().filter(|action| *action != spare).cloned().collect();
        policy["Statement"][0]["Action"] = left.into();
        let error = harness::does_everything(&with(&policy)).await.expect_err(spare.as_str().unwrap());
        assert_eq!(error.kind(), ErrorKind::Denied, "without {spare}: {error}");
    }
}

fn store(aws: &Emulator) -> AwsSecrets {
    store_at(&aws.url(), "test", "test")
}

fn store_at(url: &str, id: &str, secret: &str) -> AwsSecrets {
    AwsSecrets::new(Client::from_conf(config(url, id, secret)), "crm").unwrap()
}

fn config(url: &str, id: &str, secret: &str) -> Config {
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(url)
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .build()
}
