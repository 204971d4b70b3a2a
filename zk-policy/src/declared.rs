//! What sessions need to know of a policy: who may act, and with which claims.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::document::{ClaimType, Document};
use crate::ir::{Policy, database_role};

/// The roles and claims that a policy declares. Cheap to clone: sessions share it.
///
/// ```
/// use zk_policy::{Declared, Document};
///
/// let document = Document::parse("policy crm  role agent  claim tenant: uuid").expect("it parses");
/// let declared = Declared::from(&document);
/// assert_eq!(declared.roles().collect::<Vec<_>>(), ["agent"]);
/// assert_eq!(declared.claims().next().map(|(name, ty)| format!("{name}: {ty}")), Some("tenant: uuid".to_owned()));
/// ```
#[derive(Debug, Clone)]
pub struct Declared(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    roles: Vec<DeclaredRole>,
    /// In the order of the document.
    claims: Vec<(String, ClaimType)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeclaredRole {
    pub(crate) name: String,
    /// The PostgreSQL role that stands for it.
    pub(crate) database: String,
    /// Whether it sees some columns through masks, in a schema of its own.
    pub(crate) masked: bool,
}

impl Declared {
    /// The roles, personas among them, in the order of the document.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.0.roles.iter().map(|role| role.name.as_str())
    }

    /// The claims with their types, in the order of the document.
    pub fn claims(&self) -> impl Iterator<Item = (&str, ClaimType)> {
        self.0.claims.iter().map(|(name, ty)| (name.as_str(), *ty))
    }

    pub(crate) fn role(&self, place: usize) -> Option<&DeclaredRole> {
        self.0.roles.get(place)
    }

    /// A claim's place among the claims, and its type.
    pub(crate) fn claim(&self, name: &str) -> Option<(usize, ClaimType)> {
        let place = self.0.claims.iter().position(|(claim, _)| claim == name)?;
        Some((place, self.0.claims.get(place)?.1))
    }

    /// Whether places mean the same here and there. Where both were made by one policy, this compares two pointers.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl From<&Document> for Declared {
    fn from(document: &Document) -> Self {
        let masked: BTreeSet<&str> =
            document.tables.iter().flat_map(|t| &t.masks).map(|mask| mask.role.as_str()).collect();
        let masked = including(document, &masked);
        let own = document.roles.iter().map(|role| role.name.as_str());
        let names = own.chain(document.personas.iter().map(|persona| persona.name.as_str()));
        let roles = names.map(|name| DeclaredRole {
            name: name.to_owned(),
            database: database_role(document.name.as_str(), name),
            masked: masked.contains(name),
        });
        let claims = document.claims.iter().map(|claim| (claim.name.as_str().to_owned(), claim.ty));
        Self(Arc::new(Inner { roles: roles.collect(), claims: claims.collect() }))
    }
}

impl From<&Policy> for Declared {
    fn from(policy: &Policy) -> Self {
        policy.declared.clone()
    }
}

impl From<&Self> for Declared {
    fn from(declared: &Self) -> Self {
        declared.clone()
    }
}

/// The roles that include one of some, directly or through others, with those themselves.
fn including<'d>(document: &'d Document, some: &BTreeSet<&'d str>) -> BTreeSet<&'d str> {
    let mut includers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for role in &document.roles {
        for included in &role.includes {
            includers.entry(included.as_str()).or_default().push(role.name.as_str());
        }
    }
    let mut found = some.clone();
    let mut open: Vec<&str> = some.iter().copied().collect();
    while let Some(next) = open.pop() {
        let direct = includers.get(next).map_or(&[][..], Vec::as_slice);
        open.extend(direct.iter().filter(|role| found.insert(role)));
    }
    found
}
