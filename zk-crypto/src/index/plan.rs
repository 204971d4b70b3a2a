//! From what a column holds to an index that is safe enough, or a refusal that names what is not.

use std::{fmt, ops::RangeInclusive};

use super::{Leakage, Normalizer, SlowHash};
use crate::{Encryptor, Error, KeyId, Scope};

/// What an index is for and what its column holds: the question that [`IndexSpec::plan`] answers.
///
/// # Examples
///
/// ```
/// use zk_crypto::{Hazard, IndexSpec, Normalizer, SlowHash};
///
/// // A filter: several cities share a token, and the application drops the false matches after opening.
/// let city = IndexSpec::filter("public.customers", "city", 3_000).normalize(Normalizer::CaseFold).plan()?;
/// assert_eq!(city.bits(), 10);
///
/// // UNIQUE: the full length. Only a billion numbers are possible, so guessing is made slow, or accepted by name.
/// let ssn = || IndexSpec::unique("public.customers", "ssn").normalize(Normalizer::Digits).possible(1_000_000_000);
/// assert!(ssn().plan().is_err());
/// assert_eq!(ssn().slow(SlowHash::default()).plan()?.bits(), 256);
/// assert_eq!(ssn().accept(Hazard::Guessable).plan()?.bits(), 256);
/// # Ok::<(), zk_crypto::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a specification does nothing until it is planned"]
pub struct IndexSpec {
    table: String,
    name: String,
    kind: Kind,
    distinct: Option<u64>,
    possible: Option<u64>,
    parts: Vec<Normalizer>,
    bits: Option<u16>,
    slow: Option<SlowHash>,
    shared: Option<Scope>,
    accepted: Vec<Hazard>,
}

/// An index whose leakage was looked at: it comes from [`IndexSpec::plan`] only.
///
/// Its keys are data keys of a scope of their own, [`BlindIndex::key_scope`], so that they rotate and are destroyed apart
/// from the keys that seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindIndex {
    pub(super) table: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) parts: Vec<Normalizer>,
    pub(super) bits: u16,
    pub(super) slow: Option<SlowHash>,
    pub(super) shared: Option<Scope>,
    pub(super) distinct: Option<u64>,
    pub(super) possible: Option<u64>,
}

/// What a value has tokens of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Filter,
    Unique,
    Prefix { shortest: u8, longest: u8 },
    Ngram { length: u8 },
}

/// A choice that reveals more than an index has to. It is refused unless it is accepted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hazard {
    /// There are so few distinct values that the counts of their tokens tell which is which.
    FewValues,
    /// There are so many bits that distinct values have distinct tokens: a filter shows which rows are equal.
    EqualityVisible,
    /// So few values are possible that whoever has the key of the index can try them all.
    Guessable,
    /// Tokens of parts of a value: their counts and combinations tell far more than those of whole values.
    Substrings,
}

/// Below this many possible values, trying all of them takes seconds without a slow hash.
const GUESSABLE: u64 = 1 << 40;
/// Below this many distinct values, a token stands for too few of them to blur their counts.
const FEW: u64 = 8;
const FULL: u16 = 256;

impl IndexSpec {
    /// An index for `=` on a column with so many distinct values. Its tokens collide on purpose.
    pub fn filter(table: impl Into<String>, name: impl Into<String>, distinct: u64) -> Self {
        Self { distinct: Some(distinct), ..Self::new(table.into(), name.into(), Kind::Filter) }
    }

    /// An index for `=` and UNIQUE. Its tokens do not collide; see [`TokenPair`](crate::TokenPair) for how to store them.
    pub fn unique(table: impl Into<String>, name: impl Into<String>) -> Self {
        Self::new(table.into(), name.into(), Kind::Unique)
    }

    /// An index for the first letters of a text, by prefixes of these lengths in characters.
    pub fn prefix(table: impl Into<String>, name: impl Into<String>, lengths: RangeInclusive<u8>) -> Self {
        let kind = Kind::Prefix { shortest: *lengths.start(), longest: *lengths.end() };
        Self::new(table.into(), name.into(), kind)
    }

    /// An index for parts of a text, by all its pieces of this length in characters.
    pub fn ngrams(table: impl Into<String>, name: impl Into<String>, length: u8) -> Self {
        Self::new(table.into(), name.into(), Kind::Ngram { length })
    }

    fn new(table: String, name: String, kind: Kind) -> Self {
        Self {
            table,
            name,
            kind,
            distinct: None,
            possible: None,
            parts: vec![Normalizer::Text],
            bits: None,
            slow: None,
            shared: None,
            accepted: Vec::new(),
        }
    }

    /// Chooses which spellings are the same; [`Normalizer::Text`] by default.
    pub fn normalize(self, normalizer: Normalizer) -> Self {
        Self { parts: vec![normalizer], ..self }
    }

    /// Makes a compound index: one token of several values, each with its own normalizer.
    pub fn parts(self, parts: impl IntoIterator<Item = Normalizer>) -> Self {
        Self { parts: parts.into_iter().collect(), ..self }
    }

    /// Says how many different values are possible at all, where that is few: 10^9 social security numbers.
    pub fn possible(self, values: u64) -> Self {
        Self { possible: Some(values), ..self }
    }

    /// Chooses the bits of a token instead of the planner.
    pub fn bits(self, bits: u16) -> Self {
        Self { bits: Some(bits), ..self }
    }

    /// Hashes each value slowly first.
    pub fn slow(self, slow: SlowHash) -> Self {
        Self { slow: Some(slow), ..self }
    }

    /// Uses the keys of one scope for every scope, so that one search or one UNIQUE spans them: equal values of two
    /// tenants then have equal tokens, and destroying one tenant's keys does not destroy its tokens.
    pub fn shared(self, keys: Scope) -> Self {
        Self { shared: Some(keys), ..self }
    }

    /// Accepts a hazard that planning would refuse.
    pub fn accept(mut self, hazard: Hazard) -> Self {
        self.accepted.push(hazard);
        self
    }

    /// Chooses the bits and looks at what the index reveals.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a hazard that is not accepted, naming it, and for what cannot
    /// work: no parts, pieces of several parts, lengths of 0, bits outside of 1 to 256, fewer than 128 bits for UNIQUE.
    pub fn plan(self) -> Result<BlindIndex, Error> {
        self.check_shape()?;
        let planned = self.planned_bits();
        let bits = self.bits.unwrap_or(planned);
        let lowest = if self.kind == Kind::Unique { 128 } else { 1 };
        if !(lowest..=FULL).contains(&bits) {
            return Err(Error::invalid(format!("this index has {lowest} to {FULL} bits, not {bits}")));
        }
        for (hazard, why) in self.hazards(bits, planned) {
            if !self.accepted.contains(&hazard) {
                return Err(Error::invalid(format!(
                    "the index `{}` of {}: {why}; accept Hazard::{hazard:?} to have it all the same",
                    self.name, self.table
                )));
            }
        }
        // INVARIANT: every field is named here; one that is forgotten would not be what was looked at.
        let Self { table, name, kind, distinct, possible, parts, bits: _, slow, shared, accepted: _ } = self;
        Ok(BlindIndex { table, name, kind, parts, bits, slow, shared, distinct, possible })
    }

    fn check_shape(&self) -> Result<(), Error> {
        if self.parts.is_empty() || self.parts.len() > 16 {
            return Err(Error::invalid("an index has 1 to 16 parts"));
        }
        let lengths = match self.kind {
            Kind::Filter | Kind::Unique => return Ok(()),
            Kind::Prefix { shortest, longest } => shortest > 0 && shortest <= longest,
            Kind::Ngram { length } => length > 0,
        };
        if !lengths || self.parts.len() != 1 {
            return Err(Error::invalid("pieces of one text have 1 to 255 characters, the shortest first"));
        }
        Ok(())
    }

    /// As many as leave two distinct values to each token.
    fn planned_bits(&self) -> u16 {
        let of =
            |distinct: u64| u16::try_from((distinct / 2).checked_ilog2().unwrap_or(0)).unwrap_or(0).max(1);
        match self.kind {
            Kind::Unique => FULL,
            Kind::Filter => of(self.distinct.unwrap_or(0)),
            // 64 k pieces: a search for several of them finds little else.
            Kind::Prefix { .. } | Kind::Ngram { .. } => 16,
        }
    }

    fn hazards(&self, bits: u16, planned: u16) -> Vec<(Hazard, String)> {
        let mut hazards = Vec::new();
        match self.kind {
            Kind::Filter => {
                let distinct = self.distinct.unwrap_or(0);
                if distinct < FEW {
                    let why = format!(
                        "{distinct} distinct values can be told apart by how often their tokens stand"
                    );
                    hazards.push((Hazard::FewValues, why));
                } else if bits > planned {
                    let why = format!("{bits} bits show which rows are equal; {planned} would blur it");
                    hazards.push((Hazard::EqualityVisible, why));
                }
            }
            Kind::Unique => (),
            Kind::Prefix { .. } | Kind::Ngram { .. } => {
                let why = "tokens of parts of a value tell much of it to somebody who can count";
                hazards.push((Hazard::Substrings, why.to_owned()));
            }
        }
        if self.slow.is_none()
            && let Some(possible) = self.possible
            && possible < GUESSABLE
        {
            let why =
                format!("who has the key of the index can try all {possible} possible values; hash slowly");
            hazards.push((Hazard::Guessable, why));
        }
        hazards
    }
}

impl BlindIndex {
    /// Returns the bits of a token.
    #[must_use]
    pub fn bits(&self) -> u16 {
        self.bits
    }

    /// Returns the scope whose data keys are the keys of this index, for values of `scope`: `index:` and the scope, or
    /// the one scope that [`IndexSpec::shared`] named. All indexes over a scope share it.
    ///
    /// Rotate it with [`Encryptor::rotate_key`]; destroy it with the scope it belongs to.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the scope is longer than 194 characters.
    pub fn key_scope(&self, scope: &Scope) -> Result<Scope, Error> {
        Scope::new(&format!("index:{}", self.shared.as_ref().unwrap_or(scope)))
    }

    /// Makes the first key of this index over a scope, unless there is one.
    ///
    /// # Errors
    ///
    /// As [`Encryptor::ensure_key`].
    pub async fn ensure_key(&self, encryptor: &Encryptor, scope: &Scope) -> Result<KeyId, Error> {
        encryptor.ensure_key(&self.key_scope(scope)?).await
    }

    /// Says what a stolen copy of the table reveals through this index.
    #[must_use]
    pub fn leakage_report(&self) -> Leakage {
        Leakage::of(self)
    }
}

impl fmt::Display for BlindIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.table)
    }
}
