//! Names: roles with all that they include, and claims.

use std::collections::{BTreeMap, BTreeSet};

use super::roles::{MAX_ROLES, Roles};
use super::table::TableChecker;
use crate::diagnostic::{Code, Diagnostic, Diagnostics, MAX_NAME};
use crate::document::{ClaimType, Document, Name, Scalar};
use crate::ir::{database_role, view_role};
use crate::schema::Column;

/// The declared roles, each with all that it includes; None for too many.
pub(super) fn roles<'d>(document: &'d Document, diagnostics: &mut Diagnostics) -> Option<Roles<'d>> {
    // A persona is a role like the others, as far as names go.
    let names = || document.roles.iter().map(|r| &r.name).chain(document.personas.iter().map(|p| &p.name));
    let count = names().count();
    if count > MAX_ROLES {
        let message = format!("the policy has {count} roles; at most {MAX_ROLES} are planned for");
        let diagnostic = Diagnostic::new(Code::Limit, document.name.span(), message);
        diagnostics.push(diagnostic.help("split it into policies that name fewer roles"));
        return None;
    }
    let mut taken = BTreeSet::new();
    for name in names() {
        let full = database_role(document.name.as_str(), name.as_str());
        check_spelling(name, &full, diagnostics);
        if full.starts_with("pg_") {
            let message = format!("`{full}` would be a name that PostgreSQL keeps for itself");
            let diagnostic = Diagnostic::new(Code::ReservedName, document.name.span(), message);
            diagnostics.push(diagnostic.help("call the policy something other than `pg`"));
        }
        if !taken.insert(name.as_str()) {
            diagnostics.push(duplicate("role", name));
        }
    }
    let own: BTreeSet<&str> = document.roles.iter().map(|role| role.name.as_str()).collect();
    for included in document.roles.iter().flat_map(|r| &r.includes) {
        if !own.contains(included.as_str()) {
            diagnostics.push(unknown("role", included, own.iter().copied(), diagnostics));
        }
    }
    let roles = Roles::new(document);
    for role in &document.roles {
        let name = role.name.as_str();
        if role.includes.iter().any(|included| roles.includes(included.as_str(), name)) {
            let message = format!("role `{name}` includes itself, directly or through others");
            let diagnostic = Diagnostic::new(Code::RoleCycle, role.name.span(), message);
            diagnostics.push(diagnostic.help("remove one `includes` of the circle"));
        }
    }
    Some(roles)
}

/// The roles behind masks: each role that sees one has such a role, also where the mask comes from a role that it includes.
pub(super) fn views<'a>(
    document: &Document,
    masked: impl IntoIterator<Item = &'a str>,
    diagnostics: &mut Diagnostics,
) {
    let names = || document.roles.iter().map(|r| &r.name).chain(document.personas.iter().map(|p| &p.name));
    let declared: BTreeMap<&str, &Name> = names().map(|name| (name.as_str(), name)).collect();
    for role in masked.into_iter().collect::<BTreeSet<_>>() {
        let Some(name) = declared.get(role) else { continue };
        check_spelling(name, &view_role(document.name.as_str(), role), diagnostics);
        let view = format!("{role}_view");
        if let Some(taken) = declared.get(view.as_str()) {
            let message = format!("`{view}` is the name of the role behind the masks for `{role}`");
            let diagnostic = Diagnostic::new(Code::DuplicateName, taken.span(), message);
            diagnostics.push(diagnostic.help(format!("call the role `{view}` something else")));
        }
    }
}

/// The declared claims by name.
pub(super) fn claims(document: &Document, diagnostics: &mut Diagnostics) -> BTreeMap<String, ClaimType> {
    let mut claims = BTreeMap::new();
    let mut lower = BTreeSet::new();
    for claim in &document.claims {
        check_setting_name(&claim.name, diagnostics);
        // PostgreSQL does not tell upper from lower case in the names of settings.
        if !lower.insert(claim.name.as_str().to_ascii_lowercase()) {
            diagnostics.push(duplicate("claim", &claim.name));
        }
        claims.insert(claim.name.as_str().to_owned(), claim.ty);
    }
    claims
}

pub(super) fn unknown<'a>(
    kind: &str,
    name: &Name,
    candidates: impl IntoIterator<Item = &'a str>,
    diagnostics: &Diagnostics,
) -> Diagnostic {
    let diagnostic = Diagnostic::new(Code::UnknownName, name.span(), format!("there is no {kind} `{name}`"));
    match diagnostics.suggest(name.as_str(), candidates) {
        Some(help) => diagnostic.help(help),
        None if kind == "column" => diagnostic.help("name a column that the table has"),
        None => diagnostic
            .help(format!("declare it: `{kind} {name}{}`", if kind == "claim" { ": text" } else { "" })),
    }
}

fn duplicate(kind: &str, name: &Name) -> Diagnostic {
    let message = format!("{kind} `{name}` is declared twice");
    Diagnostic::new(Code::DuplicateName, name.span(), message).help("remove one of the two")
}

/// SECURITY: two names that PostgreSQL would store as one are not to be two roles.
fn check_spelling(name: &Name, full: &str, diagnostics: &mut Diagnostics) {
    if full.contains('\0') {
        let message = "PostgreSQL cannot store a NUL character";
        diagnostics.push(Diagnostic::new(Code::Lexical, name.span(), message).help("remove it"));
    }
    if full.len() > MAX_NAME {
        let message = format!("`{full}` is longer than the {MAX_NAME} bytes of a PostgreSQL name");
        diagnostics.push(Diagnostic::new(Code::NameTooLong, name.span(), message).help("shorten the name"));
    }
}

/// A claim becomes the setting `zk.<claim>`, whose name PostgreSQL limits to letters, digits and underscores.
fn check_setting_name(name: &Name, diagnostics: &mut Diagnostics) {
    let text = name.as_str();
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !plain {
        let message = format!("`{name}` cannot name a claim");
        let help = "use letters, digits and underscores: it becomes the setting `zk.<claim>`";
        diagnostics.push(Diagnostic::new(Code::Syntax, name.span(), message).help(help));
    }
    check_spelling(name, text, diagnostics);
}

impl<'a> TableChecker<'a> {
    /// The column with its place in the table, or a diagnostic.
    pub(super) fn column(&mut self, name: &Name) -> Option<(&'a Column, usize)> {
        let shape = self.place().shape;
        let found = shape.columns().zip(0..).find(|(column, _)| column.name == name.as_str());
        if found.is_none() {
            let candidates = shape.columns().map(|c| c.name.as_str());
            let mut diagnostic = unknown("column", name, candidates, self.diagnostics);
            diagnostic.message = format!("`{}` has no column `{name}`", self.place().name);
            self.diagnostics.push(diagnostic);
        }
        found
    }

    pub(super) fn claim(&mut self, name: &Name) -> Option<ClaimType> {
        let found = self.claims.get(name.as_str()).copied();
        if found.is_none() {
            self.diagnostics.push(unknown(
                "claim",
                name,
                self.claims.keys().map(String::as_str),
                self.diagnostics,
            ));
        }
        found
    }

    /// A claim of one value, not an array.
    pub(super) fn scalar_claim(&mut self, name: &Name) -> Option<Scalar> {
        match self.claim(name)? {
            ClaimType::One(scalar) => Some(scalar),
            ClaimType::Many { array } => {
                let message = format!("claim `{name}` is an array of `{}`, not one value", array.name());
                let diagnostic = Diagnostic::new(Code::TypeMismatch, name.span(), message);
                self.diagnostics.push(diagnostic.help(format!("test membership: `… in claim.{name}`")));
                None
            }
        }
    }
}
