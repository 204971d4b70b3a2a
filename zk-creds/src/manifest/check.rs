//! What makes a manifest valid beyond its form.

use std::collections::BTreeSet;

use super::diagnostic::{Code, Diagnostic, Diagnostics, suggest};
use super::read::shown;
use super::{MAX_LIFETIME, Manifest, Service};
use crate::environment;
use crate::secret::SecretName;

/// A login's name is `zk_<solution>_<service>_<generation>_<8 characters>` and must fit in 63 bytes.
pub(super) const MAX_SOLUTION: usize = 16;
pub(super) const MAX_SERVICE: usize = 20;
/// The longest name that PostgreSQL keeps; it cuts longer ones, which may then be another's.
const MAX_IDENTIFIER: usize = 63;
const IDENTIFIER: &str = "use 1 to 63 bytes without NUL";
/// The longest scope that zk-crypto takes, in bytes.
const MAX_SCOPE: usize = 200;
/// Common drivers refuse to hash more often, because a hostile server could keep them busy.
pub(super) const MAX_ITERATIONS: u32 = 100_000;

pub(super) fn manifest(manifest: &Manifest, mistakes: &mut Diagnostics) {
    let Manifest { solution, services } = manifest;
    name("solution", "solution", solution, MAX_SOLUTION, mistakes);
    let mut seen = BTreeSet::new();
    for (at, each) in services.iter().enumerate() {
        let path = format!("services[{at}]");
        service(&path, each, mistakes);
        if !seen.insert(each.name.as_str()) {
            let message = format!("service `{}` is listed twice", shown(&each.name));
            let mistake = Diagnostic::new(Code::RepeatedService, format!("{path}.name"), message);
            mistakes.push(mistake.help("give each service one entry, with all of its roles"));
        }
    }
    for (at, each) in services.iter().enumerate() {
        for (peer_at, peer) in each.peers.iter().enumerate() {
            if !seen.contains(peer.as_str()) && !mistakes.is_full() {
                let message = format!("there is no service `{}` to call", shown(peer));
                let path = format!("services[{at}].peers[{peer_at}]");
                let mistake = Diagnostic::new(Code::UnknownPeer, path, message);
                mistakes.push(mistake.help(suggest(peer, seen.iter().copied())));
            }
        }
    }
}

pub(super) fn service(path: &str, service: &Service, mistakes: &mut Diagnostics) {
    let Service {
        name: service_name,
        roles,
        peers: _,
        secrets,
        databases,
        search_path,
        scopes,
        lifetime_seconds,
        max_lifetime_seconds,
        connections,
        statement_timeout_ms: _,
        scram_iterations,
    } = service;
    let field = |field: &str| if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
    name(&field("name"), "service", service_name, MAX_SERVICE, mistakes);
    if roles.is_empty() {
        let message = format!("service `{}` has no roles", shown(service_name));
        let mistake = Diagnostic::new(Code::NoRoles, field("roles"), message);
        mistakes.push(mistake.help("list the roles of the policy that it may act as"));
    }
    for (list, of, what) in [("roles", roles, "a role"), ("search_path", search_path, "a schema")] {
        for (at, name) in of.iter().enumerate() {
            if !is_identifier(name) {
                let message = format!("`{}` cannot name {what}", shown(name));
                let mistake = Diagnostic::new(Code::Name, field(&format!("{list}[{at}]")), message);
                mistakes.push(mistake.help(IDENTIFIER));
            }
        }
    }
    for (at, scope) in scopes.iter().enumerate() {
        if !is_scope(scope) {
            let message = format!("`{}` cannot name scopes", shown(scope));
            let mistake = Diagnostic::new(Code::Name, field(&format!("scopes[{at}]")), message);
            let help = "a scope is 1 to 200 printable ASCII characters without spaces; a last `*` stands for any end";
            mistakes.push(mistake.help(help));
        }
    }
    for (name, secret) in secrets {
        let path = field(&format!("secrets.{}", shown(name)));
        if variable(&path, name, mistakes)
            && let Err(why) = SecretName::new(secret)
        {
            let message = format!("`{}` cannot name a secret", shown(secret));
            mistakes.push(Diagnostic::new(Code::Name, path, message).help(why.to_string()));
        }
    }
    for (name, database) in databases {
        let path = field(&format!("databases.{}", shown(name)));
        if secrets.contains_key(name) {
            let message = format!("`{}` is the variable of a secret as well", shown(name));
            let mistake = Diagnostic::new(Code::Variable, path, message);
            mistakes.push(mistake.help("choose another name for one of them"));
        } else if variable(&path, name, mistakes) && !is_identifier(database) {
            let message = format!("`{}` cannot name a database", shown(database));
            mistakes.push(Diagnostic::new(Code::Name, path, message).help(IDENTIFIER));
        }
    }
    let (lifetime, longest) = (*lifetime_seconds, *max_lifetime_seconds);
    if longest > MAX_LIFETIME {
        let message = format!("a credential lives for at most {MAX_LIFETIME} seconds, 30 days");
        let mistake = Diagnostic::new(Code::Lifetime, field("max_lifetime_seconds"), message);
        mistakes.push(mistake.help("rotation replaces it; a short life is the point of a lease"));
    }
    if lifetime == 0 || lifetime > longest {
        let message =
            format!("a lifetime of {lifetime} seconds is not within 1 and max_lifetime_seconds, {longest}");
        let help =
            format!("one is {} seconds unless `lifetime_seconds` says another", super::default_lifetime());
        mistakes.push(Diagnostic::new(Code::Lifetime, field("lifetime_seconds"), message).help(help));
    }
    if *connections == 0 {
        let message = "connections must be at least 1: a login without any is of no use";
        mistakes.push(Diagnostic::new(Code::Bounds, field("connections"), message));
    }
    if !(1..=MAX_ITERATIONS).contains(scram_iterations) {
        let message = format!("a password is hashed 1 to {MAX_ITERATIONS} times, not {scram_iterations}");
        let help =
            "common drivers refuse more; passwords are random, so 4096 is enough for any and 1 is safe";
        mistakes.push(Diagnostic::new(Code::Bounds, field("scram_iterations"), message).help(help));
    }
}

fn name(path: &str, what: &str, name: &str, longest: usize, mistakes: &mut Diagnostics) {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && name.len() <= longest;
    if !plain {
        let message = format!("`{}` cannot name a {what}", shown(name));
        let help = format!("use 1 to {longest} lower-case letters, digits and underscores, a letter first");
        mistakes.push(Diagnostic::new(Code::Name, path, message).help(help));
    }
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_IDENTIFIER && !name.contains('\0')
}

/// Whether zk-crypto's `ScopedKeyStore` takes it.
fn is_scope(scope: &str) -> bool {
    let beginning = scope.strip_suffix('*').unwrap_or(scope);
    let plain = beginning.bytes().all(|b| b.is_ascii_graphic() && b != b'*');
    plain && !scope.is_empty() && scope.len() <= MAX_SCOPE
}

/// Whether the name of a variable is one that a deployment may fill.
fn variable(path: &str, name: &str, mistakes: &mut Diagnostics) -> bool {
    if let Err(why) = environment::check_name(name) {
        mistakes.push(Diagnostic::new(Code::Variable, path, why));
        return false;
    }
    if environment::is_ours(name) {
        let message = format!("`{name}` is set by the deployment itself");
        mistakes.push(Diagnostic::new(Code::Variable, path, message).help("choose another name for it"));
        return false;
    }
    if environment::loads_code(name) {
        let message = format!("`{name}` decides what code a program loads");
        mistakes.push(Diagnostic::new(Code::Variable, path, message).help("choose another name for it"));
        return false;
    }
    true
}
