//! One key under several services.

mod wraps;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use self::wraps::Wraps;
use crate::{Capabilities, Context, DataKey, Error, ErrorKind, KeyStatus, KeyUri, Kms, Service, WrappedKey};

/// More services than anybody keeps keys in.
const MAX_MEMBERS: usize = 8;

/// Several key-encryption keys, of other services or other places, that wrap each data key together: any one of them
/// unwraps it.
///
/// It is a [`Kms`] of its own, `any-of:<name>`, so that everything built on one works across clouds. Put a
/// [`Guard`](crate::layers::Guard) around each member, and one around the whole whose deadline is that of all members
/// together.
///
/// # Who is asked
///
/// The members in the order in which they were given, one after the other, each for as long as its deadline.
/// **Only a service that does not answer is passed over; one that refuses is obeyed.** [`ErrorKind::Unavailable`] and
/// [`ErrorKind::Throttled`] lead to the next member. `Denied`, `Disabled`, `NotFound` and `Invalid` are the answer: who takes
/// the right to a key away in the service that is asked first must not find that the second still gives it. For the same
/// reason members are not asked at the same time: which refusal counts would depend on who is faster, and every key would
/// cost every service a call. To stop a key for certain, disable it in every service.
///
/// A member that is gone for good, or locked us out, is taken out of the configuration by a person; the others unwrap
/// everything that was wrapped for them.
///
/// # What is missing
///
/// By default a new key is wrapped only if every member wraps it. [`AnyOf::require`] lowers that, for those who would rather
/// make keys during an outage. What is missing then, or because a member was added later, shows in three ways:
///
/// - [`AnyOf::missing`] lists it, and [`AnyOf::repair`] adds it, keeping the wraps that are there;
/// - the version of the wrapped key is not that of [`Kms::status`], because a version names the members that wrapped and their
///   versions. So zk-crypto's `rewrap_keys`, and any other job that compares them, repairs by itself, after
///   a member rotated too;
/// - a warning in the log, with the feature's other events.
///
/// # Security
///
/// A data key is as safe as the weakest of the members. No wrap can be changed, exchanged, added or removed unnoticed: the whole
/// list is sealed together, so one damaged wrap is [`ErrorKind::Invalid`] though another member would still unwrap. A wrap for a
/// key that is not a member is never used to choose whom to ask.
///
/// The bytes are a format byte, at most 8 wraps of at most 4096 bytes, and the data key sealed under a one-time key, which is
/// what the members wrap: they know neither each other nor the data key.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use zk_kms::{AnyOf, Context, DataKey, Kms, LocalKms};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), zk_kms::Error> {
/// let (one, two): (Arc<dyn Kms>, Arc<dyn Kms>) =
///     (Arc::new(LocalKms::ephemeral("one")?), Arc::new(LocalKms::ephemeral("two")?));
/// let (key, context) = (DataKey::generate()?, Context::new().with("scope", "tenant-7")?);
/// let wrapped = AnyOf::new("orders", [one.clone()])?.wrap_key(&key, &context).await?;
///
/// let both = AnyOf::new("orders", [one, two.clone()])?;
/// assert_eq!(both.missing(&wrapped)?, [two.uri()]);
/// let wrapped = both.repair(&wrapped, &context).await?;
/// assert_eq!(wrapped.version(), both.status().await?.version());
///
/// let alone = AnyOf::new("orders", [two])?;
/// assert_eq!(alone.unwrap_key(&wrapped, &context).await?, key);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct AnyOf {
    uri: KeyUri,
    members: Vec<Arc<dyn Kms>>,
    required: usize,
    patience: Duration,
}

impl AnyOf {
    /// Puts members together, in the order in which they are asked, under `any-of:<name>`.
    ///
    /// The name is part of what wrapped keys are bound to: under another name they do not unwrap.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for no member or more than 8, one twice, one that is an `AnyOf` itself, or a name that cannot
    /// stand in a URI.
    pub fn new(name: &str, members: impl IntoIterator<Item = Arc<dyn Kms>>) -> Result<Self, Error> {
        let uri = KeyUri::any_of(name)?;
        let members: Vec<_> = members.into_iter().collect();
        if !(1..=MAX_MEMBERS).contains(&members.len()) {
            return Err(Error::invalid(format!("`{uri}` needs 1 to {MAX_MEMBERS} members")));
        }
        for (i, member) in members.iter().enumerate() {
            if member.uri().service() == Service::AnyOf {
                return Err(Error::invalid(format!("`{}` cannot be a member: it has members", member.uri())));
            }
            if members.iter().take(i).any(|before| before.uri() == member.uri()) {
                return Err(Error::invalid(format!("`{}` is a member twice", member.uri())));
            }
        }
        let required = members.len();
        Ok(Self { uri, members, required, patience: Duration::from_secs(3) })
    }

    /// Says how many members have to wrap a new key; all by default.
    ///
    /// With fewer, members that do not answer are passed over, and what is missing has to be repaired later. A key that one
    /// service alone has wrapped is lost with that service.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for none, or more than there are.
    pub fn require(self, count: usize) -> Result<Self, Error> {
        if !(1..=self.members.len()).contains(&count) {
            let text = format!(
                "`{}` has {} members: 1 to all of them can be required",
                self.uri,
                self.members.len()
            );
            return Err(Error::invalid(text));
        }
        Ok(Self { required: count, ..self })
    }

    /// Says how long each member may take to answer; 3 seconds by default.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Lists the members that have not wrapped this key. Asks nobody, and so believes what the bytes say.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when it is no wrapped key of this `AnyOf`.
    pub fn missing(&self, wrapped: &WrappedKey) -> Result<Vec<&KeyUri>, Error> {
        let wraps = self.parse(wrapped)?;
        Ok(self.members.iter().map(|m| m.uri()).filter(|uri| wraps.of(uri).is_none()).collect())
    }

    /// Adds the wraps that are missing, and removes those of keys that are no members any more. The wraps of members stay as
    /// they are, so those that are there need not be asked, apart from the one that unwraps.
    ///
    /// Store the result in place of `wrapped` with a compare-and-set, as a rotation would; nothing is lost if that does not
    /// happen.
    ///
    /// # Errors
    ///
    /// As [`Kms::unwrap_key`], and what the members that are missing answer: all of them have to wrap.
    pub async fn repair(&self, wrapped: &WrappedKey, context: &Context) -> Result<WrappedKey, Error> {
        let wraps = self.parse(wrapped)?;
        let (one_time, key) = self.open(&wraps, context).await?;
        let bound = wraps::member_context(&self.uri, context)?;
        let mut repaired = Vec::with_capacity(self.members.len());
        for member in &self.members {
            repaired.push(match wraps.of(member.uri()) {
                Some(wrap) => wrap.clone(),
                None => self.wrap_one(&**member, &one_time, &bound).await?,
            });
        }
        wraps::seal(&self.uri, repaired, &one_time, &key, context)
    }

    fn parse<'a>(&self, wrapped: &'a WrappedKey) -> Result<Wraps<'a>, Error> {
        if wrapped.uri() == &self.uri { Wraps::parse(wrapped) } else { Err(Error::cannot_unwrap()) }
    }

    /// Asks one member after the other for the one-time key, and opens the data key with it.
    async fn open(&self, wraps: &Wraps<'_>, context: &Context) -> Result<(DataKey, DataKey), Error> {
        let bound = wraps::member_context(&self.uri, context)?;
        let mut away = Away::default();
        for member in &self.members {
            let Some(wrap) = wraps.of(member.uri()) else { continue };
            match self.within_patience(member.unwrap_key(wrap, &bound)).await {
                Ok(one_time) => {
                    let key = wraps.open(&one_time, context)?;
                    return Ok((one_time, key));
                }
                Err(error) if error.is_transient() => away.pass_over(&self.uri, member.uri(), error),
                Err(error) => return Err(error.of_member(member.uri())),
            }
        }
        // None of them is a member: it is a key of somebody else's.
        Err(away.error(&self.uri).unwrap_or_else(Error::cannot_unwrap))
    }

    /// Wraps a key under all members that answer: enough of them, and each of `needed`.
    async fn wrap(
        &self,
        key: &DataKey,
        context: &Context,
        needed: Option<&Wraps<'_>>,
    ) -> Result<WrappedKey, Error> {
        let (one_time, bound) = (DataKey::generate()?, wraps::member_context(&self.uri, context)?);
        let (mut made, mut away) = (Vec::with_capacity(self.members.len()), Away::default());
        for member in &self.members {
            match self.wrap_one(&**member, &one_time, &bound).await {
                Ok(wrap) => made.push(wrap),
                Err(error) if error.is_transient() => {
                    let needed = needed.is_some_and(|wraps| wraps.of(member.uri()).is_some());
                    if needed || away.count + self.required >= self.members.len() {
                        return Err(error);
                    }
                    away.pass_over(&self.uri, member.uri(), error);
                }
                Err(error) => return Err(error),
            }
        }
        wraps::seal(&self.uri, made, &one_time, key, context)
    }

    async fn wrap_one(
        &self,
        member: &dyn Kms,
        one_time: &DataKey,
        bound: &Context,
    ) -> Result<WrappedKey, Error> {
        let wrapped = self.within_patience(member.wrap_key(one_time, bound)).await;
        let wrapped = wrapped.map_err(|error| error.of_member(member.uri()))?;
        // It would be looked for under the member's name.
        if wrapped.uri() != member.uri() {
            let text = format!("`{}` wrapped under another key, `{}`", member.uri(), wrapped.uri());
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        Ok(wrapped)
    }

    async fn within_patience<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(self.patience, call).await.unwrap_or_else(|_| {
            let text = format!("no answer within {} ms", self.patience.as_millis());
            Err(Error::unavailable(text))
        })
    }
}

#[async_trait]
impl Kms for AnyOf {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    async fn wrap_key(&self, key: &DataKey, context: &Context) -> Result<WrappedKey, Error> {
        self.wrap(key, context, None).await
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, Error> {
        let (_, key) = self.open(&self.parse(wrapped)?, context).await?;
        Ok(key)
    }

    /// Unwraps by one member and wraps under all, as new. A member that has a wrap now and does not answer fails the call:
    /// rewrapping never makes a key depend on fewer services.
    async fn rewrap_key(
        &self,
        wrapped: &WrappedKey,
        from: &Context,
        to: &Context,
    ) -> Result<WrappedKey, Error> {
        let wraps = self.parse(wrapped)?;
        let (_, key) = self.open(&wraps, from).await?;
        self.wrap(&key, to, Some(&wraps)).await
    }

    /// Asks every member: the version names those of all, and the key is enabled where it is in each.
    ///
    /// When a member does not answer this fails, instead of naming a version that would make a job wrap without it.
    async fn status(&self) -> Result<KeyStatus, Error> {
        let mut found = Vec::with_capacity(self.members.len());
        for member in &self.members {
            let status = self.within_patience(member.status()).await;
            found.push((member.uri(), status.map_err(|error| error.of_member(member.uri()))?));
        }
        let version = wraps::version(found.iter().map(|(uri, status)| (*uri, status.version())));
        let enabled = found.iter().all(|(_, status)| status.is_enabled());
        Ok(if enabled { KeyStatus::enabled(version) } else { KeyStatus::disabled(version) })
    }

    /// What all members can, apart from rewrapping, which happens here; and a public key where one of them is enough.
    fn capabilities(&self) -> Capabilities {
        let all = |can: fn(&Capabilities) -> bool| self.members.iter().all(|m| can(&m.capabilities()));
        let mut capabilities = Capabilities::default();
        if all(Capabilities::native_context) {
            capabilities = capabilities.with_native_context();
        }
        if all(Capabilities::in_hardware) {
            capabilities = capabilities.with_hardware();
        }
        if self.members.iter().any(|m| m.capabilities().wraps_with_public_key()) {
            capabilities = capabilities.with_public_key();
        }
        capabilities
    }
}

/// The members that did not answer one call.
#[derive(Default)]
struct Away {
    count: usize,
    throttled: usize,
    retry_after: Option<Duration>,
    last: Option<Error>,
}

impl Away {
    fn pass_over(&mut self, whole: &KeyUri, member: &KeyUri, error: Error) {
        tracing::warn!(key = %whole, %member, kind = ?error.kind(), %error, "a member does not answer and is passed over");
        self.count += 1;
        self.throttled += usize::from(error.kind() == ErrorKind::Throttled);
        // The first of them that is back is enough.
        self.retry_after = match (self.retry_after, error.retry_after()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.last = Some(error);
    }

    fn error(self, whole: &KeyUri) -> Option<Error> {
        let Self { count, throttled, retry_after, last } = self;
        let kind = if throttled == count { ErrorKind::Throttled } else { ErrorKind::Unavailable };
        let text = format!("none of the {count} members of `{whole}` that wrapped this key answers");
        let error = Error::new(kind, text).with_source(last?);
        Some(match retry_after {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        })
    }
}
