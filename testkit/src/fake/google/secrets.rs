//! `secretmanager.googleapis.com` v1: secrets and their versions.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::super::calendar::rfc3339;
use super::{Call, Status, checksum, encoded, page};

/// The service's limit on a payload, in bytes.
const MAX_PAYLOAD: usize = 64 << 10;

/// Every secret, by resource name.
#[derive(Default)]
pub(super) struct Secrets {
    secrets: BTreeMap<String, Secret>,
}

struct Secret {
    name: String,
    created: SystemTime,
    /// Counts changes; the etag is its text.
    revision: u64,
    /// What the service only keeps, and `versionAliases`.
    kept: BTreeMap<&'static str, Value>,
    versions: BTreeMap<u64, Version>,
}

struct Version {
    payload: Vec<u8>,
    state: &'static str,
    created: SystemTime,
    destroyed: Option<SystemTime>,
    revision: u64,
    /// Whether the client sent a checksum with the payload.
    was_checked: bool,
}

impl Secrets {
    pub(super) fn answer(&mut self, call: &Call, now: SystemTime) -> Result<Value, Status> {
        match call.parts().as_slice() {
            ["projects", _, "secrets"] => self.all(call, now),
            ["projects", _, "secrets", _] => self.one(call, now),
            ["projects", project, "secrets", secret, rest @ ..] => {
                self.secret(&format!("projects/{project}/secrets/{secret}"))?.versions(call, rest, now)
            }
            _ => call.no_such_method(),
        }
    }

    fn all(&mut self, call: &Call, now: SystemTime) -> Result<Value, Status> {
        match call.method.as_str() {
            "POST" => {
                let id = call.parameter("secretId");
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                if id.is_empty() || id.len() > 255 || !id.chars().all(plain) {
                    return Err(Status::invalid("The secret id is invalid."));
                }
                if !call.body["replication"].is_object() {
                    return Err(Status::invalid("Secret.replication must be provided."));
                }
                let name = format!("{}/{id}", call.resource);
                if self.secrets.contains_key(&name) {
                    return Err(Status::exists(&format!("Secret [{name}]")));
                }
                let mut secret = Secret {
                    name: name.clone(),
                    created: now,
                    revision: 1,
                    kept: BTreeMap::new(),
                    versions: BTreeMap::new(),
                };
                secret.keep(call, |_| true)?;
                let shown = secret.show();
                self.secrets.insert(name, secret);
                Ok(shown)
            }
            "GET" => {
                let below = format!("{}/", call.resource);
                let secrets: Vec<_> = self.secrets.values().filter(|s| s.name.starts_with(&below)).collect();
                let (shown, next) = page(call, &secrets)?;
                Ok(json!({
                    "secrets": shown.iter().map(|secret| secret.show()).collect::<Vec<_>>(),
                    "nextPageToken": next.unwrap_or_default(),
                    "totalSize": secrets.len(),
                }))
            }
            _ => call.no_such_method(),
        }
    }

    fn one(&mut self, call: &Call, now: SystemTime) -> Result<Value, Status> {
        let secret = self.secret(&call.resource)?;
        match (call.method.as_str(), call.verb.as_deref()) {
            ("GET", None) => Ok(secret.show()),
            ("PATCH", None) => {
                check_etag(call.text("etag"), secret.revision)?;
                secret.keep(call, |field| call.updates(field))?;
                secret.revision += 1;
                Ok(secret.show())
            }
            ("DELETE", None) => {
                check_etag(call.parameter("etag"), secret.revision)?;
                self.secrets.remove(&call.resource);
                Ok(json!({}))
            }
            ("POST", Some("addVersion")) => secret.add_version(call, now),
            _ => call.no_such_method(),
        }
    }

    fn secret(&mut self, name: &str) -> Result<&mut Secret, Status> {
        self.secrets.get_mut(name).ok_or_else(|| Status::not_found(&format!("Secret [{name}]")))
    }
}

impl Secret {
    fn add_version(&mut self, call: &Call, now: SystemTime) -> Result<Value, Status> {
        let (payload, was_checked) = call.checked_bytes(&call.body["payload"], "data", "dataCrc32c")?;
        if payload.len() > MAX_PAYLOAD {
            return Err(Status::invalid("The payload is longer than 65536 bytes."));
        }
        let number = self.versions.keys().last().map_or(1, |last| last + 1);
        let version =
            Version { payload, state: "ENABLED", created: now, destroyed: None, revision: 1, was_checked };
        let shown = version.show(&self.version_name(number));
        self.versions.insert(number, version);
        Ok(shown)
    }

    fn versions(&mut self, call: &Call, rest: &[&str], now: SystemTime) -> Result<Value, Status> {
        match (call.method.as_str(), rest, call.verb.as_deref()) {
            ("GET", ["versions"], None) => {
                // Newest first.
                let numbers: Vec<_> = self.versions.keys().rev().copied().collect();
                let (shown, next) = page(call, &numbers)?;
                let shown: Vec<_> =
                    shown.iter().map(|n| self.versions[n].show(&self.version_name(*n))).collect();
                Ok(json!({
                    "versions": shown, "nextPageToken": next.unwrap_or_default(), "totalSize": numbers.len(),
                }))
            }
            (method, ["versions", version], verb) => {
                let number = self.resolve(version)?;
                let name = self.version_name(number);
                let version = self
                    .versions
                    .get_mut(&number)
                    .ok_or_else(|| Status::not_found(&format!("Secret Version [{name}]")))?;
                version.answer(&name, call, (method, verb), now)
            }
            _ => call.no_such_method(),
        }
    }

    /// The number that a version's number, `latest` or an alias stands for.
    fn resolve(&self, version: &str) -> Result<u64, Status> {
        let alias = || match &self.kept.get("versionAliases")?[version] {
            Value::String(number) => number.parse().ok(),
            number => number.as_u64(),
        };
        let number = match version {
            // The newest, whatever its state.
            "latest" => self.versions.keys().last().copied(),
            number => number.parse().ok().or_else(alias),
        };
        number.ok_or_else(|| Status::not_found(&format!("Secret [{}] or its version [{version}]", self.name)))
    }

    fn keep(&mut self, call: &Call, is_asked: impl Fn(&str) -> bool) -> Result<(), Status> {
        for field in
            ["replication", "labels", "annotations", "versionAliases", "versionDestroyTtl", "rotation"]
        {
            if !is_asked(field) {
                continue;
            }
            if field == "versionAliases" {
                let aliases = call.body[field].as_object().into_iter().flatten();
                for (alias, number) in aliases {
                    let number = number.as_u64().or_else(|| number.as_str()?.parse().ok()).unwrap_or(0);
                    if !self.versions.contains_key(&number) {
                        return Err(Status::invalid(format!(
                            "The alias {alias} refers to a version that does not exist."
                        )));
                    }
                }
            }
            match &call.body[field] {
                Value::Null => self.kept.remove(field),
                value => self.kept.insert(field, value.clone()),
            };
        }
        Ok(())
    }

    fn version_name(&self, number: u64) -> String {
        format!("{}/versions/{number}", self.name)
    }

    fn show(&self) -> Value {
        let mut shown = json!({
            "name": self.name, "createTime": rfc3339(self.created), "etag": etag(self.revision),
        });
        for (field, value) in &self.kept {
            shown[*field] = value.clone();
        }
        // A map of int64: texts, however they came.
        if let Some(aliases) = shown.get_mut("versionAliases").and_then(Value::as_object_mut) {
            for number in aliases.values_mut() {
                *number = number.as_u64().map_or(number.clone(), |n| n.to_string().into());
            }
        }
        shown
    }
}

impl Version {
    fn answer(
        &mut self,
        name: &str,
        call: &Call,
        asked: (&str, Option<&str>),
        now: SystemTime,
    ) -> Result<Value, Status> {
        let state = match asked {
            ("GET", None) => return Ok(self.show(name)),
            ("GET", Some("access")) => return self.access(name),
            ("POST", Some("enable")) => "ENABLED",
            ("POST", Some("disable")) => "DISABLED",
            ("POST", Some("destroy")) => "DESTROYED",
            _ => return call.no_such_method(),
        };
        check_etag(call.text("etag"), self.revision)?;
        if self.state == "DESTROYED" {
            return Err(Status::precondition(format!("Secret Version [{name}] is in DESTROYED state.")));
        }
        if state == "DESTROYED" {
            self.payload.clear();
            self.destroyed = Some(now);
        }
        self.state = state;
        self.revision += 1;
        Ok(self.show(name))
    }

    fn access(&self, name: &str) -> Result<Value, Status> {
        if self.state != "ENABLED" {
            let message = format!("Secret Version [{name}] is in {} state.", self.state);
            return Err(Status::precondition(message));
        }
        let payload = json!({ "data": encoded(&self.payload), "dataCrc32c": checksum(&self.payload) });
        Ok(json!({ "name": name, "payload": payload }))
    }

    fn show(&self, name: &str) -> Value {
        let mut shown = json!({
            "name": name,
            "createTime": rfc3339(self.created),
            "state": self.state,
            "replicationStatus": { "automatic": {} },
            "etag": etag(self.revision),
        });
        if self.was_checked {
            shown["clientSpecifiedPayloadChecksum"] = true.into();
        }
        if let Some(at) = self.destroyed {
            shown["destroyTime"] = rfc3339(at).into();
        }
        shown
    }
}

/// The service writes quotes into its etags.
fn etag(revision: u64) -> String {
    format!("\"{revision:x}\"")
}

/// An etag that came with a request must be the current one; none is always accepted.
fn check_etag(given: &str, revision: u64) -> Result<(), Status> {
    if given.is_empty() || given == etag(revision) {
        return Ok(());
    }
    // cloud.google.com/secret-manager/docs/etags: not ABORTED, as AIP-154 would have it.
    Err(Status::precondition(
        "The etag provided in the request does not match the resource's current etag. \
         Please retry the whole read-modify-write with exponential backoff.",
    ))
}
