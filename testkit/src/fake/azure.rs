//! Azure Key Vault: the challenge, errors, and what keys and secrets have in common.
//!
//! The shapes are those of `learn.microsoft.com/rest/api/keyvault`, versions 7.4 to 7.6 and the dated ones after them.

mod keys;
mod objects;
mod secrets;

use std::sync::Mutex;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::message::{Answer, Request};
use super::{Refusal, Service, lock};

/// What the service puts into its challenge: the tenant to log in to, and for what.
const CHALLENGE: &str = "Bearer authorization=\"https://login.microsoftonline.com/00000000-0000-0000-0000-000000000001\", \
                         resource=\"https://vault.azure.net\"";

/// One vault.
pub(super) struct Vault {
    keys: Mutex<keys::Keys>,
    secrets: Mutex<secrets::Secrets>,
}

impl Vault {
    /// Makes an empty vault, which is reached at `url`: identifiers of objects start with it.
    pub(super) fn new(url: &str) -> Self {
        Self { keys: Mutex::new(keys::Keys::new(url)), secrets: Mutex::new(secrets::Secrets::new(url)) }
    }
}

impl Service for Vault {
    fn operation(&self, request: &Request) -> String {
        match (request.method.as_str(), request.parts().as_slice()) {
            ("POST", [.., verb]) => (*verb).to_owned(),
            (method, ["keys" | "secrets", _, "versions"]) => format!("{method} versions"),
            (method, [collection, ..]) => format!("{method} {collection}"),
            (method, []) => method.to_owned(),
        }
    }

    fn answer(&self, request: &Request, now: SystemTime) -> Answer {
        if !request.query.contains_key("api-version") {
            return Refused::bad("api-version must be specified").into();
        }
        let Some(body) = request.json() else {
            return Refused::bad("Invalid JSON").into();
        };
        let call = Call { method: &request.method, body: &body, query: request, now };
        let result = match request.parts().as_slice() {
            ["keys", rest @ ..] => lock(&self.keys).answer(&call, rest),
            ["deletedkeys", rest @ ..] => lock(&self.keys).objects().deleted(&call, rest),
            ["secrets", rest @ ..] => lock(&self.secrets).answer(&call, rest),
            ["deletedsecrets", rest @ ..] => lock(&self.secrets).objects().deleted(&call, rest),
            _ => call.not_allowed(),
        };
        match result {
            Ok(Value::Null) => Answer::new(204, Value::Null),
            Ok(body) => Answer::ok(body),
            Err(refused) => refused.into(),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Answer {
        let unauthorized = |message: &str| Answer::from(Refused::new(401, "Unauthorized", message));
        match refusal {
            Refusal::TokenMissing => unauthorized("AKV10000: Request is missing a Bearer or PoP token.")
                .with("www-authenticate", CHALLENGE),
            Refusal::TokenExpired => unauthorized("AKV10046: The token is not valid any more.")
                .with("www-authenticate", format!("{CHALLENGE}, error=\"invalid_token\"")),
            Refusal::Denied => {
                Refused::new(403, "Forbidden", "Caller is not authorized to perform action on resource.")
                    .because("ForbiddenByRbac")
                    .into()
            }
            Refusal::Throttled(seconds) => Answer::from(Refused::new(
                429,
                "Throttled",
                "Request was not processed because too many requests were received. \
                 Reason: VaultRequestTypeLimitReached",
            ))
            .with("retry-after", seconds),
            Refusal::Failing(503) => {
                Refused::new(503, "ServiceUnavailable", "The service is temporarily unavailable.").into()
            }
            Refusal::Failing(status) => {
                Refused::new(status, "InternalServerError", "An unexpected error occurred.").into()
            }
        }
    }
}

/// What is asked for, next to the path.
struct Call<'a> {
    method: &'a str,
    body: &'a Value,
    query: &'a Request,
    now: SystemTime,
}

impl Call<'_> {
    fn not_allowed<T>(&self) -> Result<T, Refused> {
        Err(Refused::new(405, "MethodNotAllowed", "The request method is not allowed."))
    }

    /// One page of a list, with the link to the next.
    fn page(&self, url: &str, items: Vec<Value>) -> Result<Value, Refused> {
        let number = |name: &str| self.query.query.get(name).map(|text| text.parse::<usize>().ok());
        let start = number("$skiptoken").unwrap_or(Some(0)).filter(|start| *start <= items.len());
        let (Some(start), Some(size)) =
            (start, number("maxresults").unwrap_or(Some(25)).filter(|s| (1..=25).contains(s)))
        else {
            return Err(Refused::bad("maxresults or the continuation is invalid"));
        };
        let version = self.query.query.get("api-version").map_or("", String::as_str);
        let end = items.len().min(start + size);
        let next = (end < items.len())
            .then(|| format!("{url}?api-version={version}&$skiptoken={end}&maxresults={size}"));
        let shown: Vec<_> = items.into_iter().skip(start).take(size).collect();
        Ok(json!({ "value": shown, "nextLink": next }))
    }
}

/// An error of the service.
#[derive(Debug)]
struct Refused {
    status: u16,
    code: &'static str,
    message: String,
    inner: Option<&'static str>,
}

impl Refused {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), inner: None }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(400, "BadParameter", message)
    }

    fn because(mut self, inner: &'static str) -> Self {
        self.inner = Some(inner);
        self
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        let Refused { status, code, message, inner } = refused;
        let mut error = json!({ "code": code, "message": message });
        if let Some(inner) = inner {
            error["innererror"] = json!({ "code": inner });
        }
        Self::new(status, json!({ "error": error }))
    }
}
