//! The server's version, and claims that somebody set for whole roles or databases.

use tokio_postgres::Transaction;

use super::super::Error;
use crate::lint::{Finding, Fix, LintCode};
use crate::sql;

/// A hole in row-level security: its name, the first version of each release that is without it, what it opened.
struct Hole {
    name: &'static str,
    fixed: &'static [i32],
    opened: &'static str,
}

/// From the security page of the PostgreSQL project. Releases that never had a hole are not listed with it.
const HOLES: &[Hole] = &[
    Hole {
        name: "CVE-2023-2455",
        fixed: &[150_003],
        opened: "an inlined function was executed under the policies of an earlier role",
    },
    Hole {
        name: "CVE-2023-39418",
        fixed: &[150_004],
        opened: "MERGE stored rows that policies for UPDATE and SELECT refuse",
    },
    Hole {
        name: "CVE-2024-10976",
        fixed: &[150_009, 160_005, 170_001],
        opened: "a reused plan applied the policies of another role below sub-queries",
    },
    Hole {
        name: "CVE-2025-8713",
        fixed: &[150_014, 160_010, 170_006],
        opened: "the planner's statistics told values of rows that policies hide",
    },
];

pub(super) fn vulnerabilities(version: i32) -> Vec<Finding> {
    let fix = |hole: &'static Hole| {
        let fixed = hole.fixed.iter().copied().find(|fixed| fixed / 10_000 == version / 10_000)?;
        (version < fixed).then_some((hole, fixed))
    };
    let findings = HOLES.iter().filter_map(fix).map(|(hole, fixed)| {
        Finding::new(
            LintCode::ServerVulnerable,
            format!("server {}", dotted(version)),
            format!("{}: {}", hole.name, hole.opened),
            Fix::Words(format!("upgrade the server to {} or later", dotted(fixed))),
        )
    });
    findings.collect()
}

fn dotted(version: i32) -> String {
    format!("{}.{}", version / 10_000, version % 10_000)
}

pub(super) async fn presets(transaction: &Transaction<'_>) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            "SELECT r.rolname::text, d.datname::text, split_part(entry, '=', 1)
             FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) AS entry
             LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
             WHERE lower(entry) LIKE 'zk.%' AND (s.setdatabase = 0 OR d.datname = current_database())",
            &[],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let (role, database): (Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        let setting: String = row.try_get(2)?;
        let (object, scope) = match (&role, &database) {
            (Some(r), None) => (format!("role {r}"), format!("ROLE {}", sql::ident(r))),
            (Some(r), Some(d)) => {
                (format!("role {r}"), format!("ROLE {} IN DATABASE {}", sql::ident(r), sql::ident(d)))
            }
            (None, Some(d)) => (format!("database {d}"), format!("DATABASE {}", sql::ident(d))),
            (None, None) => ("all roles".to_owned(), "ROLE ALL".to_owned()),
        };
        let name: Vec<String> = setting.split('.').map(sql::ident).collect();
        findings.push(Finding::new(
            LintCode::ClaimPreset,
            object,
            format!("every new session has `{setting}` set, so that one which states no claim sees rows all the same"),
            Fix::Sql(format!("ALTER {scope} RESET {};", name.join("."))),
        ));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(version: i32, expected: &[&str]) {
        let found = vulnerabilities(version);
        let found: Vec<&str> = found.iter().filter_map(|f| f.reason.split(':').next()).collect();
        assert_eq!(found, expected, "{version}");
    }

    #[test]
    fn each_minor_version_has_the_holes_that_it_has() {
        check(150_002, &["CVE-2023-2455", "CVE-2023-39418", "CVE-2024-10976", "CVE-2025-8713"]);
        check(150_003, &["CVE-2023-39418", "CVE-2024-10976", "CVE-2025-8713"]);
        check(150_008, &["CVE-2024-10976", "CVE-2025-8713"]);
        check(150_014, &[]);
        check(160_000, &["CVE-2024-10976", "CVE-2025-8713"]);
        check(160_009, &["CVE-2025-8713"]);
        check(170_000, &["CVE-2024-10976", "CVE-2025-8713"]);
        check(170_006, &[]);
        check(180_000, &[]);
    }

    #[test]
    fn a_finding_names_the_version_to_upgrade_to() {
        let finding = vulnerabilities(160_009).remove(0);
        assert_eq!(finding.object, "server 16.9");
        assert_eq!(finding.fix, Fix::Words("upgrade the server to 16.10 or later".to_owned()));
    }
}
