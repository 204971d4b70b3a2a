//! Who can get around the policy: a walk over the closure of roles.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio_postgres::Transaction;

use super::super::Error;
use super::scope::Scope;
use crate::catalog;
use crate::lint::{Finding, Fix, LintCode};
use crate::sql;

/// The first release in which a membership has options of its own.
const MEMBERSHIP_OPTIONS: i32 = 160_000;

/// Roles of the server that reach files and programs of its machine, and so everything.
const MACHINE: [&str; 3] = ["pg_read_server_files", "pg_write_server_files", "pg_execute_server_program"];

/// Roles of the server that hold privileges on all tables: rows stay guarded, columns do not.
const ALL_DATA: [&str; 2] = ["pg_read_all_data", "pg_write_all_data"];

struct Graph {
    roles: BTreeMap<String, Attributes>,
    /// From each member, what it is a member of.
    memberships: BTreeMap<String, Vec<Membership>>,
    owners: BTreeSet<String>,
    /// The roles that own the views with masked columns, and see what those mask.
    unmasked: BTreeSet<String>,
    version: i32,
}

struct Attributes {
    superuser: bool,
    bypasses: bool,
    creates_roles: bool,
    logs_in: bool,
}

struct Membership {
    role: String,
    grantor: Option<String>,
    admin: bool,
    inherit: bool,
    set: bool,
}

/// A way around the policy: what is reached, and over which membership of the role it starts.
struct Way {
    reason: String,
    /// The membership to revoke; none if the role itself has the power.
    first: Option<String>,
    /// The attribute to take away, when it is the role's own.
    attribute: Option<&'static str>,
}

pub(super) async fn find(transaction: &Transaction<'_>, scope: &Scope) -> Result<Vec<Finding>, Error> {
    let graph = Graph::read(transaction, scope).await?;
    let mut findings = Vec::new();
    let services: BTreeSet<&String> = graph
        .roles
        .keys()
        .filter(|role| !scope.roles.contains(*role) && graph.acts_as_one_of(role, &scope.roles))
        .collect();
    for (role, attributes) in &graph.roles {
        let ours = scope.roles.contains(role);
        let serves = ours || services.contains(role);
        if !serves && (!attributes.logs_in || attributes.superuser || graph.owners.contains(role)) {
            continue;
        }
        let code = if serves { LintCode::ServiceBypasses } else { LintCode::LoginBypasses };
        for way in graph.ways(role, serves, &scope.roles) {
            let name = sql::ident(role);
            let fix = match (&way.first, way.attribute) {
                (Some(first), _) => graph.leave(role, first),
                (None, Some(attribute)) => Fix::Sql(format!("ALTER ROLE {name} NO{attribute};")),
                (None, None) => Fix::Words(format!(
                    "give the tables another owner, or let services log in as another role than {role}"
                )),
            };
            findings.push(Finding::new(code, format!("role {role}"), way.reason, fix));
        }
        if !ours {
            findings.extend(graph.inherited(role, &scope.roles));
        }
    }
    Ok(findings)
}

impl Graph {
    async fn read(transaction: &Transaction<'_>, scope: &Scope) -> Result<Self, Error> {
        let rows = transaction
            .query(
                "SELECT rolname::text, rolsuper, rolbypassrls, rolcreaterole, rolcanlogin FROM pg_roles",
                &[],
            )
            .await?;
        let mut roles = BTreeMap::new();
        for row in &rows {
            let attributes = Attributes {
                superuser: row.try_get(1)?,
                bypasses: row.try_get(2)?,
                creates_roles: row.try_get(3)?,
                logs_in: row.try_get(4)?,
            };
            roles.insert(row.try_get(0)?, attributes);
        }
        // Options of a membership are columns from PostgreSQL 16 on; before, the member's attribute decides.
        let rows = transaction
            .query(
                "SELECT u.rolname::text, r.rolname::text, m.admin_option,
                        coalesce((to_jsonb(m) ->> 'inherit_option')::bool, u.rolinherit),
                        coalesce((to_jsonb(m) ->> 'set_option')::bool, true), g.rolname::text
                 FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member JOIN pg_roles r ON r.oid = m.roleid
                 LEFT JOIN pg_roles g ON g.oid = m.grantor
                 ORDER BY 1, 2",
                &[],
            )
            .await?;
        let mut memberships: BTreeMap<String, Vec<Membership>> = BTreeMap::new();
        for row in &rows {
            memberships.entry(row.try_get(0)?).or_default().push(Membership {
                role: row.try_get(1)?,
                admin: row.try_get(2)?,
                inherit: row.try_get(3)?,
                set: row.try_get(4)?,
                grantor: row.try_get(5)?,
            });
        }
        let owners = scope.tables.values().map(|table| table.owner.clone()).collect();
        let unmasked = scope.wanted.views.values().map(|view| view.owner.clone()).collect();
        Ok(Self { roles, memberships, owners, unmasked, version: scope.version })
    }

    /// The roles that `start` reaches over memberships that `follow` accepts, each with the first step of the way.
    /// `closed` roles are reached, but what lies behind them is theirs.
    fn closure(
        &self,
        start: &str,
        closed: &BTreeSet<String>,
        follow: impl Fn(&Membership) -> bool,
    ) -> BTreeMap<&str, &str> {
        let mut reached: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue: VecDeque<(&str, Option<&str>)> = VecDeque::new();
        let Some((start, _)) = self.roles.get_key_value(start) else { return reached };
        queue.push_back((start, None));
        while let Some((role, first)) = queue.pop_front() {
            for membership in self.memberships.get(role).into_iter().flatten().filter(|m| follow(m)) {
                let next = membership.role.as_str();
                let first = first.unwrap_or(next);
                if next != start && !reached.contains_key(next) {
                    reached.insert(next, first);
                    if !closed.contains(next) {
                        queue.push_back((next, Some(first)));
                    }
                }
            }
        }
        reached
    }

    /// Whether the role can enter one of the others or has its rights. Who may merely hand a role on does not serve.
    fn acts_as_one_of(&self, role: &str, others: &BTreeSet<String>) -> bool {
        self.memberships.contains_key(role)
            && self.closure(role, others, |m| m.set || m.inherit).keys().any(|r| others.contains(*r))
    }

    /// Takes a membership away, from PostgreSQL 16 on once for each who granted it.
    fn leave(&self, role: &str, group: &str) -> Fix {
        let granted = self.memberships.get(role).into_iter().flatten().filter(|m| m.role == group);
        let revoke = |m: &Membership| {
            let grantor = m.grantor.clone().filter(|_| self.version >= MEMBERSHIP_OPTIONS);
            let (role, member, admin) = (m.role.clone(), role.to_owned(), m.admin);
            format!("{};", sql::revoke_membership(&catalog::Membership { role, member, grantor, admin }))
        };
        Fix::Sql(granted.map(revoke).collect::<Vec<_>>().join("\n"))
    }

    fn ways(&self, role: &str, serves: bool, ours: &BTreeSet<String>) -> Vec<Way> {
        let Some(own) = self.roles.get(role) else { return Vec::new() };
        let mut ways = Vec::new();
        let mut has = |power: bool, attribute, reason: &str| {
            if power {
                ways.push(Way { reason: reason.to_owned(), first: None, attribute: Some(attribute) });
            }
        };
        has(own.superuser, "SUPERUSER", "it is a superuser: no policy and no privilege binds it");
        has(
            own.bypasses,
            "BYPASSRLS",
            "it has BYPASSRLS: policies do not bind it; keep that for a role that only makes backups",
        );
        has(
            serves && own.creates_roles && self.version < MEMBERSHIP_OPTIONS,
            "CREATEROLE",
            "it has CREATEROLE, which lets it join any role of this server",
        );
        if self.owners.contains(role) {
            let reason = "it owns tables of the policy, and can switch their policies off".to_owned();
            ways.push(Way { reason, first: None, attribute: None });
        }
        // Attributes are had by entering a role only; ownership is inherited too. ADMIN lets it grant itself either.
        for (reached, first) in self.closure(role, ours, |m| m.set || m.admin) {
            let Some(attributes) = self.roles.get(reached) else { continue };
            let power = if attributes.superuser {
                "a superuser"
            } else if attributes.bypasses {
                "a role with BYPASSRLS"
            } else {
                continue;
            };
            let reason = format!("it can become {reached}, {power}");
            ways.push(Way { reason, first: Some(first.to_owned()), attribute: None });
        }
        for (reached, first) in self.closure(role, ours, |m| m.set || m.inherit || m.admin) {
            let reason = if self.owners.contains(reached) {
                format!(
                    "it is a member of {reached}, which owns tables of the policy and can switch their policies off"
                )
            } else if MACHINE.contains(&reached) {
                format!("it is a member of {reached}, which reaches the files of the server")
            } else if serves && ALL_DATA.contains(&reached) {
                format!("it is a member of {reached}, which holds every column of every table")
            } else if self.unmasked.contains(reached) {
                format!(
                    "it is a member of {reached}, which owns views that mask columns and sees what they mask"
                )
            } else if ours.contains(role) && ours.contains(reached) {
                format!("it can become {reached}, another role of the policy")
            } else {
                continue;
            };
            ways.push(Way { reason, first: Some(first.to_owned()), attribute: None });
        }
        ways
    }

    /// Memberships in the policy's roles that give their rights without entering them.
    fn inherited(&self, role: &str, ours: &BTreeSet<String>) -> Vec<Finding> {
        let memberships = self.memberships.get(role).into_iter().flatten();
        let inherited = memberships.filter(|m| m.inherit && ours.contains(&m.role));
        let finding = |m: &Membership| {
            let (member, of) = (sql::ident(role), sql::ident(&m.role));
            let fix = if self.version < MEMBERSHIP_OPTIONS {
                format!("ALTER ROLE {member} NOINHERIT;")
            } else {
                let by =
                    m.grantor.as_ref().map_or(String::new(), |g| format!(" GRANTED BY {}", sql::ident(g)));
                format!("GRANT {of} TO {member} WITH INHERIT FALSE{by};")
            };
            let reason = format!(
                "it has what {0} may do without entering {0}, added to all else that it is a member of",
                m.role
            );
            Finding::new(LintCode::ServiceInherits, format!("role {role}"), reason, Fix::Sql(fix))
        };
        inherited.map(finding).collect()
    }
}
