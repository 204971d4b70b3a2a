//! Who calls, and what Google's refusals mean.

use google_cloud_auth::credentials::{self, AccessTokenCredentials};
use secrecy::SecretString;
use serde::Serialize;
use zk_http::{Answer, Method, Request};

use super::{GcpKms, wire};
use crate::{Error, ErrorKind, http, service::token_within};

pub(super) enum Access {
    Token(SecretString),
    Credentials(AccessTokenCredentials),
}

impl Access {
    /// Application default credentials, <https://cloud.google.com/docs/authentication/application-default-credentials>.
    pub(super) fn standard() -> Result<Self, Error> {
        let built = credentials::Builder::default().build_access_token_credentials();
        built.map(Self::Credentials).map_err(|_| {
            Error::new(ErrorKind::Denied, "there are no usable application default credentials of Google")
        })
    }

    async fn token(&self) -> Result<SecretString, Error> {
        match self {
            Self::Token(token) => Ok(token.clone()),
            Self::Credentials(credentials) => match credentials.access_token().await {
                Ok(token) => Ok(token.token.into()),
                // SECURITY: the cause may quote what the token's issuer was sent.
                Err(error) if error.is_transient() => Err(Error::unavailable("Google gives no token now")),
                Err(_) => Err(Error::new(ErrorKind::Denied, "Google gives no token for these credentials")),
            },
        }
    }
}

impl GcpKms {
    pub(super) async fn call(
        &self,
        method: Method,
        path: &[String],
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Answer, Error> {
        self.call_with(method, path, &[], body).await
    }

    pub(super) async fn call_with(
        &self,
        method: Method,
        path: &[String],
        query: &[(&str, &str)],
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Answer, Error> {
        let token = token_within(self.timeout, self.access.token()).await?;
        let mut request =
            Request::new(method, ["v1"].into_iter().chain(path.iter().map(String::as_str))).bearer(&token);
        for (name, value) in query {
            request = request.query(name, value);
        }
        if let Some(body) = body {
            request = request.json(body)?;
        }
        let answer = self.api.send(request).await?;
        if answer.is_success() { Ok(answer) } else { Err(refusal(&answer, self.uri.name())) }
    }
}

/// <https://cloud.google.com/apis/design/errors>: the status says more than the number.
fn refusal(answer: &Answer, key: &str) -> Error {
    let said = answer.json::<wire::Refusal>().map(|r| r.error).unwrap_or_default();
    // The message names the key, which may be called like a state.
    let message = said.message.replace(key, "");
    let error = match said.status.as_str() {
        // Of a version that is disabled, destroyed, or about to be.
        "FAILED_PRECONDITION" if message.contains("DESTROY") => {
            Error::new(ErrorKind::NotFound, "the version of the key was destroyed")
        }
        "FAILED_PRECONDITION" if message.contains(wire::PENDING) => {
            Error::unavailable("the version of the key is being generated")
        }
        "FAILED_PRECONDITION" => Error::new(ErrorKind::Disabled, "the key is disabled"),
        "INVALID_ARGUMENT" if message.to_ascii_lowercase().contains("checksum") => wire::damaged(),
        "ALREADY_EXISTS" => Error::new(ErrorKind::Conflict, "there is one of that name"),
        _ => return http::failure(answer),
    };
    http::with_wait(answer, error)
}
