//! From values to tokens, under every version of the key that is in use: SPEC.md, section 9.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    Normalizer, Token,
    plan::{BlindIndex, Kind},
};
use crate::{Encryptor, Error, ErrorKind, Scope, clock::Clock};

/// Makes the tokens of one index over one scope, without waiting for anything.
///
/// It comes from [`BlindIndex::indexer`] and serves as long as a key may stay in the cache of the encryptor; after that it
/// fails with [`ErrorKind::NoKey`], so that a rotation is noticed everywhere in bounded time.
///
/// A value is a list of texts: one for each part of the index, so a single one unless it is compound.
#[derive(Clone)]
pub struct Indexer {
    index: BlindIndex,
    /// Newest first; the first one is active.
    keys: Vec<Versioned>,
    clock: Arc<dyn Clock>,
    since: Duration,
    max_age: Duration,
}

/// The tokens of a unique value, for two columns: one for odd versions of the key and one for even ones.
///
/// Outside of a rotation one of them is `None`. During one, both are written, so that each of the two columns' UNIQUE
/// constraints holds for every row that has a token in it: no moment of the rotation lets a duplicate in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "two columns, taken apart by callers")]
pub struct TokenPair {
    /// The token under an odd version of the key.
    pub odd: Option<Token>,
    /// The token under an even version of the key.
    pub even: Option<Token>,
}

#[derive(Clone)]
struct Versioned {
    version: u32,
    /// SECURITY: wiped on drop.
    key: Arc<Zeroizing<[u8; 32]>>,
}

impl BlindIndex {
    /// Fetches the keys of this index over a scope: the active one, and those being retired.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoKey`] when the scope of the keys has no active key: [`BlindIndex::ensure_key`] makes one; otherwise
    /// as [`Encryptor::open`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use zk_crypto::{Encryptor, EncryptorConfig, IndexSpec, MemoryKeyStore, Normalizer, Scope};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let kms = Arc::new(zk_kms::LocalKms::ephemeral("demo")?);
    /// # let encryptor = Encryptor::new(kms, Arc::new(MemoryKeyStore::new()), EncryptorConfig::default())?;
    /// let email = IndexSpec::unique("public.customers", "email").normalize(Normalizer::Email).plan()?;
    /// let scope = Scope::tenant("7f9c")?;
    /// email.ensure_key(&encryptor, &scope).await?;
    /// let indexer = email.indexer(&encryptor, &scope).await?;
    /// let stored = indexer.token(&["Ann@Example.org"])?;
    ///
    /// encryptor.rotate_key(&email.key_scope(&scope)?).await?;
    /// let indexer = email.indexer(&encryptor, &scope).await?;
    /// // WHERE email_token = ANY ($1): one token under each version in use.
    /// assert!(indexer.query(&["ann@example.org"])?.contains(&stored));
    /// # Ok(()) }
    /// ```
    pub async fn indexer(&self, encryptor: &Encryptor, scope: &Scope) -> Result<Indexer, Error> {
        let (clock, max_age) = encryptor.ages();
        let since = clock.elapsed();
        let roots = encryptor.index_roots(&self.key_scope(scope)?).await?;
        let keys = roots
            .into_iter()
            .map(|(version, root)| Ok(Versioned { version, key: Arc::new(self.key(&root)?) }))
            .collect::<Result<_, Error>>()?;
        Ok(Indexer { index: self.clone(), keys, clock, since, max_age })
    }

    /// SPEC.md, section 9: everything that decides which values have equal tokens enters the key.
    fn key(&self, root: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, Error> {
        // INVARIANT: every field is named here. The scope is in the data key; the estimates decide nothing.
        let Self { table, name, kind, parts, bits, slow, shared: _, distinct: _, possible: _ } = self;
        let kind: &[u8] = match kind {
            Kind::Filter => &[0x01],
            Kind::Unique => &[0x02],
            Kind::Prefix { shortest, longest } => &[0x03, *shortest, *longest],
            Kind::Ngram { length } => &[0x04, *length],
        };
        let parts: Vec<u8> = parts.iter().map(|normalizer| *normalizer as u8).collect();
        let slow = slow.map(|slow| slow.to_bytes());
        let mut info = vec![KEY];
        put(&mut info, 0x01, table.as_bytes());
        put(&mut info, 0x02, name.as_bytes());
        put(&mut info, 0x03, kind);
        put(&mut info, 0x04, &bits.to_be_bytes());
        put(&mut info, 0x05, &parts);
        if let Some(slow) = &slow {
            put(&mut info, 0x06, slow);
        }
        hmac(root, &info)
    }
}

// What a keyed hash is of; so that no two uses of one key have equal input.
const KEY: u8 = 0x01;
const VALUE: u8 = 0x02;
const SALT: u8 = 0x03;
const HASHED: u8 = 0x04;

impl Indexer {
    /// Returns the token of a value under the active key, to store beside the sealed value: for a filter, or for a unique
    /// index outside of a rotation.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the value has another number of parts than the index, when a part does not normalize,
    /// and for an index of prefixes or n-grams; [`ErrorKind::NoKey`] when the indexer has become too old.
    pub fn token(&self, value: &[&str]) -> Result<Token, Error> {
        let value = self.whole(value)?;
        match self.keys()? {
            [active, ..] => self.hash(active, &value),
            [] => Err(ended()),
        }
    }

    /// Returns the tokens of a value under every version in use: for `WHERE token = ANY ($1)`.
    ///
    /// # Errors
    ///
    /// As [`Indexer::token`].
    pub fn query(&self, value: &[&str]) -> Result<Vec<Token>, Error> {
        let value = self.whole(value)?;
        self.keys()?.iter().map(|key| self.hash(key, &value)).collect()
    }

    /// Returns the tokens of a unique value for its two columns, to store and to search by:
    /// `WHERE odd = $1 OR even = $2`.
    ///
    /// # Errors
    ///
    /// As [`Indexer::token`]; [`ErrorKind::Conflict`] when more than two versions are in use, or two odd or two even ones:
    /// finish the former rotation first.
    pub fn pair(&self, value: &[&str]) -> Result<TokenPair, Error> {
        let value = self.whole(value)?;
        let mut pair = TokenPair { odd: None, even: None };
        for key in self.keys()? {
            let column = if key.version % 2 == 1 { &mut pair.odd } else { &mut pair.even };
            if column.is_some() {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "two columns hold the tokens of two key versions; finish the former rotation first",
                ));
            }
            *column = Some(self.hash(key, &value)?);
        }
        Ok(pair)
    }

    /// Returns the tokens of the parts of a text under the active key, each once and in order, to store in a `bytea[]`
    /// (under a GIN index) or as rows of a table of their own.
    ///
    /// # Errors
    ///
    /// As [`Indexer::token`], for an index of whole values; [`ErrorKind::Invalid`] for a text of more than 65 536
    /// bytes.
    pub fn tokens(&self, text: &str) -> Result<Vec<Token>, Error> {
        let text = self.one_text(text)?;
        match self.keys()? {
            [active, ..] => self.pieces_hashed(active, pieces(self.index.kind, &text)),
            [] => Err(ended()),
        }
    }

    /// Returns the tokens that a row must have all of to match a part of a text, under each version in use:
    /// `WHERE tokens @> $1 OR tokens @> $2`.
    ///
    /// Rows that match may still not hold the text: open them and look.
    ///
    /// # Errors
    ///
    /// As [`Indexer::tokens`]; [`ErrorKind::Invalid`] when the text is shorter than the shortest piece.
    pub fn query_tokens(&self, text: &str) -> Result<Vec<Vec<Token>>, Error> {
        let text = self.one_text(text)?;
        let mut pieces = pieces(self.index.kind, &text);
        if pieces.is_empty() {
            return Err(Error::invalid("the text to search for is shorter than the pieces of the index"));
        }
        if let Kind::Prefix { .. } = self.index.kind {
            // The longest prefix says all that the shorter ones do.
            pieces = pieces.into_iter().max_by_key(|piece| piece.len()).into_iter().collect();
        }
        self.keys()?.iter().map(|key| self.pieces_hashed(key, pieces.clone())).collect()
    }

    /// Returns the version of the key that makes tokens now.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.keys.first().map_or(0, |key| key.version)
    }

    /// The keys, as long as they may be used.
    fn keys(&self) -> Result<&[Versioned], Error> {
        if self.clock.elapsed().saturating_sub(self.since) >= self.max_age {
            return Err(ended());
        }
        Ok(&self.keys)
    }

    /// The bytes of a whole value: its normalized parts, each with its length.
    fn whole(&self, value: &[&str]) -> Result<Zeroizing<Vec<u8>>, Error> {
        if !matches!(self.index.kind, Kind::Filter | Kind::Unique) {
            return Err(Error::invalid("this index is of pieces: use tokens and query_tokens"));
        }
        let parts = &self.index.parts;
        if value.len() != parts.len() {
            return Err(Error::invalid(format!("a value of this index has {} parts", parts.len())));
        }
        let normalized: Vec<Zeroizing<String>> = parts
            .iter()
            .zip(value)
            .map(|(normalizer, part)| normalizer.apply(part))
            .collect::<Result<_, _>>()?;
        // Exactly as long as needed: a vector that grows leaves copies behind.
        let len = 1 + normalized.iter().map(|part| 9 + part.len()).sum::<usize>();
        let mut out = Zeroizing::new(Vec::with_capacity(len));
        out.push(VALUE);
        normalized.iter().for_each(|part| put(&mut out, 0x01, part.as_bytes()));
        Ok(out)
    }

    fn one_text(&self, text: &str) -> Result<Zeroizing<String>, Error> {
        if matches!(self.index.kind, Kind::Filter | Kind::Unique) {
            return Err(Error::invalid("this index is of whole values: use token and query"));
        }
        if text.len() > MAX_TEXT {
            return Err(Error::invalid("a text with tokens of its pieces is at most 65536 bytes"));
        }
        self.index.parts.first().unwrap_or(&Normalizer::Text).apply(text)
    }

    fn pieces_hashed(&self, key: &Versioned, pieces: BTreeSet<&str>) -> Result<Vec<Token>, Error> {
        let tokens: BTreeSet<Token> = pieces
            .into_iter()
            .map(|piece| {
                let mut value = Zeroizing::new(Vec::with_capacity(10 + piece.len()));
                value.push(VALUE);
                put(&mut value, 0x01, piece.as_bytes());
                self.hash(key, &value)
            })
            .collect::<Result<_, _>>()?;
        // In the order of the tokens, which says nothing about the order in the text.
        Ok(tokens.into_iter().collect())
    }

    fn hash(&self, key: &Versioned, value: &[u8]) -> Result<Token, Error> {
        let hash = match self.index.slow {
            None => hmac(&**key.key, value)?,
            Some(slow) => {
                let salt = hmac(&**key.key, &[SALT])?;
                let salt = salt.first_chunk().ok_or_else(ended)?;
                let slow = slow.hash(salt, value)?;
                let mut hashed = Zeroizing::new(Vec::with_capacity(33));
                hashed.push(HASHED);
                hashed.extend_from_slice(&*slow);
                hmac(&**key.key, &hashed)?
            }
        };
        Ok(Token::cut(key.version, &hash, self.index.bits))
    }
}

const MAX_TEXT: usize = 65_536;

/// The pieces of a normalized text that have tokens.
fn pieces(kind: Kind, text: &str) -> BTreeSet<&str> {
    // Where characters begin, and the end.
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let windows = |length: u8| {
        let ends = starts.iter().skip(usize::from(length));
        starts.iter().zip(ends).filter_map(|(start, end)| text.get(*start..*end))
    };
    match kind {
        Kind::Filter | Kind::Unique => BTreeSet::new(),
        Kind::Prefix { shortest, longest } => {
            (shortest..=longest).filter_map(|length| windows(length).next()).collect()
        }
        Kind::Ngram { length } => windows(length).collect(),
    }
}

pub(super) fn hmac(key: &[u8], input: &[u8]) -> Result<Zeroizing<[u8; 32]>, Error> {
    let mac = Hmac::<Sha256>::new_from_slice(key);
    let mut mac = mac.map_err(|_| Error::new(ErrorKind::Corrupt, "HMAC takes keys of any length"))?;
    mac.update(input);
    Ok(Zeroizing::new(mac.finalize().into_bytes().into()))
}

fn put(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(value.len() as u64).to_be_bytes());
    out.extend_from_slice(value);
}

fn ended() -> Error {
    Error::new(ErrorKind::NoKey, "this indexer has reached its end; ask BlindIndex::indexer for another")
}

impl fmt::Debug for Indexer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<u32> = self.keys.iter().map(|key| key.version).collect();
        f.debug_struct("Indexer")
            .field("index", &self.index)
            .field("versions", &versions)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod testing {
    use zk_kms::DataKey;

    use super::*;
    use crate::{clock::SystemClock, opened::OpenedKey};

    /// An indexer over keys that are at hand, newest first.
    pub(in super::super) fn indexer(index: &BlindIndex, keys: &[(u32, DataKey)]) -> Indexer {
        let versioned = |(version, key): &(u32, DataKey)| {
            let opened = OpenedKey::new(Scope::new("s").unwrap(), key).unwrap();
            Versioned { version: *version, key: Arc::new(index.key(&opened.index_root).unwrap()) }
        };
        let keys = keys.iter().map(versioned).collect();
        let clock = Arc::new(SystemClock::new());
        Indexer { index: index.clone(), keys, clock, since: Duration::ZERO, max_age: Duration::MAX }
    }

    impl Indexer {
        pub(in super::super) fn expire(&mut self) {
            self.max_age = Duration::ZERO;
        }
    }
}
