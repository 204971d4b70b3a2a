//! `cloudkms.googleapis.com` v1: key rings, keys, versions, encryption.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::{Value, json};

use super::super::calendar::rfc3339;
use super::super::rsa::{Oaep, RsaKey};
use super::{Call, Status, checksum, encoded, page};

/// The service's limits on plaintext and on associated data, in bytes, for software keys.
const MAX_BYTES: usize = 64 << 10;
/// Google's default wait between the call to destroy and the destruction.
const DESTROYED_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);
/// A version's number, before the nonce.
const HEADER: usize = 4;
const NONCE: usize = 12;

/// Every key ring and key, by resource name.
#[derive(Default)]
pub(super) struct Keys {
    rings: BTreeSet<String>,
    keys: BTreeMap<String, CryptoKey>,
}

struct CryptoKey {
    name: String,
    purpose: String,
    algorithm: String,
    created: SystemTime,
    /// What the service only keeps: labels and the rotation schedule.
    kept: BTreeMap<&'static str, Value>,
    primary: Option<u32>,
    versions: BTreeMap<u32, Version>,
}

struct Version {
    material: Material,
    state: State,
    created: SystemTime,
}

enum Material {
    Aes([u8; 32]),
    Rsa(Box<RsaKey>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Enabled,
    Disabled,
    DestroyScheduled(SystemTime),
}

impl Keys {
    pub(super) fn answer(&mut self, call: &Call, now: SystemTime) -> Result<Value, Status> {
        let parts = call.parts();
        let ["projects", _, "locations", _, rest @ ..] = parts.as_slice() else {
            return call.no_such_method();
        };
        match rest {
            ["keyRings"] | ["keyRings", _] => self.rings(call, rest),
            ["keyRings", _, "cryptoKeys"] => self.keys(call, now),
            ["keyRings", _, "cryptoKeys", _] => self.key(&call.resource)?.answer(call, now),
            ["keyRings", _, "cryptoKeys", _, below @ ..] => {
                let name = parts[..8].join("/");
                self.key(&name)?.versions(call, below, now)
            }
            _ => call.no_such_method(),
        }
    }

    fn rings(&mut self, call: &Call, rest: &[&str]) -> Result<Value, Status> {
        match (call.method.as_str(), rest) {
            ("POST", ["keyRings"]) => {
                let name = format!("{}/{}", call.resource, id(call.parameter("keyRingId"))?);
                if !self.rings.insert(name.clone()) {
                    return Err(Status::exists(&format!("KeyRing {name}")));
                }
                Ok(json!({ "name": name }))
            }
            ("GET", ["keyRings"]) => {
                let below = format!("{}/", call.resource);
                let rings: Vec<_> = self.rings.iter().filter(|name| name.starts_with(&below)).collect();
                let (rings, next) = page(call, &rings)?;
                let rings: Vec<_> = rings.iter().map(|name| json!({ "name": name })).collect();
                Ok(json!({ "keyRings": rings, "nextPageToken": next.unwrap_or_default() }))
            }
            ("GET", _) if self.rings.contains(&call.resource) => Ok(json!({ "name": call.resource })),
            ("GET", _) => Err(Status::not_found(&format!("KeyRing {}", call.resource))),
            _ => call.no_such_method(),
        }
    }

    fn keys(&mut self, call: &Call, now: SystemTime) -> Result<Value, Status> {
        let ring = call.resource.trim_end_matches("/cryptoKeys");
        if !self.rings.contains(ring) {
            return Err(Status::not_found(&format!("KeyRing {ring}")));
        }
        let below = format!("{}/", call.resource);
        match call.method.as_str() {
            "POST" => {
                let name = format!("{below}{}", id(call.parameter("cryptoKeyId"))?);
                if self.keys.contains_key(&name) {
                    return Err(Status::exists(&format!("CryptoKey {name}")));
                }
                let key = CryptoKey::create(name.clone(), call, now)?;
                let shown = key.show(now);
                self.keys.insert(name, key);
                Ok(shown)
            }
            "GET" => {
                let keys: Vec<_> = self.keys.values().filter(|key| key.name.starts_with(&below)).collect();
                let (keys, next) = page(call, &keys)?;
                let keys: Vec<_> = keys.iter().map(|key| key.show(now)).collect();
                Ok(json!({ "cryptoKeys": keys, "nextPageToken": next.unwrap_or_default() }))
            }
            _ => call.no_such_method(),
        }
    }

    fn key(&mut self, name: &str) -> Result<&mut CryptoKey, Status> {
        self.keys.get_mut(name).ok_or_else(|| Status::not_found(&format!("CryptoKey {name}")))
    }
}

impl CryptoKey {
    fn create(name: String, call: &Call, now: SystemTime) -> Result<Self, Status> {
        let purpose = call.text("purpose").to_owned();
        let asked = call.body["versionTemplate"]["algorithm"].as_str();
        let algorithm = match (purpose.as_str(), asked) {
            ("ENCRYPT_DECRYPT", None | Some("GOOGLE_SYMMETRIC_ENCRYPTION")) => "GOOGLE_SYMMETRIC_ENCRYPTION",
            ("ASYMMETRIC_DECRYPT", Some(rsa)) if rsa_bits(rsa).is_some() => rsa,
            _ => {
                let message = "The request does not include a valid purpose and algorithm for this fake.";
                return Err(Status::invalid(message));
            }
        };
        let mut key = Self {
            name,
            algorithm: algorithm.to_owned(),
            purpose,
            created: now,
            kept: BTreeMap::new(),
            primary: None,
            versions: BTreeMap::new(),
        };
        key.keep(call, |_| true)?;
        if call.parameter("skipInitialVersionCreation") != "true" {
            let number = key.add_version(now)?;
            key.primary = key.is_symmetric().then_some(number);
        }
        Ok(key)
    }

    fn answer(&mut self, call: &Call, now: SystemTime) -> Result<Value, Status> {
        match (call.method.as_str(), call.verb.as_deref()) {
            ("GET", None) => Ok(self.show(now)),
            ("PATCH", None) => {
                self.keep(call, |field| call.updates(field))?;
                Ok(self.show(now))
            }
            ("POST", Some("encrypt")) => self.encrypt(call, self.primary, now),
            ("POST", Some("decrypt")) => self.decrypt(call, now),
            ("POST", Some("updatePrimaryVersion")) if self.is_symmetric() => {
                let number = call.text("cryptoKeyVersionId").parse().unwrap_or(0);
                self.usable(number, now)?;
                self.primary = Some(number);
                Ok(self.show(now))
            }
            _ => call.no_such_method(),
        }
    }

    fn versions(&mut self, call: &Call, below: &[&str], now: SystemTime) -> Result<Value, Status> {
        match (call.method.as_str(), below, call.verb.as_deref()) {
            ("POST", ["cryptoKeyVersions"], None) => {
                let number = self.add_version(now)?;
                self.show_version(number, now)
            }
            ("GET", ["cryptoKeyVersions"], None) => {
                let numbers: Vec<_> = self.versions.keys().copied().collect();
                let (numbers, next) = page(call, &numbers)?;
                let shown: Result<Vec<_>, _> = numbers.iter().map(|n| self.show_version(*n, now)).collect();
                Ok(json!({ "cryptoKeyVersions": shown?, "nextPageToken": next.unwrap_or_default() }))
            }
            (method, ["cryptoKeyVersions", number, rest @ ..], verb) => {
                let number = number.parse().unwrap_or(0);
                self.version(number, call, (method, rest, verb), now)
            }
            _ => call.no_such_method(),
        }
    }

    fn version(
        &mut self,
        number: u32,
        call: &Call,
        asked: (&str, &[&str], Option<&str>),
        now: SystemTime,
    ) -> Result<Value, Status> {
        let shown = self.show_version(number, now)?;
        let state = |key: &mut Self, state| {
            if let Some(version) = key.versions.get_mut(&number) {
                version.state = state;
            }
            key.show_version(number, now)
        };
        match asked {
            ("GET", [], None) => Ok(shown),
            ("PATCH", [], None) if call.updates("state") => match (&shown["state"], call.text("state")) {
                (current, "ENABLED") if current == "DISABLED" => state(self, State::Enabled),
                (current, "DISABLED") if current == "ENABLED" => state(self, State::Disabled),
                (current, wanted) if current == wanted => Ok(shown),
                (current, _) => Err(Status::precondition(format!("The version's state is {current}."))),
            },
            ("POST", [], Some("destroy")) if shown["state"] == "ENABLED" || shown["state"] == "DISABLED" => {
                state(self, State::DestroyScheduled(now + DESTROYED_AFTER))
            }
            ("POST", [], Some("restore")) if shown["state"] == "DESTROY_SCHEDULED" => {
                state(self, State::Disabled)
            }
            ("POST", [], Some("destroy" | "restore")) => {
                Err(Status::precondition(format!("The version's state is {}.", shown["state"])))
            }
            ("POST", [], Some("encrypt")) => self.encrypt(call, Some(number), now),
            ("GET", ["publicKey"], None) => self.public_key(number, now),
            ("POST", [], Some("asymmetricDecrypt")) => self.asymmetric_decrypt(call, number, now),
            _ => call.no_such_method(),
        }
    }

    fn encrypt(&self, call: &Call, version: Option<u32>, now: SystemTime) -> Result<Value, Status> {
        let Some(version) = version.filter(|_| self.is_symmetric()) else {
            return Err(Status::precondition(format!("{} has no primary version.", self.name)));
        };
        let (plaintext, plaintext_verified) =
            call.checked_bytes(&call.body, "plaintext", "plaintextCrc32c")?;
        let (aad, aad_verified) = aad(call)?;
        if plaintext.len() > MAX_BYTES {
            return Err(Status::invalid("The plaintext is longer than 65536 bytes."));
        }
        let Material::Aes(key) = self.usable(version, now)? else { return call.no_such_method() };
        let nonce: [u8; NONCE] = crate::random();
        let mut ciphertext = plaintext;
        aes(key)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&aad), &mut ciphertext)
            .map_err(|_| Status::new(500, "INTERNAL", "Internal error encountered."))?;
        let ciphertext = [version.to_be_bytes().as_slice(), &nonce, &ciphertext].concat();
        let mut answer = json!({
            "name": self.version_name(version),
            "ciphertext": encoded(&ciphertext),
            "ciphertextCrc32c": checksum(&ciphertext),
            "protectionLevel": "SOFTWARE",
        });
        // proto3 JSON leaves out what is false.
        if plaintext_verified {
            answer["verifiedPlaintextCrc32c"] = true.into();
        }
        if aad_verified {
            answer["verifiedAdditionalAuthenticatedDataCrc32c"] = true.into();
        }
        Ok(answer)
    }

    fn decrypt(&self, call: &Call, now: SystemTime) -> Result<Value, Status> {
        let (ciphertext, _) = call.checked_bytes(&call.body, "ciphertext", "ciphertextCrc32c")?;
        let (aad, _) = aad(call)?;
        let failed =
            || Status::invalid("Decryption failed: verify that 'name' refers to the correct CryptoKey.");
        let (header, rest) = ciphertext.split_first_chunk::<HEADER>().ok_or_else(failed)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or_else(failed)?;
        let version = u32::from_be_bytes(*header);
        if !self.versions.contains_key(&version) {
            return Err(failed());
        }
        let Material::Aes(key) = self.usable(version, now)? else { return call.no_such_method() };
        let mut plaintext = rest.to_vec();
        let plaintext = aes(key)?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(&aad), &mut plaintext)
            .map_err(|_| failed())?;
        let mut answer = json!({
            "plaintext": encoded(plaintext),
            "plaintextCrc32c": checksum(plaintext),
            "protectionLevel": "SOFTWARE",
        });
        if self.primary == Some(version) {
            answer["usedPrimary"] = true.into();
        }
        Ok(answer)
    }

    fn public_key(&self, number: u32, now: SystemTime) -> Result<Value, Status> {
        let Material::Rsa(key) = self.usable(number, now)? else {
            return Err(Status::precondition(format!("{} has no public key.", self.version_name(number))));
        };
        let pem = key.public_pem();
        Ok(json!({
            "name": self.version_name(number),
            "pem": pem,
            "pemCrc32c": checksum(pem.as_bytes()),
            "algorithm": self.algorithm,
            "protectionLevel": "SOFTWARE",
            "publicKeyFormat": "PEM",
        }))
    }

    fn asymmetric_decrypt(&self, call: &Call, number: u32, now: SystemTime) -> Result<Value, Status> {
        let (ciphertext, verified) = call.checked_bytes(&call.body, "ciphertext", "ciphertextCrc32c")?;
        let Material::Rsa(key) = self.usable(number, now)? else { return call.no_such_method() };
        let plaintext = key
            .decrypt(Oaep::Sha256, &ciphertext)
            .ok_or_else(|| Status::invalid("Decryption failed: the ciphertext is invalid."))?;
        let mut answer = json!({
            "plaintext": encoded(&plaintext),
            "plaintextCrc32c": checksum(&plaintext),
            "protectionLevel": "SOFTWARE",
        });
        if verified {
            answer["verifiedCiphertextCrc32c"] = true.into();
        }
        Ok(answer)
    }

    fn add_version(&mut self, now: SystemTime) -> Result<u32, Status> {
        let material = match rsa_bits(&self.algorithm) {
            None => Material::Aes(crate::random()),
            Some(bits) => Material::Rsa(Box::new(
                RsaKey::generate(bits).ok_or_else(|| Status::invalid("There is no such size of key."))?,
            )),
        };
        let number = self.versions.keys().last().map_or(1, |last| last + 1);
        self.versions.insert(number, Version { material, state: State::Enabled, created: now });
        Ok(number)
    }

    /// The material of a version that may be used.
    fn usable(&self, number: u32, now: SystemTime) -> Result<&Material, Status> {
        let name = self.version_name(number);
        let version = self
            .versions
            .get(&number)
            .ok_or_else(|| Status::not_found(&format!("CryptoKeyVersion {name}")))?;
        match version.state_name(now) {
            "ENABLED" => Ok(&version.material),
            state => Err(Status::precondition(format!("{name} is not enabled, current state is: {state}."))),
        }
    }

    fn is_symmetric(&self) -> bool {
        self.purpose == "ENCRYPT_DECRYPT"
    }

    fn keep(&mut self, call: &Call, is_asked: impl Fn(&str) -> bool) -> Result<(), Status> {
        let mut kept = self.kept.clone();
        for field in ["labels", "rotationPeriod", "nextRotationTime"] {
            if is_asked(field) && !call.body[field].is_null() {
                kept.insert(field, call.body[field].clone());
            }
        }
        check_labels(kept.get("labels"))?;
        check_rotation(kept.get("rotationPeriod"), kept.get("nextRotationTime"), self.is_symmetric())?;
        self.kept = kept;
        Ok(())
    }

    fn version_name(&self, number: u32) -> String {
        format!("{}/cryptoKeyVersions/{number}", self.name)
    }

    fn show(&self, now: SystemTime) -> Value {
        let mut shown = json!({
            "name": self.name,
            "purpose": self.purpose,
            "createTime": rfc3339(self.created),
            "versionTemplate": { "protectionLevel": "SOFTWARE", "algorithm": self.algorithm },
            "destroyScheduledDuration": format!("{}s", DESTROYED_AFTER.as_secs()),
        });
        if let Some(primary) = self.primary.and_then(|number| self.show_version(number, now).ok()) {
            shown["primary"] = primary;
        }
        for (field, value) in &self.kept {
            shown[*field] = value.clone();
        }
        shown
    }

    fn show_version(&self, number: u32, now: SystemTime) -> Result<Value, Status> {
        let name = self.version_name(number);
        let version = self
            .versions
            .get(&number)
            .ok_or_else(|| Status::not_found(&format!("CryptoKeyVersion {name}")))?;
        let mut shown = json!({
            "name": name,
            "state": version.state_name(now),
            "protectionLevel": "SOFTWARE",
            "algorithm": self.algorithm,
            "createTime": rfc3339(version.created),
            "generateTime": rfc3339(version.created),
        });
        if let State::DestroyScheduled(at) = version.state {
            let field = if at > now { "destroyTime" } else { "destroyEventTime" };
            shown[field] = rfc3339(at).into();
        }
        Ok(shown)
    }
}

impl Version {
    fn state_name(&self, now: SystemTime) -> &'static str {
        match self.state {
            State::Enabled => "ENABLED",
            State::Disabled => "DISABLED",
            State::DestroyScheduled(at) if at > now => "DESTROY_SCHEDULED",
            State::DestroyScheduled(_) => "DESTROYED",
        }
    }
}

/// A name that the caller chooses.
fn id(text: &str) -> Result<&str, Status> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=63).contains(&text.len()) && text.chars().all(plain) {
        return Ok(text);
    }
    Err(Status::invalid("The resource id must match the regular expression `[a-zA-Z0-9_-]{1,63}`."))
}

/// cloud.google.com/kms/docs/labeling-keys
fn check_labels(labels: Option<&Value>) -> Result<(), Status> {
    let plain = |text: &str| {
        text.len() <= 63
            && text.chars().all(|c| c.is_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
    };
    let fits = |(name, value): (&String, &Value)| {
        name.starts_with(char::is_lowercase) && plain(name) && value.as_str().is_some_and(plain)
    };
    if labels.and_then(Value::as_object).is_none_or(|labels| labels.iter().all(fits)) {
        return Ok(());
    }
    Err(Status::invalid("A label is invalid: labels are at most 63 lowercase letters, digits, `-` and `_`."))
}

/// A period needs its beginning, is at least a day, and is for symmetric keys only.
fn check_rotation(period: Option<&Value>, next: Option<&Value>, is_symmetric: bool) -> Result<(), Status> {
    let Some(period) = period.and_then(Value::as_str) else { return Ok(()) };
    let seconds = period.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok());
    if !is_symmetric || next.is_none() || seconds.is_none_or(|seconds| !(86_400.0..3.2e9).contains(&seconds))
    {
        return Err(Status::invalid("rotation_period must be at least 24 hours, with next_rotation_time."));
    }
    Ok(())
}

fn aad(call: &Call) -> Result<(Vec<u8>, bool), Status> {
    let (field, checksum) = ("additionalAuthenticatedData", "additionalAuthenticatedDataCrc32c");
    let (aad, verified) = call.checked_bytes(&call.body, field, checksum)?;
    if aad.len() > MAX_BYTES {
        return Err(Status::invalid("The additional authenticated data is longer than 65536 bytes."));
    }
    Ok((aad, verified))
}

fn aes(key: &[u8; 32]) -> Result<LessSafeKey, Status> {
    let key = UnboundKey::new(&AES_256_GCM, key);
    key.map(LessSafeKey::new).map_err(|_| Status::new(500, "INTERNAL", "Internal error encountered."))
}

fn rsa_bits(algorithm: &str) -> Option<u64> {
    algorithm.strip_prefix("RSA_DECRYPT_OAEP_")?.strip_suffix("_SHA256")?.parse().ok()
}
