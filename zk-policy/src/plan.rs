//! A plan: ordered steps that a reviewer reads, what they do to access, and the state they were made for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::iter::once;
use std::time::Duration;

use serde::Serialize;

use crate::catalog::{Digest, Drift, Grant, Refusing, State, ViewObject};
use crate::compile::compile;
use crate::diff::{Change, Direction, diff};
use crate::ir::Policy;
use crate::schema::QualifiedName;
use crate::sql;

/// How long a step waits for a table that others have locked, if nobody says otherwise: less than the server waits before
/// it looks for deadlocks (`deadlock_timeout`, a second), so that in most of them it is not the application that fails.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// What to do so that a database enforces a policy. Made against a live catalog by `pg::plan`; data only.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The policy's name.
    pub policy: String,
    /// The steps, in the order in which they are applied: narrowing before widening.
    pub steps: Vec<Step>,
    /// What weakens the policy without being part of it. Left alone, unless [`removing_drift`](Plan::removing_drift)
    /// makes it steps.
    pub drift: Vec<Drift>,
    /// The state of the database that the plan was made for.
    pub against: Digest,
    #[serde(skip)]
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only applying reads it"))]
    pub(crate) desired: State,
    #[serde(skip)]
    remedies: Remedies,
    #[serde(skip)]
    pub(crate) removes_drift: bool,
}

/// The steps that would remove the drift.
#[derive(Debug, Clone, Default)]
struct Remedies {
    /// Those that narrow what the plan's own steps then widen.
    before: Vec<Step>,
    /// Those that end a role, once the plan's own steps took everything from it.
    after: Vec<Step>,
    /// What no step removes.
    kept: Vec<Drift>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// What it does, in words.
    pub summary: String,
    /// The statements.
    pub sql: Vec<String>,
    /// What it does to access, if anything.
    pub access: Option<Access>,
    /// Whether it takes an ACCESS EXCLUSIVE lock on the table, for a moment.
    pub locks_table: bool,
    /// Whether it reads the whole table while it holds the lock.
    pub scans_table: bool,
}

/// Whose access a step moves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Access {
    /// Which way.
    pub effect: Effect,
    /// The PostgreSQL roles concerned.
    pub roles: BTreeSet<String>,
    /// The table, when it is about one.
    pub table: Option<String>,
}

/// Which way access moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "a reviewer must treat every case")]
pub enum Effect {
    /// Less than before.
    Narrows,
    /// More than before, or different in a way that cannot be told to be less.
    Widens,
}

/// How far the person who accepts a plan lets it go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a yes or a no that reads at the call")]
pub enum Consent {
    /// Only plans that narrow access, or leave it as it is.
    NarrowingOnly,
    /// Also plans that widen it.
    Widening,
}

/// A plan that somebody accepted. Only this can be applied.
#[derive(Debug)]
pub struct Accepted(pub(crate) Plan);

/// The plan widens access and the consent did not cover that.
#[derive(Debug, thiserror::Error)]
#[error("{} steps of the plan widen access; review it and accept with Consent::Widening", .plan.widening().count())]
#[non_exhaustive]
pub struct NotAccepted {
    /// The plan, unchanged.
    pub plan: Plan,
}

impl Plan {
    /// Compares `settled`, the wanted state in the server's spelling, with the catalog. The steps are written in the
    /// words of `wanted`: the server's own spelling, read again, does not always come out the same.
    pub(crate) fn new(policy: &str, wanted: &State, settled: State, catalog: &State) -> Self {
        let found = diff(policy, &settled, catalog);
        let step = |change: &Change| {
            let (_, _, table) = change.access();
            reconsidered(step(change, policy, wanted, catalog), table, &settled)
        };
        let remedies = Remedies {
            before: found.drift.iter().filter(|change| !change.ends_role()).map(step).collect(),
            after: found.drift.iter().filter(|change| change.ends_role()).map(step).collect(),
            kept: found.kept.clone(),
        };
        Self {
            policy: policy.to_owned(),
            steps: found.changes.iter().map(step).collect(),
            drift: found.drift.into_iter().filter_map(Change::into_drift).chain(found.kept).collect(),
            against: catalog.digest(),
            remedies,
            removes_drift: false,
            desired: settled,
        }
    }

    /// The same plan with steps that remove the drift. All of them narrow access. What stays drift is what
    /// somebody has to decide: a role that another database holds, and what others left in a schema for masked views.
    ///
    /// Read [`drift`](Self::drift) before: what somebody granted or made outside the policy may be there for a reason.
    ///
    /// ```no_run
    /// # async fn example(client: &mut tokio_postgres::Client, policy: &zk_policy::Policy) -> Result<(), zk_policy::pg::Error> {
    /// let plan = zk_policy::pg::plan(client, policy).await?.removing_drift();
    /// assert!(plan.drift.is_empty(), "what was drift is now a step: no other database has a role of the policy");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn removing_drift(mut self) -> Self {
        let Remedies { before, after, kept } = std::mem::take(&mut self.remedies);
        self.steps = before.into_iter().chain(self.steps).chain(after).collect();
        self.drift = kept;
        self.removes_drift = true;
        self
    }

    /// The plan for a database that holds nothing of the policy yet: its whole SQL, for reading offline.
    #[must_use]
    pub fn fresh(policy: &Policy) -> Self {
        let wanted = compile(policy);
        Self::new(policy.name(), &wanted, wanted.clone(), &State::default())
    }

    /// Whether the database already enforces the policy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps that let somebody do more.
    pub fn widening(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|s| s.access.as_ref().is_some_and(|a| a.effect == Effect::Widens))
    }

    /// What the plan does to access: a line for each role and table, over all steps.
    #[must_use]
    pub fn access(&self) -> Vec<Access> {
        let mut effects: BTreeMap<(String, Option<String>), Effect> = BTreeMap::new();
        for access in self.steps.iter().filter_map(|s| s.access.as_ref()) {
            for role in &access.roles {
                let effect = effects.entry((role.clone(), access.table.clone())).or_insert(access.effect);
                *effect = (*effect).max(access.effect);
            }
        }
        let line = |((role, table), effect)| Access { effect, roles: BTreeSet::from([role]), table };
        effects.into_iter().map(line).collect()
    }

    /// The whole plan as one SQL script, in a transaction. It holds on any search path, and gives up where it would wait for
    /// a lock. Unlike an apply it neither looks whether the database is still as it was planned against, nor at the result:
    /// plan again when it has run.
    #[must_use]
    pub fn to_sql(&self) -> String {
        // SECURITY: on another search path, functions and operators of others could match better than the server's own.
        let mut script = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;\nSET LOCAL search_path = pg_catalog, pg_temp;\n\
             SET LOCAL lock_timeout = '{}ms';\n",
            LOCK_TIMEOUT.as_millis()
        );
        for step in &self.steps {
            // SECURITY: a name in the comment must not end it; a carriage return does so as well.
            script.push_str(&format!("-- {}\n", step.summary.replace(char::is_control, " ")));
            step.sql.iter().for_each(|s| script.push_str(&format!("{s};\n")));
        }
        script.push_str("COMMIT;\n");
        script
    }

    /// Accepts the plan, which makes it applicable.
    ///
    /// # Errors
    /// [`NotAccepted`], with the plan in it, when it widens access and `consent` does not cover that.
    pub fn accept(self, consent: Consent) -> Result<Accepted, Box<NotAccepted>> {
        if consent == Consent::NarrowingOnly && self.widening().next().is_some() {
            return Err(Box::new(NotAccepted { plan: self }));
        }
        Ok(Accepted(self))
    }
}

impl Accepted {
    /// The plan that was accepted.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.0
    }
}

impl fmt::Display for Plan {
    /// Writes the steps, then what they do to access, then drift.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            writeln!(f, "policy {}: nothing to do", self.policy)?;
        } else {
            let noun = if self.steps.len() == 1 { "step" } else { "steps" };
            writeln!(f, "policy {}: {} {noun}", self.policy, self.steps.len())?;
        }
        for step in &self.steps {
            let sign = match step.access.as_ref().map(|a| a.effect) {
                Some(Effect::Widens) => "WIDENS ",
                Some(Effect::Narrows) => "narrows",
                None => "       ",
            };
            writeln!(f, "  {sign}  {}", step.summary)?;
        }
        for Access { effect, roles, table } in self.access() {
            let roles: Vec<String> = roles.into_iter().collect();
            let effect = if effect == Effect::Widens { "WIDENS access" } else { "narrows access" };
            let table = table.map_or(String::new(), |t| format!(" to {t}"));
            writeln!(f, "  {effect} of {}{table}", roles.join(", "))?;
        }
        self.drift.iter().try_for_each(|d| writeln!(f, "  drift: {d}"))
    }
}

fn step(change: &Change, policy: &str, wanted: &State, catalog: &State) -> Step {
    let (direction, roles, table) = change.access();
    let effect = match direction {
        Direction::Neither => None,
        Direction::Narrows => Some(Effect::Narrows),
        Direction::Widens | Direction::Unclear => Some(Effect::Widens),
    };
    let access = effect.map(|effect| Access { effect, roles, table: table.map(ToString::to_string) });
    let (summary, sql) = statements(change, policy, wanted, catalog);
    let locks_table = matches!(
        change,
        Change::RowSecurity { .. }
            | Change::CreatePolicy { .. }
            | Change::AlterPolicy { .. }
            | Change::ReplacePolicy { .. }
            | Change::DropPolicy { .. }
            | Change::AddCheck { .. }
            | Change::ReplaceCheck { .. }
            | Change::DropCheck { .. }
    );
    let scans_table = matches!(change, Change::AddCheck { .. } | Change::ReplaceCheck { .. });
    Step { summary, sql, access, locks_table, scans_table }
}

/// Narrowing what a role sees of a table widens what it may do to another whose rules refuse by what they find there.
fn reconsidered(mut step: Step, table: Option<&QualifiedName>, settled: &State) -> Step {
    let Some(access) = step.access.as_mut().filter(|access| access.effect == Effect::Narrows) else {
        return step;
    };
    let everybody = access.roles.contains(sql::PUBLIC);
    let of_roles: Vec<&Refusing> = if everybody {
        settled.refusing.values().collect()
    } else {
        access.roles.iter().filter_map(|role| settled.refusing.get(role)).collect()
    };
    let opened: BTreeSet<&QualifiedName> = match table {
        Some(table) => of_roles.into_iter().filter_map(|asked| asked.get(table)).flatten().collect(),
        None => of_roles.into_iter().flat_map(BTreeMap::values).flatten().collect(),
    };
    if !opened.is_empty() {
        let opened: Vec<String> = opened.into_iter().map(ToString::to_string).collect();
        access.effect = Effect::Widens;
        step.summary.push_str(&format!(" (rules of {} refuse by what they find there)", opened.join(", ")));
    }
    step
}

/// A change in words and in SQL.
fn statements(change: &Change, policy: &str, wanted: &State, catalog: &State) -> (String, Vec<String>) {
    let object = |table, name: &str, settled| wanted.policy(table, name).unwrap_or(settled);
    match change {
        Change::CreateRole { role } => (
            format!("create role {role}"),
            vec![
                format!("CREATE ROLE {} NOLOGIN NOINHERIT", sql::ident(role)),
                format!("COMMENT ON ROLE {} IS {}", sql::ident(role), sql::literal(&role_mark(policy))),
            ],
        ),
        Change::StripRole { role, excess } => {
            let no: Vec<String> = excess.iter().map(|e| format!("NO{e}")).collect();
            (
                format!("alter role {role}: {}", no.join(" ")),
                vec![format!("ALTER ROLE {} {}", sql::ident(role), no.join(" "))],
            )
        }
        Change::RowSecurity { table, enable, force } => {
            let on = sql::table(table);
            let mut sql = Vec::new();
            if *enable {
                sql.push(format!("ALTER TABLE {on} ENABLE ROW LEVEL SECURITY"));
            }
            if *force {
                sql.push(format!("ALTER TABLE {on} FORCE ROW LEVEL SECURITY"));
            }
            (format!("force row-level security on {table}"), sql)
        }
        Change::CreatePolicy { table, name, policy } => (
            format!("create policy {name} on {table}"),
            vec![sql::create_policy(&sql::table(table), name, object(table, name, policy))],
        ),
        Change::AlterPolicy { table, name, after, .. } => (
            format!("alter policy {name} on {table}"),
            vec![sql::alter_policy(&sql::table(table), name, object(table, name, after))],
        ),
        Change::DropPolicy { table, name, .. } => {
            (format!("drop policy {name} on {table}"), vec![sql::drop_policy(&sql::table(table), name)])
        }
        Change::ReplacePolicy { table, name, before, after } => (
            format!("replace policy {name} on {table}"),
            sql::replace_policy(&sql::table(table), name, before, object(table, name, after)),
        ),
        Change::Close { table, grants } => (
            format!("close {} while its policies change", privilege_words(table, grants, "for")),
            vec![sql::revoke(table, grants)],
        ),
        Change::Remove { drift, .. } => {
            (format!("remove drift: {}", drift.summary), vec![drift.remedy.clone()])
        }
        Change::Grant { table, grants } => {
            (format!("grant {}", privilege_words(table, grants, "to")), vec![sql::grant(table, grants)])
        }
        Change::Restore { table, grants } => {
            (format!("keep {}", privilege_words(table, grants, "for")), vec![sql::grant(table, grants)])
        }
        Change::Revoke { table, grants } => {
            (format!("revoke {}", privilege_words(table, grants, "from")), vec![sql::revoke(table, grants)])
        }
        Change::GrantUsage { schema, role } => (
            format!("grant usage of schema {schema} to {role}"),
            vec![format!("GRANT USAGE ON SCHEMA {} TO {}", sql::ident(schema), sql::ident(role))],
        ),
        Change::RevokeUsage { schema, role } => (
            format!("revoke usage of schema {schema} from {role}"),
            vec![format!("REVOKE USAGE ON SCHEMA {} FROM {}", sql::ident(schema), sql::ident(role))],
        ),
        Change::CreateSchema { schema } => (
            format!("create schema {schema} for the views of that role"),
            once(format!("CREATE SCHEMA {}", sql::ident(schema)))
                .chain(unborn(&format!("SCHEMA {}", sql::ident(schema)), catalog))
                .collect(),
        ),
        Change::CreateView { name, view } => {
            let definition = wanted.views.get(name).map_or(&view.definition, |v| &v.definition);
            (format!("create view {name} with masked columns"), create_view(name, view, definition, catalog))
        }
        Change::DropView { name, .. } => {
            (format!("drop view {name}"), vec![format!("DROP VIEW {}", sql::table(name))])
        }
        Change::RevokeCreate { schema, role } => (
            format!("revoke creation in schema {schema} from {role}"),
            vec![format!("REVOKE CREATE ON SCHEMA {} FROM {}", sql::ident(schema), sql::ident(role))],
        ),
        Change::DropCheck { table, name } => (
            format!("drop check {name} of {table}: its column may hold plaintext"),
            vec![format!("ALTER TABLE {} DROP CONSTRAINT {}", sql::table(table), sql::ident(name))],
        ),
        Change::AddCheck { table, name, check } => (
            format!("add check {name} to {table}"),
            vec![add_check(table, name, wanted.check(table, name).unwrap_or(check))],
        ),
        Change::ReplaceCheck { table, name, check } => (
            format!("replace check {name} of {table}"),
            vec![
                format!("ALTER TABLE {} DROP CONSTRAINT {}", sql::table(table), sql::ident(name)),
                add_check(table, name, wanted.check(table, name).unwrap_or(check)),
            ],
        ),
    }
}

/// Creates a view and hands it to its owner, of which the applying role is a member for just that long. The grants come
/// first, while it is still ours to grant.
fn create_view(name: &QualifiedName, view: &ViewObject, definition: &str, catalog: &State) -> Vec<String> {
    let (on, schema, owner) = (sql::table(name), sql::ident(&name.schema), sql::ident(&view.owner));
    let mut statements = vec![format!("CREATE VIEW {on} AS {definition}")];
    statements.extend(unborn(&on, catalog));
    let grants: Vec<Grant> = view.grants.iter().cloned().collect();
    statements.push(sql::grant(name, &grants));
    statements.extend([
        format!("GRANT {owner} TO CURRENT_USER"),
        format!("GRANT CREATE ON SCHEMA {schema} TO {owner}"),
        format!("ALTER VIEW {on} OWNER TO {owner}"),
        format!("REVOKE CREATE ON SCHEMA {schema} FROM {owner}"),
        format!("REVOKE {owner} FROM CURRENT_USER"),
    ]);
    statements
}

/// Takes away what default privileges gave on an object that was just created.
fn unborn(object: &str, catalog: &State) -> Option<String> {
    let roles: Vec<String> = catalog.born_with.iter().map(|role| sql::role(role)).collect();
    (!roles.is_empty()).then(|| format!("REVOKE ALL ON {object} FROM {}", roles.join(", ")))
}

fn add_check(table: &QualifiedName, name: &str, check: &str) -> String {
    format!("ALTER TABLE {} ADD CONSTRAINT {} CHECK ({check})", sql::table(table), sql::ident(name))
}

fn privilege_words(table: &QualifiedName, grants: &[Grant], word: &str) -> String {
    let Some(first) = grants.first() else { return String::new() };
    let columns: Vec<&str> = grants.iter().filter_map(|g| g.column.as_deref()).collect();
    let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    format!("{}{columns} on {table} {word} {}", first.privilege.keyword().to_lowercase(), first.role)
}

/// The comment by which a role is known to belong to a policy.
pub(crate) fn role_mark(policy: &str) -> String {
    format!("zk-policy: {policy}")
}
