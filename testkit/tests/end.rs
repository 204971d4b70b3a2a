//! A cluster is gone, processes and folder, however the process that started it ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::{Cluster, ClusterConfig};

#[test]
fn gone_after_drop() {
    let cluster = Cluster::start(ClusterConfig::default()).unwrap();
    let server = Server::of(cluster.socket_folder().to_owned());
    assert!(server.is_running());
    drop(cluster);
    assert!(!server.is_running() && !server.folder.exists(), "drop waits until everything is gone");
}

#[test]
fn gone_after_a_panic_of_the_test() {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let cluster = Cluster::start(ClusterConfig::default()).unwrap();
        tell.send(Server::of(cluster.socket_folder().to_owned())).unwrap();
        panic!("this panic is part of the test");
    });
    assert!(thread.join().is_err());
    let server = told.recv().unwrap();
    assert!(!server.is_running() && !server.folder.exists());
}

#[test]
fn gone_after_a_failed_start() {
    let setting = ("no_such_setting".to_owned(), "1".to_owned());
    let failed = Cluster::start(ClusterConfig { settings: vec![setting], ..Default::default() });
    let text = failed.unwrap_err().to_string();
    assert!(text.contains("no_such_setting"), "the server's own words: {text}");
    // The path of the private folder is in the server's words.
    let folder = text.split('"').find_map(|part| part.strip_suffix("/server.conf")).unwrap().to_owned();
    assert!(!PathBuf::from(folder).exists());
}

#[test]
fn gone_after_sigkill() {
    check_end(|holder| signal(holder, "KILL"));
}

#[test]
fn gone_after_sigterm() {
    check_end(|holder| signal(holder, "TERM"));
}

#[test]
fn gone_after_sigint() {
    check_end(|holder| signal(holder, "INT"));
}

#[test]
fn gone_after_a_panic_of_the_process() {
    check_end(|holder| writeln!(holder.stdin.as_mut().unwrap(), "panic").unwrap());
}

#[test]
fn gone_after_exit_without_drop() {
    check_end(|holder| writeln!(holder.stdin.as_mut().unwrap(), "exit").unwrap());
}

/// Starts a process that holds a shared cluster, ends it, and waits until nothing is left.
fn check_end(end: fn(&mut Child)) {
    let mut holder = Command::new(env!("CARGO_BIN_EXE_testkit"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let folder = BufReader::new(holder.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let server = Server::of(folder.into());
    assert!(server.is_running());
    end(&mut holder);
    assert!(!holder.wait().unwrap().success());
    let ended = Instant::now();
    while server.is_running() || server.folder.exists() {
        assert!(ended.elapsed() < Duration::from_secs(20), "{server:?} is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(holder: &mut Child, name: &str) {
    let pid = holder.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

#[derive(Debug)]
struct Server {
    folder: PathBuf,
    pid: String,
}

impl Server {
    fn of(folder: PathBuf) -> Self {
        let text = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
        Self { folder, pid: text.lines().next().unwrap().to_owned() }
    }

    fn is_running(&self) -> bool {
        let probe = Command::new("kill").args(["-s", "0", &self.pid]).stderr(Stdio::null()).status();
        probe.unwrap().success()
    }
}
