//! Functions that run with their owner's rights, and functions that are trusted not to leak.

use tokio_postgres::Transaction;

use super::super::{Error, signed};
use crate::lint::{Finding, Fix, LintCode};

/// Of all schemas but the system's. What an extension brings is the extension's to answer for.
pub(super) async fn find(transaction: &Transaction<'_>) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            "SELECT f.oid::regprocedure::text, f.prosecdef, f.proleakproof, r.rolname::text, r.rolsuper OR r.rolbypassrls,
                    EXISTS (SELECT FROM unnest(f.proconfig) AS c WHERE c LIKE 'search_path=%'),
                    EXISTS (SELECT FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                            WHERE a.grantee = 0),
                    EXISTS (SELECT FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                            WHERE a.grantee <> f.proowner),
                    f.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype), f.prokind = 'p', f.prosrc
             FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_roles r ON r.oid = f.proowner
             WHERE (f.prosecdef OR f.proleakproof) AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
                               AND d.deptype = 'e')",
            &[],
        )
        .await?;
    let mut findings = Vec::new();
    for row in &rows {
        let (name, definer, leakproof): (String, bool, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (owner, bypasses): (String, bool) = (row.try_get(3)?, row.try_get(4)?);
        let (path, public, others): (bool, bool, bool) = (row.try_get(5)?, row.try_get(6)?, row.try_get(7)?);
        let (trigger, procedure): (bool, bool) = (row.try_get(8)?, row.try_get(9)?);
        // Our own tell a session nothing but its own claims; that holds for the bodies that we wrote and for no other.
        if path && signed::is_installed_body(&name, row.try_get(10)?) {
            continue;
        }
        let kind = if procedure { "PROCEDURE" } else { "FUNCTION" };
        let object = format!("{} {name}", kind.to_lowercase());
        let mut push = |code, reason: String, sql| {
            findings.push(Finding::new(code, object.clone(), reason, Fix::Sql(sql)))
        };
        if leakproof {
            push(
                LintCode::FalseLeakproof,
                "it is marked LEAKPROOF, so it may see rows before policies hide them".to_owned(),
                format!("ALTER {kind} {name} NOT LEAKPROOF;"),
            );
        }
        if !definer {
            continue;
        }
        // A trigger's function cannot be called: who fires it chooses neither its arguments nor its moment.
        if bypasses && others && !trigger {
            push(
                LintCode::DefinerBypasses,
                format!("it runs as {owner}, whom no policy binds, for others who may call it"),
                format!("ALTER {kind} {name} SECURITY INVOKER;"),
            );
        }
        if !path {
            push(
                LintCode::DefinerSearchPath,
                format!(
                    "the caller chooses which tables and functions its names mean, and they run as {owner}"
                ),
                format!("ALTER {kind} {name} SET search_path = pg_catalog, pg_temp;"),
            );
        }
        if public && !trigger {
            push(
                LintCode::DefinerPublic,
                format!("EXECUTE was never revoked from PUBLIC, so every role acts as {owner} through it"),
                format!("REVOKE EXECUTE ON {kind} {name} FROM PUBLIC;"),
            );
        }
    }
    Ok(findings)
}
