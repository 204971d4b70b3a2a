//! What AWS' refusals mean.

use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};

use crate::{Error, ErrorKind};

type HttpResponse = aws_sdk_kms::config::http::HttpResponse;

/// The error of a call that does not unwrap.
///
/// SECURITY: nothing of the SDK's error is kept but AWS' code: its Debug holds the whole answer, and with that the
/// data key when an answer to `Decrypt` could not be read.
pub(super) fn failure<E: ProvideErrorMetadata + std::error::Error + 'static>(
    error: &SdkError<E, HttpResponse>,
) -> Error {
    let SdkError::ServiceError(refused) = error else {
        if let Some(ours) = ours(error) {
            return Error::new(ours.kind(), ours.to_string());
        }
        return Error::unavailable(match error {
            SdkError::TimeoutError(_) => "AWS did not answer in time",
            SdkError::DispatchFailure(e) if e.is_io() => "AWS cannot be reached",
            SdkError::DispatchFailure(e) if e.is_timeout() => "AWS cannot be reached in time",
            SdkError::DispatchFailure(_) => {
                "AWS cannot be called: there are no credentials, or no connection"
            }
            SdkError::ResponseError(_) => "the answer is not what AWS sends",
            _ => "AWS cannot be called",
        });
    };
    let status = refused.raw().status().as_u16();
    let code = refused.err().meta().code().unwrap_or_default();
    let kind = kind(code, status);
    let text = match kind {
        ErrorKind::Denied if is_about_the_signature(code) => {
            "AWS does not take the signature: the clock of this machine is wrong, or the access key"
        }
        ErrorKind::Denied => "AWS refuses the caller",
        ErrorKind::Disabled => "the key is disabled, pending deletion, or not usable in its state",
        ErrorKind::Invalid => return Error::cannot_unwrap(),
        ErrorKind::NotFound => "AWS has no such key",
        ErrorKind::Throttled => "AWS asks to slow down",
        ErrorKind::Unavailable => "AWS failed",
        _ => "AWS does not take this request",
    };
    let shown: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    Error::new(kind, format!("{text} ({shown}, HTTP {status})"))
}

/// The error of a call that unwraps: a ciphertext that AWS cannot even parse is invalid, not an unknown request.
pub(super) fn unwrapping_failure<E: ProvideErrorMetadata + std::error::Error + 'static>(
    error: &SdkError<E, HttpResponse>,
) -> Error {
    let error = failure(error);
    if error.kind() == ErrorKind::Unsupported { Error::cannot_unwrap() } else { error }
}

/// <https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html> and the errors of each operation.
fn kind(code: &str, status: u16) -> ErrorKind {
    match code {
        "NotFoundException" => ErrorKind::NotFound,
        "DisabledException" | "KMSInvalidStateException" => ErrorKind::Disabled,
        "InvalidCiphertextException" | "IncorrectKeyException" => ErrorKind::Invalid,
        "AccessDenied"
        | "AccessDeniedException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "NotAuthorized"
        | "OptInRequired"
        // Signed at another time: that ends when somebody sets the clock, and no sooner.
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => ErrorKind::Denied,
        "LimitExceededException" | "ThrottlingException" | "Throttling" | "RequestLimitExceeded" => {
            ErrorKind::Throttled
        }
        "DependencyTimeoutException"
        | "KMSInternalException"
        | "KeyUnavailableException"
        | "InternalFailure"
        | "ServiceUnavailable" => ErrorKind::Unavailable,
        _ => match status {
            429 => ErrorKind::Throttled,
            401 | 403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            // A success that cannot be read was damaged; redirects, which the SDK does not follow, are not AWS'.
            200..=399 | 500..=599 => ErrorKind::Unavailable,
            _ => ErrorKind::Unsupported,
        },
    }
}

/// AWS takes signatures for some minutes, and says this of older ones and of those of the future.
fn is_about_the_signature(code: &str) -> bool {
    matches!(
        code,
        "InvalidSignatureException" | "RequestExpired" | "RequestTimeTooSkewed" | "SignatureDoesNotMatch"
    )
}

/// The error of [`Bounds`](super::transport::Bounds), which the SDK hands on.
fn ours<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Error> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

pub(super) fn malformed() -> Error {
    Error::unavailable("the answer is not what AWS sends")
}
