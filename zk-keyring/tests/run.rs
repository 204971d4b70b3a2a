//! The program as somebody runs it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const CHEAP: [&str; 6] = ["--memory-kib", "64", "--passes", "1", "--lanes", "1"];

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.secret("one", "MARKED passphrase one\n");
        folder.secret("two", "MARKED passphrase two");
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn secret(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Runs in the folder, without a terminal.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("setsid");
        command.arg("--wait").arg(env!("CARGO_BIN_EXE_zk-keyring")).args(arguments);
        command.current_dir(self.0.path()).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs, expects this status, and returns what was printed; no passphrase is.
    #[track_caller]
    fn check(&self, arguments: &[&str], status: i32) -> String {
        let output = self.run(arguments);
        let text = [output.stdout, output.stderr].map(|o| String::from_utf8(o).unwrap()).concat();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        assert!(!text.contains("MARKED"), "{text}");
        text
    }

    fn create(&self, more: &[&str]) -> String {
        let create = ["create", "ring", "--name", "orders", "--passphrase-file", "one"];
        self.check(&[&create, &CHEAP, more].concat(), 0)
    }
}

#[test]
fn a_ring_from_its_creation_to_another_passphrase() {
    let folder = Folder::new();
    let [one, two] = [["--passphrase-file", "one"], ["--passphrase-file", "two"]];
    assert_eq!(folder.create(&[]), "local:orders version 1\n");
    assert_eq!(fs::metadata(folder.path("ring")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(folder.check(&[&["rotate", "ring"], &one[..]].concat(), 0), "local:orders version 2\n");

    let change = ["passphrase", "ring", "--new-passphrase-file", "two"];
    assert_eq!(folder.check(&[&change, &one[..], &CHEAP].concat(), 0), "");
    let refused = folder.check(&[&["show", "ring"], &one[..]].concat(), 1);
    assert!(refused.contains("the passphrase is wrong"), "{refused}");
    assert_eq!(folder.check(&[&["show", "ring"], &two[..]].concat(), 0), "local:orders version 2\n");
    let error = folder.check(&[&["public", "ring"], &two[..]].concat(), 1);
    assert!(error.contains("holds no key pair"), "{error}");
}

#[test]
fn the_public_part_of_a_pair_is_exported() {
    let folder = Folder::new();
    let created = folder.create(&["--pair"]);
    assert!(created.starts_with("local:orders version 1, key pair, fingerprint "), "{created}");
    let one = ["--passphrase-file", "one"];
    let pem = folder.check(&[&["public", "ring"], &one[..]].concat(), 0);
    assert!(
        pem.starts_with("-----BEGIN PUBLIC KEY-----\nMI") && pem.ends_with("\n-----END PUBLIC KEY-----\n")
    );
    assert!(pem.lines().all(|line| line.len() <= 64));
    // Others read it, and see the same fingerprint.
    fs::write(folder.path("pem"), &pem).unwrap();
    let script = "openssl pkey -pubin -in pem -outform der | sha256sum";
    let openssl = Command::new("sh").args(["-c", script]).current_dir(folder.0.path()).output().unwrap();
    let print = String::from_utf8(openssl.stdout).unwrap();
    assert_eq!(print.get(..64), created.trim_end().get(created.len() - 65..));
    let rotated = folder.check(&[&["rotate", "ring"], &one[..]].concat(), 0);
    assert!(rotated.starts_with("local:orders version 2, key pair"), "{rotated}");
    assert_ne!(folder.check(&[&["public", "ring"], &one[..]].concat(), 0), pem);
}

#[test]
fn what_cannot_be_done_changes_nothing_and_says_why() {
    let folder = Folder::new();
    folder.create(&[]);
    let before = fs::read(folder.path("ring")).unwrap();
    fs::set_permissions(folder.path("two"), fs::Permissions::from_mode(0o644)).unwrap();
    folder.secret("empty", "\n");
    let create = ["create", "ring", "--name", "orders", "--passphrase-file", "one"];
    for (arguments, status, why) in [
        (&create[..], 1, "cannot be created"),
        (&["show", "missing", "--passphrase-file", "one"], 1, "cannot be opened"),
        (&["show", "ring", "--passphrase-file", "two"], 1, "run `chmod 600"),
        (&["show", "ring"], 1, "no terminal"),
        (&["create", "new", "--name", "a/b", "--passphrase-file", "one"], 1, "local:<name>"),
        (&["create", "new", "--name", "a", "--passphrase-file", "empty"], 1, "must not be empty"),
        (&["create", "new", "--name", "a", "--lanes", "0", "--passphrase-file", "one"], 1, "Argon2id"),
        (&["create", "new"], 2, "--name is missing"),
        (&["rotate", "ring", "--name", "a"], 2, "for `create`"),
        (&["rotate", "ring", "--passes", "9"], 2, "what its passphrase costs"),
        (&["show", "ring", "--new-passphrase-file", "one"], 2, "for `passphrase`"),
        (&["burn", "ring"], 2, "the command is"),
        (&["show"], 2, "a command and a file"),
        (&["show", "ring", "--passphrase", "one"], 2, "--passphrase"),
    ] {
        let text = folder.check(arguments, status);
        assert!(text.contains(why), "{arguments:?}: {text}");
    }
    assert_eq!(fs::read(folder.path("ring")).unwrap(), before);
    assert!(!Path::new(&folder.path("new")).exists());
    assert!(folder.check(&["--help"], 0).starts_with("usage: zk-keyring create"));
}

/// On a terminal, which `script` gives it: the passphrase is asked for and is not shown.
#[test]
fn a_terminal_is_asked_and_shows_nothing() {
    let folder = Folder::new();
    folder.create(&[]);
    let program = env!("CARGO_BIN_EXE_zk-keyring");
    let mut child = Command::new("script")
        .args(["-qec", &format!("{program} show ring"), "/dev/null"])
        .current_dir(folder.0.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // What is typed before the question is thrown away, so wait for the question.
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = Vec::new();
    while !shown.ends_with(b"passphrase: ") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut output, &mut byte).unwrap();
        shown.push(byte[0]);
    }
    std::io::Write::write_all(&mut input, b"MARKED passphrase one\n").unwrap();
    std::io::Read::read_to_end(&mut output, &mut shown).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(child.wait().unwrap().success(), "{shown}");
    assert!(shown.contains("local:orders version 1") && !shown.contains("MARKED"), "{shown}");
}
