//! What counts as the same value: SPEC.md, section 9.

use unicase::UniCase;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::Error;

/// Which spellings of a value are the same to an index.
///
/// The choice enters the key of the index: after changing it, compute the tokens again.
///
/// ```
/// use zk_crypto::Normalizer;
///
/// assert_eq!(Normalizer::Text.apply("Zoe\u{308}")?.as_str(), "Zoë");
/// assert_eq!(Normalizer::CaseFold.apply("STRASSE")?, Normalizer::CaseFold.apply("Straße")?);
/// assert_eq!(Normalizer::Digits.apply("+1 (555) 010-99")?.as_str(), "155501099");
/// assert_eq!(Normalizer::Email.apply(" Ann@Example.ORG ")?.as_str(), "ann@example.org");
/// assert!(Normalizer::Digits.apply("n/a").is_err(), "all such values would be the same");
/// # Ok::<(), zk_crypto::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Normalizer {
    /// The text as it is: `é` in one and in two code points are two values.
    Exact = 0x01,
    /// Unicode normalization form C.
    Text = 0x02,
    /// Full case folding, canonically: `STRASSE` and `Straße` are one value. No language's own rules.
    CaseFold = 0x03,
    /// ASCII digits; everything else is dropped: phone, card and social security numbers.
    Digits = 0x04,
    /// White space around is dropped, and the rest is case-folded on both sides of the `@`.
    Email = 0x05,
}

impl Normalizer {
    /// Returns the one spelling of all that are the same.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for digits without a digit or with other scripts' digits, and for
    /// an e-mail address without `@` or with nothing on one side of it.
    pub fn apply(self, text: &str) -> Result<Zeroizing<String>, Error> {
        match self {
            Self::Exact => Ok(Zeroizing::new(text.to_owned())),
            Self::Text => Ok(collect(text.nfc(), MAX_GROWTH * text.len())),
            Self::CaseFold => Ok(fold(text)),
            Self::Digits => digits(text),
            Self::Email => {
                let text = fold(text.trim());
                match text.rsplit_once('@') {
                    Some((user, domain)) if !user.is_empty() && !domain.is_empty() => Ok(text),
                    _ => Err(Error::invalid("an e-mail address has something on both sides of an `@`")),
                }
            }
        }
    }
}

/// How many times longer a text becomes at most, in UTF-8: by NFC and NFD (UAX #15, "Maximum Expansion Factors"), and by full
/// case folding.
const MAX_GROWTH: usize = 3;

/// Canonical caseless matching (the Unicode Standard, D145), composed again.
fn fold(text: &str) -> Zeroizing<String> {
    if text.is_ascii() {
        return Zeroizing::new(text.to_ascii_lowercase());
    }
    let decomposed = collect(text.nfd(), MAX_GROWTH * text.len());
    let mut folded = Zeroizing::new(String::with_capacity(MAX_GROWTH * decomposed.len()));
    for c in decomposed.chars() {
        folded.push_str(&Zeroizing::new(UniCase::unicode(c.encode_utf8(&mut [0; 4])).to_folded_case()));
    }
    collect(folded.nfc(), MAX_GROWTH * folded.len())
}

/// SECURITY: a text that grows leaves copies behind, which nobody wipes.
fn collect(chars: impl Iterator<Item = char>, room: usize) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(room));
    chars.for_each(|c| text.push(c));
    debug_assert!(text.len() <= room, "{} bytes in room for {room}", text.len());
    text
}

fn digits(text: &str) -> Result<Zeroizing<String>, Error> {
    // Dropping another script's digits would make different numbers the same.
    if text.chars().any(|c| c.is_numeric() && !c.is_ascii_digit()) {
        return Err(Error::invalid("only the digits 0 to 9 can be indexed as digits"));
    }
    let digits = collect(text.chars().filter(char::is_ascii_digit), text.len());
    if digits.is_empty() {
        return Err(Error::invalid("a value to be indexed as digits has at least one"));
    }
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Normalizer; 5] =
        [Normalizer::Exact, Normalizer::Text, Normalizer::CaseFold, Normalizer::Digits, Normalizer::Email];

    fn check(normalizer: Normalizer, input: &str, expected: Option<&str>) {
        assert_eq!(normalizer.apply(input).ok().as_deref().map(String::as_str), expected, "{input}");
    }

    #[test]
    fn each_kind() {
        check(Normalizer::Exact, " e\u{301} ", Some(" e\u{301} "));
        check(Normalizer::Text, "e\u{301}", Some("é"));
        check(Normalizer::Text, "É", Some("É"));
        check(Normalizer::CaseFold, "E\u{301}ΣΑΣ", Some("éσασ"));
        check(Normalizer::CaseFold, "ǅ", Some("ǆ"));
        check(Normalizer::CaseFold, "I", Some("i"));
        check(Normalizer::Digits, "078-05-1120", Some("078051120"));
        check(Normalizer::Digits, "٠٧٨", None);
        check(Normalizer::Digits, "1½", None);
        check(Normalizer::Digits, "-", None);
        check(Normalizer::Email, "\tAnn@Example.org\n", Some("ann@example.org"));
        check(Normalizer::Email, "\"a@b\"@c", Some("\"a@b\"@c"));
        for bad in ["", "@", "a@", "@b", "a"] {
            check(Normalizer::Email, bad, None);
        }
    }

    proptest! {
        #[test]
        fn a_normalized_value_is_its_own_spelling(text: String) {
            for normalizer in ALL {
                if let Ok(once) = normalizer.apply(&text) {
                    prop_assert_eq!(normalizer.apply(&once).unwrap(), once);
                }
            }
        }

        #[test]
        fn composition_does_not_matter(text: String) {
            for normalizer in [Normalizer::Text, Normalizer::CaseFold] {
                let composed: String = text.nfc().collect();
                let decomposed: String = text.nfd().collect();
                prop_assert_eq!(normalizer.apply(&composed).unwrap(), normalizer.apply(&decomposed).unwrap());
            }
        }
    }
}
