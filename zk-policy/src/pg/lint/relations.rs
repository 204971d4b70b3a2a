//! Views, materialised views, partitions, children and parents: other ways to the rows of a table.

use super::super::outside::{Outside, Power, View};
use super::scope::Scope;
use crate::lint::{Finding, Fix, LintCode};
use crate::sql;

pub(super) fn find(outside: &Outside, scope: &Scope) -> Vec<Finding> {
    let mut findings: Vec<Finding> = outside.views.iter().filter_map(|found| view(found, scope)).collect();
    for relative in outside.relatives.iter().filter(|relative| !relative.covered) {
        let (name, tables, on) = (&relative.name, &relative.tables, sql::table(&relative.name));
        let (code, reason) = if relative.above {
            let reason = format!("asking it shows rows of {tables} without the policies of {tables}");
            (LintCode::UncoveredParent, reason)
        } else {
            let reason =
                format!("it holds rows of {tables}; asked directly, the policies of {tables} do not apply");
            (LintCode::UncoveredChild, reason)
        };
        // A foreign table cannot have row-level security.
        let fix = match (relative.foreign, relative.grantees.is_empty()) {
            (true, true) => continue,
            (true, false) => revoke(&on, &relative.grantees),
            (false, _) => Fix::Sql(format!(
                "ALTER TABLE {on} ENABLE ROW LEVEL SECURITY;\nALTER TABLE {on} FORCE ROW LEVEL SECURITY;"
            )),
        };
        findings.push(Finding::new(code, format!("table {name}"), reason, fix));
    }
    findings
}

fn view(view: &View, scope: &Scope) -> Option<Finding> {
    let View { name, owner, reads_as, tables, grantees, .. } = view;
    let on = sql::table(name);
    if view.materialised {
        let reason = format!(
            "{} read rows of {tables} from it as its owner saw them, of all tenants",
            grantees.join(", ")
        );
        let object = format!("materialised view {name}");
        let fix = revoke(&on, grantees);
        return (!grantees.is_empty()).then(|| Finding::new(LintCode::MaterialisedView, object, reason, fix));
    }
    // A view of ours belongs to a role of the policy, which is bound by the policies of that role.
    if !view.copy && scope.roles.contains(owner) && !matches!(view.power, Some(Power::Unbound)) {
        return None;
    }
    let (code, reason) = if view.copy {
        (
            LintCode::ViewBypasses,
            format!("it reads a copy of {tables}, which no policy guards, as {reads_as}"),
        )
    } else if matches!(view.power, Some(Power::Unbound)) {
        let reason = format!(
            "it reads {tables} as {reads_as}, whom no policy binds: its readers see the rows of all tenants"
        );
        (LintCode::ViewBypasses, reason)
    } else {
        let reason = format!(
            "it reads {tables} under the policies and privileges of {reads_as}, not of those who ask"
        );
        (LintCode::ViewOwnerRights, reason)
    };
    let fix = Fix::Sql(format!("ALTER VIEW {on} SET (security_invoker = true);"));
    Some(Finding::new(code, format!("view {name}"), reason, fix))
}

fn revoke(on: &str, grantees: &[String]) -> Fix {
    let grantees: Vec<String> = grantees.iter().map(|role| sql::role(role)).collect();
    Fix::Sql(format!("REVOKE ALL ON {on} FROM {};", grantees.join(", ")))
}
