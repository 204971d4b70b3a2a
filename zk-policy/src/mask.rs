//! Masks: what a role sees in place of a column's values, in process and in SQL.

mod key;

use std::borrow::Cow;

use crate::document::Scalar;
use crate::secret::hex;
use crate::sql::{ident, literal};
use crate::value::{Value, uuid_text};

pub use key::{MaskKey, MaskKeyError};

/// The table with the keys of masks that hash, by policy.
pub(crate) const KEYS: (&str, &str) = ("zk", "mask_keys");

/// What a role sees in place of a column's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask(pub(crate) Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Constant {
        text: String,
        ty: Scalar,
    },
    Partial {
        first: u16,
        fill: String,
        last: u16,
    },
    /// Of a text or a uuid, with the key of `policy`; equal values of the same domain have equal hashes.
    Hash {
        policy: String,
        domain: String,
        /// Whether the policy names the domain, which other columns may then have as well.
        labelled: bool,
        ty: Scalar,
    },
}

impl Mask {
    /// What is seen of `value`, as text; None for NULL.
    ///
    /// A mask that keeps part of a text counts characters, as PostgreSQL's `left` and `right` do. A mask that hashes shows
    /// NULL here, as it does in a database without its key; see [`apply_with`](Self::apply_with).
    #[must_use]
    pub fn apply<'a>(&'a self, value: Value<'a>) -> Option<Cow<'a, str>> {
        match (&self.0, value) {
            (Kind::Null | Kind::Hash { .. }, _) => None,
            (Kind::Constant { text, .. }, _) => Some(Cow::Borrowed(text)),
            (Kind::Partial { first, fill, last }, Value::Text(text)) => {
                let (first, last) = (usize::from(*first), usize::from(*last));
                let length = text.chars().count();
                if length <= first + last {
                    return Some(Cow::Borrowed(fill));
                }
                let head: String = text.chars().take(first).collect();
                let tail: String = text.chars().skip(length - last).collect();
                Some(Cow::Owned(format!("{head}{fill}{tail}")))
            }
            (Kind::Partial { .. }, _) => None,
        }
    }

    /// What is seen of `value` by whom the database shows hashes made with `key`, as text; None for NULL.
    ///
    /// A text is shown as the 64 hexadecimal digits of its HMAC-SHA-256, a uuid as another uuid (RFC 9562, version 8).
    /// Masks that do not hash take no notice of the key.
    ///
    /// ```
    /// use zk_policy::{Column, ColumnType, Document, MaskKey, Scalar, Schema, Session, Value, check};
    ///
    /// let schema = Schema::default()
    ///     .table("public", "people", [Column::new("email", ColumnType::Scalar(Scalar::Text))]);
    /// let document = Document::parse(
    ///     "policy p  role r  table people { shared  allow r select  mask email for r as hash }",
    /// )?;
    /// let policy = check(&document, &schema)?;
    /// let guard = policy.guard("public", "people").expect("the policy has this table");
    /// let mask = guard.mask(&Session::new(&document, "r")?, "email").expect("it is masked");
    ///
    /// let (key, ann) = (MaskKey::generate()?, Value::Text("ann@example.com"));
    /// assert_eq!(mask.apply_with(&key, ann), mask.apply_with(&key, ann));
    /// assert_ne!(mask.apply_with(&key, ann), mask.apply_with(&MaskKey::generate()?, ann));
    /// assert_eq!(mask.apply(ann), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn apply_with<'a>(&'a self, key: &MaskKey, value: Value<'a>) -> Option<Cow<'a, str>> {
        match (&self.0, value) {
            (Kind::Hash { domain, ty: Scalar::Text, .. }, Value::Text(text)) => {
                Some(Cow::Owned(hex(&key.0.mac(&[frame(domain).as_bytes(), text.as_bytes()]))))
            }
            (Kind::Hash { domain, ty: Scalar::Uuid, .. }, Value::Uuid(bytes)) => {
                let mac = key.0.mac(&[frame(domain).as_bytes(), uuid_text(bytes).as_bytes()]);
                let mut shown = [0; 16];
                shown.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
                let [.., version, _, variant, _, _, _, _, _, _, _] = &mut shown;
                (*version, *variant) = (*version & 0x0f | 0x80, *variant & 0x0f | 0x80);
                Some(Cow::Owned(uuid_text(shown)))
            }
            _ => self.apply(value),
        }
    }

    /// Whether it shows anything only where there is a key.
    pub(crate) fn is_keyed(&self) -> bool {
        matches!(self.0, Kind::Hash { .. })
    }

    /// The expression that stands for the column in a view.
    pub(crate) fn sql(&self, column: &str) -> String {
        let column = ident(column);
        match &self.0 {
            // Of the column's own type, without naming it.
            Kind::Null => format!("CASE WHEN true THEN NULL ELSE {column} END"),
            Kind::Constant { text, ty } => format!("{}::{}", literal(text), ty.name()),
            Kind::Partial { first, fill, last } => {
                let (fill, length) = (literal(fill), u32::from(*first) + u32::from(*last));
                format!(
                    "CASE WHEN char_length({column}) > {length} \
                     THEN \"left\"({column}, {first}) || {fill}::text || \"right\"({column}, {last}) \
                     WHEN {column} IS NOT NULL THEN {fill}::text END"
                )
            }
            Kind::Hash { policy, domain, ty, .. } => hash(&column, policy, domain, *ty),
        }
    }
}

/// HMAC (RFC 2104) by the server's own SHA-256.
///
/// SECURITY: the pads are read by sub-selects of the view, so with the rights of its owner and once a statement. A
/// function would have to be granted to the masked role itself, for functions in a view run with the rights of who asks;
/// it could then hash values of its own choice. NULL, where there is no key, makes all of it NULL.
fn hash(column: &str, policy: &str, domain: &str, ty: Scalar) -> String {
    let (schema, table) = KEYS;
    let keys = format!("{}.{} AS k WHERE k.policy = {}", ident(schema), ident(table), literal(policy));
    let pad = |name| format!("(SELECT k.{name} FROM {keys})");
    let message = format!("convert_to({}::text || {column}::text, 'UTF8')", literal(&frame(domain)));
    let inner = format!("sha256({} || {message})", pad("inner_pad"));
    let mac = format!("encode(sha256({} || {inner}), 'hex')", pad("outer_pad"));
    match ty {
        // The digits of version and variant (RFC 9562, section 5.8).
        Scalar::Uuid => {
            format!("overlay(overlay(\"left\"({mac}, 32) placing '8' from 13) placing '8' from 17)::uuid")
        }
        _ => mac,
    }
}

/// The domain, so written that what follows it cannot be taken for a part of it.
fn frame(domain: &str) -> String {
    format!("{}:{domain},", domain.len())
}
