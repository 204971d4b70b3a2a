//! What a stolen copy of a table reveals through an index.

use std::fmt;

use super::plan::{BlindIndex, Kind};

/// What somebody learns who has a copy of the table and not the keys: of [`BlindIndex::leakage_report`].
///
/// ```
/// use zk_crypto::IndexSpec;
///
/// let leakage = IndexSpec::filter("public.customers", "city", 3_000).plan()?.leakage_report();
/// assert_eq!(leakage.to_string(), "\
/// index city of public.customers, 10 bits
/// - rows with one token hold any of about 2.9 of the 3000 values: equal rows are blurred, not hidden
/// - how often each token stands is visible; a value that is far more common than all others may be recognized
/// - who has the keys of the index too can try guesses, each as fast as one HMAC
/// - tokens of two scopes have nothing in common
/// ");
/// # Ok::<(), zk_crypto::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Leakage {
    /// The index and its table.
    pub index: String,
    /// The bits of a token.
    pub bits: u16,
    /// How many distinct values share a token, on average; `None` where the number of distinct values is not known.
    pub values_per_token: Option<f64>,
    /// Whether equal values can be seen to be equal.
    pub equality: bool,
    /// Whether tokens are of parts of a value.
    pub substrings: bool,
    /// Whether equal values of two scopes have equal tokens.
    pub across_scopes: bool,
    /// How many guesses try all values, for somebody who has the keys of the index too.
    pub guesses: Option<u64>,
    /// Whether each guess costs a slow hash.
    pub slow: bool,
}

impl Leakage {
    pub(super) fn of(index: &BlindIndex) -> Self {
        let substrings = matches!(index.kind, Kind::Prefix { .. } | Kind::Ngram { .. });
        let values_per_token = match index.kind {
            Kind::Unique => Some(1.0),
            Kind::Filter => {
                index.distinct.map(|distinct| (distinct as f64 / f64::from(index.bits).exp2()).max(1.0))
            }
            Kind::Prefix { .. } | Kind::Ngram { .. } => None,
        };
        Self {
            index: index.to_string(),
            bits: index.bits,
            values_per_token,
            // With two values to a token, half of the pairs of rows that look equal are not.
            equality: values_per_token.is_none_or(|values| values < 2.0),
            substrings,
            across_scopes: index.shared.is_some(),
            guesses: index.possible,
            slow: index.slow.is_some(),
        }
    }
}

impl fmt::Display for Leakage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // INVARIANT: every field is named here; one that is forgotten would not be reported.
        let Self { index, bits, values_per_token, equality, substrings, across_scopes, guesses, slow } = self;
        writeln!(f, "index {index}, {bits} bits")?;
        match values_per_token {
            _ if *substrings => {
                writeln!(
                    f,
                    "- rows that share a part of their text are visible, and how long each text is, about"
                )?;
            }
            Some(values) if !equality => {
                let distinct = (values * f64::from(*bits).exp2()).round();
                writeln!(
                    f,
                    "- rows with one token hold any of about {values:.1} of the {distinct} values: equal rows are \
                     blurred, not hidden"
                )?;
            }
            _ => writeln!(f, "- rows with equal values are visible")?,
        }
        writeln!(
            f,
            "- how often each token stands is visible; a value that is far more common than all others may be recognized"
        )?;
        let cost = if *slow { "each as slow as one Argon2id" } else { "each as fast as one HMAC" };
        match guesses {
            Some(guesses) => {
                writeln!(
                    f,
                    "- who has the keys of the index too needs {guesses} guesses to try all values, {cost}"
                )?;
            }
            None => writeln!(f, "- who has the keys of the index too can try guesses, {cost}")?,
        }
        if *across_scopes {
            writeln!(f, "- equal values of two scopes are visible, and outlive the keys of either")
        } else {
            writeln!(f, "- tokens of two scopes have nothing in common")
        }
    }
}
