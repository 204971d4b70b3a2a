//! Several wraps of one key in one wrapped key.
//!
//! ```text
//! 0x01 ‖ n ‖ n × (length, 2 bytes ‖ wrapped one-time key, as WrappedKey::to_bytes) ‖ nonce 24 ‖ sealed data key 32 ‖ tag 16
//! ```
//!
//! A one-time key is wrapped by each member, and the data key is sealed under it with XChaCha20-Poly1305. URI, version, all
//! wraps and the context are the associated data of that: whichever member unwraps the one-time key, a wrap that was
//! changed, exchanged, added or taken away is noticed, and not on the day when it is the last one left.
//!
//! Wraps stand in the order of their URIs, each of which stands once. A member binds its wrap to the URI of the whole and to
//! the hash of the context, so that no wrap can be taken out and used as a wrapped key of its own.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::MAX_MEMBERS;
use crate::{
    Context, DataKey, Error, KeyUri, KeyVersion, Service, WrappedKey,
    key::{put, random},
};

const FORMAT: u8 = 0x01;
const SEAL_LABEL: &[u8] = b"zk-kms any-of seal v1";
const VERSION_LABEL: &[u8] = b"zk-kms any-of version v1";
const NONCE: usize = 24;
const SEALED: usize = NONCE + DataKey::LEN + 16;
/// 128 bits of a hash, of which nothing depends but whether a job has work left.
const VERSION: usize = 16;

/// The bytes of a wrapped key taken apart. Nothing of it is authentic until [`Wraps::open`] says so.
pub(super) struct Wraps<'a> {
    whole: &'a WrappedKey,
    /// Ordered by URI.
    pub(super) members: Vec<WrappedKey>,
    /// What the seal covers besides the context.
    list: &'a [u8],
    sealed: &'a [u8; SEALED],
}

impl<'a> Wraps<'a> {
    pub(super) fn parse(whole: &'a WrappedKey) -> Result<Self, Error> {
        Self::read(whole).ok_or_else(Error::cannot_unwrap)
    }

    fn read(whole: &'a WrappedKey) -> Option<Self> {
        let (list, sealed) = whole.bytes().split_last_chunk::<SEALED>()?;
        let [format, count, records @ ..] = list else { return None };
        if *format != FORMAT || !(1..=MAX_MEMBERS).contains(&usize::from(*count)) {
            return None;
        }
        let (mut rest, mut members): (_, Vec<WrappedKey>) = (records, Vec::with_capacity(MAX_MEMBERS));
        for _ in 0..*count {
            let (length, tail) = rest.split_first_chunk::<2>()?;
            let (record, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            let member = WrappedKey::from_bytes(record).ok()?;
            let in_order = members.last().is_none_or(|before| before.uri() < member.uri());
            // One of several in one of several would have no bound.
            if !in_order || member.uri().service() == Service::AnyOf {
                return None;
            }
            members.push(member);
            rest = tail;
        }
        // Before anybody is asked: a version that a member does not have would look like a key that is gone.
        let named = version(members.iter().map(|wrap| (wrap.uri(), wrap.version())));
        (rest.is_empty() && named == *whole.version()).then_some(Self { whole, members, list, sealed })
    }

    pub(super) fn of(&self, member: &KeyUri) -> Option<&WrappedKey> {
        self.members.iter().find(|wrap| wrap.uri() == member)
    }

    /// Opens the data key with the one-time key, and with that says that every wrap is as it was made.
    pub(super) fn open(&self, one_time: &DataKey, context: &Context) -> Result<DataKey, Error> {
        let (nonce, sealed) = self.sealed.split_first_chunk::<NONCE>().ok_or_else(Error::cannot_unwrap)?;
        let aad = associated_data(self.whole.uri(), self.whole.version(), self.list, context);
        let key = cipher(one_time)
            .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad })
            .map_err(|_| Error::cannot_unwrap())?;
        DataKey::from_slice(&Zeroizing::new(key)).map_err(|_| Error::cannot_unwrap())
    }
}

/// Puts wraps of a one-time key together, with the data key sealed under it.
pub(super) fn seal(
    uri: &KeyUri,
    mut members: Vec<WrappedKey>,
    one_time: &DataKey,
    key: &DataKey,
    context: &Context,
) -> Result<WrappedKey, Error> {
    let too_long = || Error::invalid("the wraps of the members are too long to be kept together");
    members.sort_by(|a, b| a.uri().cmp(b.uri()));
    let version = version(members.iter().map(|wrap| (wrap.uri(), wrap.version())));
    let mut list = vec![FORMAT, u8::try_from(members.len()).map_err(|_| too_long())?];
    for member in &members {
        let record = member.to_bytes();
        list.extend_from_slice(&u16::try_from(record.len()).map_err(|_| too_long())?.to_be_bytes());
        list.extend_from_slice(&record);
    }
    // Random, because a repair seals under the same one-time key again, with another list.
    let mut nonce = [0; NONCE];
    random(&mut nonce)?;
    let aad = associated_data(uri, &version, &list, context);
    let sealed = cipher(one_time)
        .encrypt(&XNonce::from(nonce), Payload { msg: key.expose(), aad: &aad })
        .map_err(|_| too_long())?;
    WrappedKey::new(uri.clone(), version, [&list, nonce.as_slice(), &sealed].concat())
}

/// Names which members wrapped, under which of their versions. The order does not matter to callers: it is that of the URIs.
pub(super) fn version<'a>(members: impl Iterator<Item = (&'a KeyUri, &'a KeyVersion)>) -> KeyVersion {
    let mut members: Vec<_> = members.collect();
    members.sort();
    let mut bytes = Vec::new();
    put(&mut bytes, VERSION_LABEL);
    for (uri, version) in members {
        put(&mut bytes, uri.as_str().as_bytes());
        put(&mut bytes, version.as_str().as_bytes());
    }
    let hash = Sha256::digest(&bytes);
    KeyVersion::hexadecimal(hash.get(..VERSION).unwrap_or(&hash))
}

/// What a member binds its wrap to. Two pairs, whatever the context holds, so that every context fits every member.
pub(super) fn member_context(uri: &KeyUri, context: &Context) -> Result<Context, Error> {
    let hash = HEXLOWER.encode(&Sha256::digest(context.encode()));
    Context::new().with("any-of", uri.as_str())?.with("context", hash)
}

fn associated_data(uri: &KeyUri, version: &KeyVersion, list: &[u8], context: &Context) -> Vec<u8> {
    let mut aad = Vec::new();
    for part in [SEAL_LABEL, uri.as_str().as_bytes(), version.as_str().as_bytes(), list, &context.encode()] {
        put(&mut aad, part);
    }
    aad
}

fn cipher(one_time: &DataKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(one_time.expose().into())
}
