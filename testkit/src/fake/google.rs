//! Google Cloud: what KMS and Secret Manager have in common on the wire.
//!
//! The shapes are those of `cloud.google.com/kms/docs/reference/rest` and `cloud.google.com/secret-manager/docs/reference/rest`;
//! errors are `google.rpc.Status`, as AIP-193 describes.

mod kms;
mod secrets;

use std::sync::Mutex;
use std::time::SystemTime;

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::message::{Answer, Request, base64, walk};
use super::{Refusal, Service, lock};

/// One project's worth of keys and secrets; projects are told apart by names only.
#[derive(Default)]
pub(super) struct Google {
    keys: Mutex<kms::Keys>,
    secrets: Mutex<secrets::Secrets>,
}

impl Service for Google {
    fn operation(&self, request: &Request) -> String {
        let call = Call::of(request);
        // Resource names alternate: collection, name, collection, name.
        let parts = call.resource.split('/').collect::<Vec<_>>();
        match (&call.verb, parts.len() % 2, parts.as_slice()) {
            (Some(verb), ..) => verb.clone(),
            (None, 1, [.., "publicKey"]) => "publicKey".to_owned(),
            (None, 1, [.., collection]) | (None, 0, [.., collection, _]) => {
                format!("{} {collection}", request.method)
            }
            _ => request.method.clone(),
        }
    }

    fn answer(&self, request: &Request, now: SystemTime) -> Answer {
        let mut call = Call::of(request);
        let Some(body) = request.json() else {
            return Status::invalid("Invalid JSON payload received.").into();
        };
        call.body = body;
        spell_enums(&mut call.body);
        let result = if request.path.first().is_none_or(|version| version != "v1") {
            call.no_such_method()
        } else if let Err(unknown) = call.check_fields() {
            Err(unknown)
        } else if call.resource.contains("/locations/") {
            lock(&self.keys).answer(&call, now)
        } else {
            call.resource = with_number(&call.resource);
            lock(&self.secrets).answer(&call, now)
        };
        let mut answer = result.map_or_else(Answer::from, Answer::ok);
        if request.query.get("$alt").is_some_and(|alt| alt.contains("enum-encoding=int")) {
            number_enums(&mut answer.body);
        }
        answer
    }

    fn refuse(&self, refusal: Refusal) -> Answer {
        match refusal {
            Refusal::TokenMissing | Refusal::TokenExpired => Status::new(
                401,
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or \
                 other valid authentication credential.",
            )
            .into(),
            Refusal::Denied => Status::new(
                403,
                "PERMISSION_DENIED",
                "Permission denied on resource (or it may not exist).",
            )
            .into(),
            Refusal::Throttled(seconds) => {
                let mut status = Status::new(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric.");
                status.details.push(json!({
                    "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s"),
                }));
                Answer::from(status).with("retry-after", seconds)
            }
            Refusal::Failing(503) => {
                Status::new(503, "UNAVAILABLE", "The service is currently unavailable.").into()
            }
            Refusal::Failing(status) => Status::new(status, "INTERNAL", "Internal error encountered.").into(),
        }
    }
}

/// A request as Google reads it: a method, a resource, a verb, parameters.
struct Call {
    method: String,
    /// `projects/…`, without the leading `v1/`.
    resource: String,
    /// What stands after the colon: `encrypt`.
    verb: Option<String>,
    query: std::collections::BTreeMap<String, String>,
    body: Value,
}

impl Call {
    fn of(request: &Request) -> Self {
        let path = request.path.join("/");
        let path = path.strip_prefix("v1/").unwrap_or(&path);
        let (resource, verb) = match path.rsplit_once(':') {
            Some((resource, verb)) if !verb.contains('/') => (resource, Some(verb.to_owned())),
            _ => (path, None),
        };
        Self {
            method: request.method.clone(),
            resource: resource.to_owned(),
            verb,
            query: request.query.clone(),
            body: Value::Null,
        }
    }

    /// A field that the service does not know is an error, not a field to leave out.
    fn check_fields(&self) -> Result<(), Status> {
        let known = |value: &Value, names: &[&str]| {
            let unknown =
                value.as_object().into_iter().flatten().find(|(name, _)| !names.contains(&name.as_str()));
            unknown.map_or(Ok(()), |(name, _)| {
                let text =
                    format!("Invalid JSON payload received. Unknown name \"{name}\": Cannot find field.");
                Err(Status::invalid(text))
            })
        };
        known(&self.body, FIELDS)?;
        known(&self.body["payload"], &["data", "dataCrc32c"])
    }

    fn parts(&self) -> Vec<&str> {
        self.resource.split('/').collect()
    }

    fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }

    fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// Whether a PATCH changes this field.
    fn updates(&self, field: &str) -> bool {
        let snake = field
            .chars()
            .flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] });
        let snake: String = snake.collect();
        self.parameter("updateMask").split(',').any(|f| f.trim() == field || f.trim() == snake)
    }

    /// A field of bytes, with its checksum verified if it came with one; and whether it did.
    fn checked_bytes(&self, value: &Value, field: &str, checksum: &str) -> Result<(Vec<u8>, bool), Status> {
        let bytes = base64(value[field].as_str().unwrap_or_default())
            .ok_or_else(|| Status::invalid(format!("Invalid value at '{field}': Base64 decoding failed.")))?;
        // An Int64Value: a text, which clients also write as a number.
        let claimed = match &value[checksum] {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.as_i64(),
            Value::Null => return Ok((bytes, false)),
            _ => None,
        };
        if claimed != Some(i64::from(crc32c::crc32c(&bytes))) {
            return Err(Status::invalid(format!(
                "The checksum in field {checksum} did not match the data in field {field}."
            )));
        }
        Ok((bytes, true))
    }

    fn no_such_method<T>(&self) -> Result<T, Status> {
        Err(Status::new(404, "NOT_FOUND", "Method not found."))
    }
}

/// What requests may have in their bodies.
const FIELDS: &[&str] = &[
    "additionalAuthenticatedData",
    "additionalAuthenticatedDataCrc32c",
    "annotations",
    "ciphertext",
    "ciphertextCrc32c",
    "cryptoKeyVersionId",
    "destroyScheduledDuration",
    "etag",
    "expireTime",
    "importOnly",
    "labels",
    "name",
    "nextRotationTime",
    "payload",
    "plaintext",
    "plaintextCrc32c",
    "purpose",
    "replication",
    "rotation",
    "rotationPeriod",
    "state",
    "topics",
    "ttl",
    "versionAliases",
    "versionDestroyTtl",
    "versionTemplate",
];

/// Secret Manager takes the id or the number of a project, and answers with the number.
fn with_number(resource: &str) -> String {
    let Some((project, below)) = resource.strip_prefix("projects/").and_then(|rest| rest.split_once('/'))
    else {
        return resource.to_owned();
    };
    if project.bytes().all(|b| b.is_ascii_digit()) {
        return resource.to_owned();
    }
    let number = 100_000_000_000 + u64::from(crc32c::crc32c(project.as_bytes()));
    format!("projects/{number}/{below}")
}

/// One page of a list, and the token of the next.
fn page<'a, T>(call: &Call, items: &'a [T]) -> Result<(&'a [T], Option<String>), Status> {
    let token = call.parameter("pageToken");
    let start = if token.is_empty() { Some(0) } else { token.parse().ok() };
    let start = start.filter(|start| *start <= items.len());
    let Some(start) = start else { return Err(Status::invalid("The page token is invalid.")) };
    let size = call.parameter("pageSize").parse().ok().filter(|size| *size > 0).unwrap_or(100_usize);
    let end = items.len().min(start.saturating_add(size));
    Ok((&items[start..end], (end < items.len()).then(|| end.to_string())))
}

/// `google.rpc.Status` with its HTTP code.
#[derive(Debug)]
struct Status {
    code: u16,
    name: &'static str,
    message: String,
    details: Vec<Value>,
}

impl Status {
    fn new(code: u16, name: &'static str, message: impl Into<String>) -> Self {
        Self { code, name, message: message.into(), details: Vec::new() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "INVALID_ARGUMENT", message)
    }

    fn precondition(message: impl Into<String>) -> Self {
        Self::new(400, "FAILED_PRECONDITION", message)
    }

    fn not_found(what: &str) -> Self {
        Self::new(404, "NOT_FOUND", format!("{what} not found."))
    }

    fn exists(what: &str) -> Self {
        Self::new(409, "ALREADY_EXISTS", format!("{what} already exists."))
    }
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        let Status { code, name, message, details } = status;
        let mut error = json!({ "code": code, "message": message, "status": name });
        if !details.is_empty() {
            error["details"] = details.into();
        }
        Self::new(code, json!({ "error": error }))
    }
}

fn encoded(bytes: &[u8]) -> Value {
    BASE64.encode(bytes).into()
}

/// An Int64Value in proto3 JSON: a text.
fn checksum(bytes: &[u8]) -> Value {
    crc32c::crc32c(bytes).to_string().into()
}

/// The fields that hold enums, and the numbers of their values that occur here.
const ENUMS: &[(&str, &str, u64)] = &[
    ("purpose", "ENCRYPT_DECRYPT", 1),
    ("purpose", "ASYMMETRIC_DECRYPT", 6),
    ("state", "ENABLED", 1),
    ("state", "DISABLED", 2),
    ("state", "DESTROYED", 3),
    ("state", "DESTROY_SCHEDULED", 4),
    ("protectionLevel", "SOFTWARE", 1),
    ("algorithm", "GOOGLE_SYMMETRIC_ENCRYPTION", 1),
    ("algorithm", "RSA_DECRYPT_OAEP_2048_SHA256", 8),
    ("algorithm", "RSA_DECRYPT_OAEP_3072_SHA256", 9),
    ("algorithm", "RSA_DECRYPT_OAEP_4096_SHA256", 10),
    ("publicKeyFormat", "PEM", 1),
];

/// Some clients write enums as numbers; proto3 JSON allows both.
fn spell_enums(body: &mut Value) {
    walk("", body, &mut |field, value| {
        let known = ENUMS.iter().find(|(f, _, number)| *f == field && value.as_u64() == Some(*number));
        if let Some((_, name, _)) = known {
            *value = (*name).into();
        }
    });
}

/// What `$alt=json;enum-encoding=int` asks for.
fn number_enums(body: &mut Value) {
    walk("", body, &mut |field, value| {
        let known = ENUMS.iter().find(|(f, name, _)| *f == field && value.as_str() == Some(name));
        if let Some((.., number)) = known {
            *value = (*number).into();
        }
    });
}
