//! What every topic asks for: the policy's tables as they are, its roles, and who holds what on the tables.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Row, Transaction};

use super::super::Error;
use super::super::outside::{Guarded, Outside};
use crate::catalog::{Privilege, State};
use crate::compile::compile;
use crate::ir::Policy;
use crate::plan::role_mark;
use crate::schema::QualifiedName;

pub(super) struct Scope {
    /// What the policy wants: objects of these names are ours, and the plan speaks of them.
    pub(super) wanted: State,
    /// The PostgreSQL roles of the policy.
    pub(super) roles: BTreeSet<String>,
    /// By object id.
    pub(super) tables: BTreeMap<u32, Table>,
    /// As `server_version_num` counts.
    pub(super) version: i32,
}

/// A table of the policy.
pub(super) struct Table {
    pub(super) name: QualifiedName,
    /// Number and name of the tenant column; none for a shared table.
    pub(super) tenant: Option<(i16, String)>,
    pub(super) owner: String,
    pub(super) row_security: bool,
    pub(super) forced: bool,
    /// What others than the owner hold.
    pub(super) entries: Vec<Entry>,
}

/// One privilege of one role.
pub(super) struct Entry {
    pub(super) role: String,
    pub(super) privilege: Privilege,
    /// None for the whole table.
    pub(super) columns: Option<BTreeSet<String>>,
    pub(super) grantable: bool,
}

impl Scope {
    pub(super) async fn read(
        transaction: &Transaction<'_>,
        policy: &Policy,
        version: i32,
    ) -> Result<Self, Error> {
        let wanted = compile(policy);
        let mut roles: BTreeSet<String> = wanted.roles.keys().cloned().collect();
        let marked = "SELECT rolname::text FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = $1";
        for row in transaction.query(marked, &[&role_mark(policy.name())]).await? {
            roles.insert(row.try_get(0)?);
        }
        let tables = tables(transaction, policy).await?;
        let mut scope = Self { wanted, roles, tables, version };
        if let Some(gone) = policy.tables().find(|name| !scope.tables.values().any(|t| t.name == **name)) {
            return Err(Error::missing_table(gone));
        }
        scope.read_entries(transaction).await?;
        Ok(scope)
    }

    /// Other ways to the rows of the tables.
    pub(super) async fn outside(&self, transaction: &Transaction<'_>) -> Result<Outside, Error> {
        let tables = self.tables.iter().map(|(oid, table)| (*oid, &table.name)).collect();
        Guarded { tables, roles: self.role_names() }.outside(transaction).await
    }

    pub(super) fn oids(&self) -> Vec<u32> {
        self.tables.keys().copied().collect()
    }

    /// The number of each table's tenant column, in the order of [`oids`](Self::oids); 0 for a shared table.
    pub(super) fn tenants(&self) -> Vec<i16> {
        self.tables.values().map(|t| t.tenant.as_ref().map_or(0, |(number, _)| *number)).collect()
    }

    /// Whether a policy of that name on that table is the plan's to speak of.
    pub(super) fn wants_policy(&self, table: &QualifiedName, name: &str) -> bool {
        self.wanted.policy(table, name).is_some()
    }

    /// The names of the policies that are wanted, on whatever table.
    pub(super) fn policy_names(&self) -> Vec<&str> {
        let names = self.wanted.tables.values().flat_map(|table| table.policies.keys().map(String::as_str));
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn role_names(&self) -> Vec<&str> {
        self.roles.iter().map(String::as_str).collect()
    }

    /// Whether somebody who is bound by policies may choose the value of one of these columns, now or by the policy.
    pub(super) fn may_write(&self, table: &Table, columns: &[String]) -> bool {
        let writes = |p: Privilege| matches!(p, Privilege::Insert | Privilege::Update);
        let held = table.entries.iter().any(|e| {
            writes(e.privilege)
                && e.columns.as_ref().is_none_or(|held| columns.iter().any(|c| held.contains(c)))
        });
        held || self.wanted.tables.get(&table.name).is_some_and(|wanted| {
            let chosen = |c: &Option<String>| c.as_ref().is_none_or(|c| columns.contains(c));
            wanted.grants.iter().any(|g| writes(g.privilege) && chosen(&g.column))
        })
    }

    /// The roles that hold a privilege on any part of the table, now or by the policy.
    pub(super) fn holders<'a>(&'a self, table: &'a Table, privilege: Privilege) -> BTreeSet<&'a str> {
        let held = table.entries.iter().filter(|e| e.privilege == privilege).map(|e| e.role.as_str());
        let wanted = self.wanted.tables.get(&table.name).into_iter().flat_map(|t| &t.grants);
        held.chain(wanted.filter(|g| g.privilege == privilege).map(|g| g.role.as_str())).collect()
    }

    async fn read_entries(&mut self, transaction: &Transaction<'_>) -> Result<(), Error> {
        let rows = transaction
            .query(
                "SELECT c.oid, coalesce(g.rolname::text, 'public'), a.privilege_type, a.is_grantable, NULL::text[]
                 FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
                 WHERE c.oid = ANY ($1) AND a.grantee <> c.relowner
                 UNION ALL
                 SELECT c.oid, coalesce(g.rolname::text, 'public'), a.privilege_type, a.is_grantable,
                        array_agg(t.attname::text)
                 FROM pg_class c
                 JOIN pg_attribute t ON t.attrelid = c.oid AND t.attacl IS NOT NULL AND NOT t.attisdropped
                 CROSS JOIN LATERAL aclexplode(t.attacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
                 WHERE c.oid = ANY ($1) AND a.grantee <> c.relowner
                 GROUP BY 1, 2, 3, 4",
                &[&self.oids()],
            )
            .await?;
        for row in &rows {
            let privilege: String = row.try_get(2)?;
            let columns: Option<Vec<String>> = row.try_get(4)?;
            let entry = Entry {
                role: row.try_get(1)?,
                privilege: self::privilege(&privilege),
                columns: columns.map(|c| c.into_iter().collect()),
                grantable: row.try_get(3)?,
            };
            if let Some(table) = self.tables.get_mut(&row.try_get(0)?) {
                table.entries.push(entry);
            }
        }
        Ok(())
    }
}

async fn tables(transaction: &Transaction<'_>, policy: &Policy) -> Result<BTreeMap<u32, Table>, Error> {
    let (mut schemas, mut names, mut tenants) = (Vec::new(), Vec::new(), Vec::new());
    for (name, table) in &policy.tables {
        schemas.push(name.schema.as_str());
        names.push(name.table.as_str());
        tenants.push(table.floor.as_ref().map(|floor| floor.column.as_str()));
    }
    let rows = transaction
        .query(
            "SELECT n.nspname::text, c.relname::text, c.oid, pg_get_userbyid(c.relowner)::text, c.relrowsecurity,
                    c.relforcerowsecurity, t.attnum, t.attname::text
             FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (schema, name, tenant)
             JOIN pg_namespace n ON n.nspname = wanted.schema
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind IN ('r', 'p')
             LEFT JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname = wanted.tenant AND NOT t.attisdropped",
            &[&schemas, &names, &tenants],
        )
        .await?;
    let mut tables = BTreeMap::new();
    for row in &rows {
        let tenant: (Option<i16>, Option<String>) = (row.try_get(6)?, row.try_get(7)?);
        let table = Table {
            name: name(row)?,
            tenant: tenant.0.zip(tenant.1),
            owner: row.try_get(3)?,
            row_security: row.try_get(4)?,
            forced: row.try_get(5)?,
            entries: Vec::new(),
        };
        tables.insert(row.try_get(2)?, table);
    }
    Ok(tables)
}

/// The name in a row's first two columns.
pub(super) fn name(row: &Row) -> Result<QualifiedName, Error> {
    Ok(QualifiedName::new(row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?))
}

fn privilege(keyword: &str) -> Privilege {
    match keyword {
        "SELECT" => Privilege::Select,
        "INSERT" => Privilege::Insert,
        "UPDATE" => Privilege::Update,
        "DELETE" => Privilege::Delete,
        "TRUNCATE" => Privilege::Truncate,
        "REFERENCES" => Privilege::References,
        "MAINTAIN" => Privilege::Maintain,
        _ => Privilege::Trigger,
    }
}
