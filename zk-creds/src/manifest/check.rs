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
pub(super) const MAX_ROLE: usize = 63;
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
    for (at, role) in roles.iter().enumerate() {
        if role.is_empty() || role.len() > MAX_ROLE || role.contains('\0') {
            let message = format!("`{}` cannot name a role", shown(role));
            let mistake = Diagnostic::new(Code::Name, field(&format!("roles[{at}]")), message);
            mistakes.push(mistake.help(format!("use 1 to {MAX_ROLE} bytes without NUL")));
        }
    }
    for (variable, secret) in secrets {
        let path = field(&format!("secrets.{}", shown(variable)));
        if let Err(why) = environment::check_name(variable) {
            mistakes.push(Diagnostic::new(Code::Variable, path, why));
        } else if environment::is_ours(variable) {
            let message = format!("`{variable}` is set by the deployment itself");
            mistakes.push(Diagnostic::new(Code::Variable, path, message).help("choose another name for it"));
        } else if let Err(why) = SecretName::new(secret) {
            let message = format!("`{}` cannot name a secret", shown(secret));
            mistakes.push(Diagnostic::new(Code::Name, path, message).help(why.to_string()));
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
