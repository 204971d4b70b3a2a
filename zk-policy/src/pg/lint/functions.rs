//! Functions that run with their owner's rights, and functions that are trusted not to leak.

use super::super::outside::{Outside, Power};
use crate::lint::{Finding, Fix, LintCode};
use crate::sql;

pub(super) fn find(outside: &Outside) -> Vec<Finding> {
    let mut findings = Vec::new();
    for function in &outside.functions {
        let (name, owner) = (&function.name, &function.owner);
        let kind = if function.procedure { "PROCEDURE" } else { "FUNCTION" };
        let object = format!("{} {name}", kind.to_lowercase());
        let mut push = |code, reason: String, sql| {
            findings.push(Finding::new(code, object.clone(), reason, Fix::Sql(sql)))
        };
        if function.leakproof {
            push(
                LintCode::FalseLeakproof,
                "it is marked LEAKPROOF, so it may see rows before policies hide them".to_owned(),
                format!("ALTER {kind} {name} NOT LEAKPROOF;"),
            );
        }
        if !function.definer {
            continue;
        }
        let called = !function.grantees.is_empty() && !function.trigger;
        // Whom no policy binds reaches every table. Others do so by what they are given: it counts where a table is named.
        let power = function
            .power
            .as_ref()
            .filter(|power| called && (matches!(power, Power::Unbound) || !function.tables.is_empty()));
        if let Some(power) = power {
            let runs_as = match power {
                Power::Unbound => format!("{owner}, whom no policy binds"),
                bound => bound.of(owner),
            };
            push(
                LintCode::DefinerBypasses,
                format!("it runs as {runs_as}, for others who may call it"),
                format!("ALTER {kind} {name} SECURITY INVOKER;"),
            );
        }
        if !function.pins_search_path {
            push(
                LintCode::DefinerSearchPath,
                format!(
                    "the caller chooses which tables and functions its names mean, and they run as {owner}"
                ),
                format!("ALTER {kind} {name} SET search_path = pg_catalog, pg_temp;"),
            );
        }
        if called && function.grantees.iter().any(|role| role == sql::PUBLIC) {
            push(
                LintCode::DefinerPublic,
                format!("EXECUTE was never revoked from PUBLIC, so every role acts as {owner} through it"),
                format!("REVOKE EXECUTE ON {kind} {name} FROM PUBLIC;"),
            );
        }
    }
    findings
}
