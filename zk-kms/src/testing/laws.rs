//! One function for each law. Those about the service around the key are in `laws/service.rs`.

mod service;

use std::fmt;

use data_encoding::{BASE64, HEXLOWER, HEXUPPER};

use super::Broken;
use crate::{Context, DataKey, Error, ErrorKind, Kms, WrappedKey};

pub use service::{
    calls_run_side_by_side, disabled_key_is_refused, dropped_call_leaves_no_damage, missing_key_is_not_found,
    refusal_is_denied, stalled_service_meets_the_deadline,
};

/// What is wrapped comes back.
///
/// # Errors
///
/// [`Broken`] when it does not.
pub async fn round_trip(kms: &dyn Kms) -> Result<(), Broken> {
    let law = Law("round_trip");
    for context in [Context::new(), law.context("a")?, law.long_context()?] {
        let key = law.key()?;
        let wrapped = law.ok("wrap", kms.wrap_key(&key, &context).await)?;
        let stored = law.ok("decode", WrappedKey::from_bytes(&wrapped.to_bytes()))?;
        let back = law.ok("unwrap", kms.unwrap_key(&stored, &context).await)?;
        law.holds(back == key, "another key came back")?;
    }
    Ok(())
}

/// Wrapping one key twice gives different bytes, so that stored rows do not show which keys are equal.
///
/// # Errors
///
/// [`Broken`] when the bytes are equal.
pub async fn wrapping_twice_differs(kms: &dyn Kms) -> Result<(), Broken> {
    let law = Law("wrapping_twice_differs");
    let (key, context) = (law.key()?, law.context("a")?);
    let first = law.ok("wrap", kms.wrap_key(&key, &context).await)?;
    let second = law.ok("wrap", kms.wrap_key(&key, &context).await)?;
    law.holds(first.bytes() != second.bytes(), "the same bytes came twice")
}

/// A key unwraps only with the context it was wrapped with: not with another value, fewer pairs, or more.
///
/// # Errors
///
/// [`Broken`] when another context unwraps, or fails with another kind than [`ErrorKind::Invalid`].
pub async fn context_is_bound(kms: &dyn Kms) -> Result<(), Broken> {
    let law = Law("context_is_bound");
    let right = law.context("a")?;
    let wrapped = law.ok("wrap", kms.wrap_key(&law.key()?, &right).await)?;
    let more = law.ok("context", right.clone().with("more", ""))?;
    let renamed = law.ok("context", Context::new().with("Scope", "a"))?;
    for wrong in [Context::new(), law.context("b")?, law.context("A")?, more, renamed] {
        law.invalid("another context", kms.unwrap_key(&wrapped, &wrong).await)?;
    }
    Ok(())
}

/// What one KEK wrapped, another does not unwrap, even when the bytes are made to name it.
///
/// # Errors
///
/// [`Broken`] when it does, or fails with another kind than [`ErrorKind::Invalid`].
pub async fn keys_are_separate(kms: &dyn Kms, other: &dyn Kms) -> Result<(), Broken> {
    let law = Law("keys_are_separate");
    let context = law.context("a")?;
    let wrapped = law.ok("wrap", kms.wrap_key(&law.key()?, &context).await)?;
    law.invalid("another key", other.unwrap_key(&wrapped, &context).await)?;
    let status = law.ok("status", other.status().await)?;
    let renamed = WrappedKey::new(other.uri().clone(), status.version().clone(), wrapped.bytes().to_vec());
    let renamed = law.ok("rename", renamed)?;
    law.invalid("another key under its name", other.unwrap_key(&renamed, &context).await)
}

/// Every changed byte is noticed.
///
/// # Errors
///
/// [`Broken`] when a changed byte unwraps, or fails with another kind than [`ErrorKind::Invalid`].
pub async fn tampering_is_invalid(kms: &dyn Kms) -> Result<(), Broken> {
    let law = Law("tampering_is_invalid");
    let context = law.context("a")?;
    let wrapped = law.ok("wrap", kms.wrap_key(&law.key()?, &context).await)?;
    for at in 0..wrapped.bytes().len() {
        for flip in [0x01, 0x80] {
            let mut bytes = wrapped.bytes().to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= flip;
            }
            let changed = law.with_bytes(&wrapped, bytes)?;
            law.invalid(&format!("a change in byte {at}"), kms.unwrap_key(&changed, &context).await)?;
        }
    }
    Ok(())
}

/// Bytes that were cut or extended are noticed.
///
/// # Errors
///
/// [`Broken`] when they unwrap, or fail with another kind than [`ErrorKind::Invalid`].
pub async fn truncation_is_invalid(kms: &dyn Kms) -> Result<(), Broken> {
    let law = Law("truncation_is_invalid");
    let context = law.context("a")?;
    let wrapped = law.ok("wrap", kms.wrap_key(&law.key()?, &context).await)?;
    for len in 1..wrapped.bytes().len() {
        let cut = wrapped.bytes().iter().copied().take(len).collect();
        let cut = law.with_bytes(&wrapped, cut)?;
        law.invalid(&format!("a cut to {len} bytes"), kms.unwrap_key(&cut, &context).await)?;
    }
    let longer = law.with_bytes(&wrapped, [wrapped.bytes(), &[0]].concat())?;
    law.invalid("one byte more", kms.unwrap_key(&longer, &context).await)
}

/// A wrapped key names the KEK and the version that wrapped it, as the service states them.
///
/// # Errors
///
/// [`Broken`] when it names others.
pub async fn wrapped_key_names_its_key(kms: &dyn Kms) -> Result<(), Broken> {
    let law = Law("wrapped_key_names_its_key");
    let wrapped = law.ok("wrap", kms.wrap_key(&law.key()?, &Context::new()).await)?;
    let status = law.ok("status", kms.status().await)?;
    law.holds(status.is_enabled(), "the key wraps and is reported as disabled")?;
    law.holds(wrapped.uri() == kms.uri(), "it names another key")?;
    law.holds(wrapped.version() == status.version(), "it names another version")
}

/// After `rotate`, new keys are wrapped under a new version and old ones still unwrap.
///
/// # Errors
///
/// [`Broken`] when the version stays or the old key is lost.
pub async fn old_versions_still_unwrap<F, R>(kms: &dyn Kms, rotate: F) -> Result<(), Broken>
where
    F: FnOnce() -> R,
    R: Future<Output = Result<(), Error>>,
{
    let law = Law("old_versions_still_unwrap");
    let (key, context) = (law.key()?, law.context("a")?);
    let old = law.ok("wrap", kms.wrap_key(&key, &context).await)?;
    law.ok("rotate", rotate().await)?;
    let new = law.ok("wrap", kms.wrap_key(&key, &context).await)?;
    law.holds(new.version() != old.version(), "the version stayed the same")?;
    for wrapped in [&old, &new] {
        let back = law.ok("unwrap", kms.unwrap_key(wrapped, &context).await)?;
        law.holds(back == key, "another key came back")?;
    }
    Ok(())
}

/// Rewrapping moves a key to a new context and the current version, and it is the same key.
///
/// # Errors
///
/// [`Broken`] when the key changes, the old context still opens the new bytes, or a wrong `from` is accepted.
pub async fn rewrapping_keeps_the_key(kms: &dyn Kms) -> Result<(), Broken> {
    let law = Law("rewrapping_keeps_the_key");
    let (key, from, to) = (law.key()?, law.context("a")?, law.context("b")?);
    let wrapped = law.ok("wrap", kms.wrap_key(&key, &from).await)?;
    let moved = law.ok("rewrap", kms.rewrap_key(&wrapped, &from, &to).await)?;
    let back = law.ok("unwrap", kms.unwrap_key(&moved, &to).await)?;
    law.holds(back == key, "another key came back")?;
    law.invalid("the old context", kms.unwrap_key(&moved, &from).await)?;
    law.invalid("a wrong `from`", kms.rewrap_key(&wrapped, &to, &from).await)
}

/// Neither the backend, nor wrapped keys, nor errors print the key, its wrapped bytes or the context.
///
/// # Errors
///
/// [`Broken`] when one of them does.
pub async fn errors_and_debug_carry_no_secret(kms: &dyn Kms) -> Result<(), Broken> {
    let law = Law("errors_and_debug_carry_no_secret");
    let (key, context) = (law.key()?, law.context("a")?);
    let wrapped = law.ok("wrap", kms.wrap_key(&key, &context).await)?;
    let mut texts = vec![format!("{kms:?}"), format!("{wrapped:?}"), format!("{key:?}")];
    for wrong in [law.with_bytes(&wrapped, key.expose().to_vec())?, law.with_bytes(&wrapped, vec![1])?] {
        let Err(error) = kms.unwrap_key(&wrong, &context).await else {
            return Err(law.broken("bytes that nobody wrapped were unwrapped"));
        };
        texts.push(format!("{error:?}"));
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            texts.push(error.to_string());
            cause = error.source();
        }
    }
    for secret in [key.expose().as_slice(), wrapped.bytes()] {
        // Eight bytes are enough to recognise, and to catch what prints a part.
        let start: Vec<u8> = secret.iter().copied().take(8).collect();
        for shown in
            [format!("{start:?}").replace(['[', ']'], ""), HEXLOWER.encode(&start), HEXUPPER.encode(&start)]
        {
            law.holds(!texts.iter().any(|t| t.contains(&shown)), "a text shows secret bytes")?;
        }
        let base64 = BASE64.encode(&start);
        let base64 = base64.get(..10).unwrap_or(&base64);
        law.holds(!texts.iter().any(|t| t.contains(base64)), "a text shows secret bytes")?;
    }
    Ok(())
}

/// The name of the law being tested, and the ways to say that it does not hold.
pub(super) struct Law(pub(super) &'static str);

impl Law {
    pub(super) fn key(&self) -> Result<DataKey, Broken> {
        self.ok("generate", DataKey::generate())
    }

    pub(super) fn context(&self, scope: &str) -> Result<Context, Broken> {
        self.ok("context", Context::new().with("scope", scope))
    }

    pub(super) fn long_context(&self) -> Result<Context, Broken> {
        self.ok("context", Context::new().with("long", [0xff; 512]))
    }

    pub(super) fn with_bytes(&self, wrapped: &WrappedKey, bytes: Vec<u8>) -> Result<WrappedKey, Broken> {
        self.ok("change", WrappedKey::new(wrapped.uri().clone(), wrapped.version().clone(), bytes))
    }

    pub(super) fn ok<T>(&self, step: &str, result: Result<T, Error>) -> Result<T, Broken> {
        result.map_err(|error| self.broken(format!("{step} failed with {:?}: {error}", error.kind())))
    }

    pub(super) fn invalid<T>(&self, what: &str, result: Result<T, Error>) -> Result<(), Broken> {
        self.fails_with(ErrorKind::Invalid, what, result)
    }

    fn fails_with<T>(&self, kind: ErrorKind, what: &str, result: Result<T, Error>) -> Result<(), Broken> {
        match result {
            Err(error) if error.kind() == kind => Ok(()),
            Err(error) => Err(self.broken(format!("{what} gave {:?}, not {kind:?}: {error}", error.kind()))),
            Ok(_) => Err(self.broken(format!("{what} was accepted"))),
        }
    }

    pub(super) fn holds(&self, condition: bool, otherwise: &str) -> Result<(), Broken> {
        if condition { Ok(()) } else { Err(self.broken(otherwise)) }
    }

    pub(super) fn broken(&self, how: impl fmt::Display) -> Broken {
        Broken::new(self.0, how.to_string())
    }
}
