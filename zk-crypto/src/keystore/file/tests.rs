//! What a key file refuses, and that what it holds is all there is.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use zk_kms::{DataKey, KeyUri, LocalKms};

use super::*;
use crate::{Encryptor, EncryptorConfig};

fn record(scope: &str, generation: u32) -> KeyRecord {
    let key = DataKey::generate().unwrap();
    let wrapped = WrappedKey::new(KeyUri::local("k").unwrap(), 1.into(), vec![7; 60]).unwrap();
    let created_at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
    KeyRecord::new(KeyId::of(&key).unwrap(), Scope::new(scope).unwrap(), generation, wrapped, created_at)
}

fn text() -> String {
    let mut records = Records::default();
    for record in [record("a", 1), record("a", 2), record("b", 1), record("b", 2), record("b", 3)] {
        records.insert(&record).unwrap();
    }
    let [first, last] = ["a", "b"].map(|s| records.active(&Scope::new(s).unwrap()).unwrap().id);
    records.destroy(first).unwrap();
    records.set_state(last, KeyState::Active, KeyState::Disabled).unwrap();
    to_text(&records)
}

#[test]
fn what_was_written_is_read() {
    let text = text();
    assert_eq!(to_text(&from_text(&text).unwrap()), text);
    assert!(from_text(&to_text(&Records::default())).is_some());
}

#[test]
fn nothing_else_is_read() {
    let text = text();
    let lines: Vec<&str> = text.lines().collect();
    let with = |lines: &[&str]| lines.join("\n") + "\n";
    assert!(from_text(&with(&lines)).is_some());
    for (what, changed) in [
        ("nothing", String::new()),
        ("another header", text.replacen("keys 1", "keys 2", 1)),
        ("the last line cut", text.trim_end().to_owned()),
        ("a line cut", text.rsplit_once(' ').unwrap().0.to_owned()),
        ("a generation missing", with(&[lines[0], lines[2]])),
        ("a line twice", with(&[lines[0], lines[1], lines[1]])),
        ("not in order", with(&[lines[0], lines[3], lines[4], lines[5], lines[1], lines[2]])),
        ("an empty line", format!("{text}\n")),
        ("a minimum of 0", text.replacen(" 1 1 ", " 1 0 ", 1)),
        ("two minimums", text.replacen(" 1 1 ", " 1 2 ", 1)),
        ("a state nobody knows", text.replace("disabled", "enabled")),
        ("two active keys", text.replace("disabled", "active").replace("retiring", "active")),
        ("a destroyed key with bytes", text.replace("disabled", "destroyed")),
        ("a key without bytes", text.replace("destroyed", "disabled")),
        ("an id twice", text.replace(first_word(lines[2]), first_word(lines[1]))),
        ("a field more", text.replacen(" a ", " a a ", 1)),
    ] {
        assert_ne!(changed, text, "{what}");
        assert!(from_text(&changed).is_none(), "{what}");
    }
}

fn first_word(line: &str) -> &str {
    line.split(' ').next().unwrap()
}

#[test]
fn a_file_that_others_reach_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    assert_eq!(FileKeyStore::open(&path).unwrap_err().kind(), ErrorKind::Invalid);
    FileKeyStore::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(FileKeyStore::create(&path).unwrap_err().kind(), ErrorKind::Conflict);
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(FileKeyStore::open(&path).unwrap_err().kind(), ErrorKind::Denied, "{mode:o}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(FileKeyStore::open(&link).unwrap_err().kind(), ErrorKind::Denied);
    fs::write(&path, "something else").unwrap();
    assert_eq!(FileKeyStore::open(&path).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Every handle locks for itself, as processes do.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_rotations_have_one_winner_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    FileKeyStore::create(&path).unwrap();
    let kms = Arc::new(LocalKms::ephemeral("k").unwrap());
    let make = || {
        let store = Arc::new(FileKeyStore::open(&path).unwrap());
        Encryptor::new(kms.clone(), store, EncryptorConfig::default()).unwrap()
    };
    let scope = Scope::new("s").unwrap();
    make().create_key(&scope).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (encryptor, scope) = (make(), scope.clone());
            tokio::spawn(async move { encryptor.rotate_key(&scope).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
    }
    let keys = FileKeyStore::open(&path).unwrap().list(Some(&scope)).await.unwrap();
    assert_eq!(keys.iter().map(|k| k.generation).collect::<Vec<_>>(), (1..=won + 1).collect::<Vec<_>>());
    assert_eq!(keys.iter().filter(|k| k.state == KeyState::Active).count(), 1);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the file and its lock: {left:?}");
}
