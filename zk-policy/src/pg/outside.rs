//! Other ways to the rows of tables: views over them, functions with their owner's rights, tables above and below them. As
//! data, which drift and lint put into words.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Row, Transaction};

use super::{Error, signed};
use crate::schema::QualifiedName;

pub(super) struct Outside {
    pub(super) views: Vec<View>,
    /// Those with their owner's rights, and those that are trusted not to leak.
    pub(super) functions: Vec<Function>,
    pub(super) relatives: Vec<Relative>,
}

/// A view that reads with other rights than those of who asks it, or a copy.
pub(super) struct View {
    pub(super) name: QualifiedName,
    pub(super) owner: String,
    pub(super) materialised: bool,
    /// Whether it holds or reads a copy, which no policy guards.
    pub(super) copy: bool,
    /// With whose rights the tables are read: those of the lowest view on the way that does not ask with its reader's.
    pub(super) reads_as: String,
    pub(super) power: Option<Power>,
    /// Whom its owner gave something on it.
    pub(super) grantees: Vec<String>,
    pub(super) tables: String,
}

pub(super) struct Function {
    /// With its arguments, as one writes it.
    pub(super) name: String,
    pub(super) procedure: bool,
    pub(super) definer: bool,
    pub(super) leakproof: bool,
    /// A trigger's function cannot be called: who fires it chooses neither its arguments nor its moment.
    pub(super) trigger: bool,
    pub(super) pins_search_path: bool,
    pub(super) owner: String,
    pub(super) power: Option<Power>,
    /// Who else may call it.
    pub(super) grantees: Vec<String>,
    /// The tables that its body names.
    pub(super) tables: Vec<String>,
}

/// A partition, child or parent of the tables that is none of them.
pub(super) struct Relative {
    pub(super) name: QualifiedName,
    pub(super) above: bool,
    pub(super) foreign: bool,
    /// Whether row-level security is forced on it.
    pub(super) covered: bool,
    /// Whether it shows rows: row-level security is off, or one of its policies permits.
    pub(super) shows: bool,
    pub(super) grantees: Vec<String>,
    pub(super) tables: String,
}

/// What makes the rights of an owner a way around the policy.
#[derive(Clone)]
pub(super) enum Power {
    /// A superuser, or one with BYPASSRLS.
    Unbound,
    /// It is this role of the policy or has its rights: what the policy gives to that role, it gives to whoever asks.
    Role(String),
    /// It owns tables, or has the rights of this owner: it can switch row-level security off.
    Owner(String),
}

impl Power {
    /// Whether a query with it shows rows. The owner of a table is bound where row-level security is forced.
    pub(super) fn shows(&self) -> bool {
        !matches!(self, Self::Owner(_))
    }

    /// Puts it into words for an owner of that name.
    pub(super) fn of(&self, owner: &str) -> String {
        let (whose, what) = match self {
            Self::Unbound => return format!("{owner}, whom no rule binds"),
            Self::Role(role) => (role, "a role of the policy"),
            Self::Owner(role) => (role, "an owner of the policy's tables"),
        };
        if whose == owner {
            format!("{owner}, {what}")
        } else {
            format!("{owner}, who has the rights of {whose}, {what}")
        }
    }
}

/// Whom somebody could be asked about: the tables, and the roles that the policy gives rows of them.
pub(super) struct Guarded<'a> {
    pub(super) tables: BTreeMap<u32, &'a QualifiedName>,
    pub(super) roles: Vec<&'a str>,
}

impl Guarded<'_> {
    pub(super) async fn outside(&self, transaction: &Transaction<'_>) -> Result<Outside, Error> {
        let mut outside = Outside {
            views: self.views(transaction).await?,
            functions: self.functions(transaction).await?,
            relatives: self.relatives(transaction).await?,
        };
        let owners = outside.views.iter().map(|view| &view.reads_as);
        let owners =
            owners.chain(outside.functions.iter().map(|function| &function.owner)).cloned().collect();
        let powers = self.powers(transaction, owners).await?;
        for view in &mut outside.views {
            view.power = powers.get(&view.reads_as).cloned();
        }
        for function in &mut outside.functions {
            function.power = powers.get(&function.owner).cloned();
        }
        Ok(outside)
    }

    /// Views over the tables, and views over those. One that asks with its reader's rights is none: its reader needs them.
    async fn views(&self, transaction: &Transaction<'_>) -> Result<Vec<View>, Error> {
        let rows = transaction
            .query(
                "WITH RECURSIVE above (oid, base, reads_as, copy, invoker) AS (
                   SELECT o, o, NULL::oid, false, false FROM unnest($1::oid[]) AS o
                   UNION
                   SELECT v.oid, a.base, coalesce(a.reads_as, CASE WHEN NOT i.invoker THEN v.relowner END),
                          a.copy OR v.relkind = 'm', i.invoker
                   FROM above a
                   JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.oid
                     AND d.classid = 'pg_rewrite'::regclass
                   JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm')
                   CROSS JOIN LATERAL (SELECT coalesce((SELECT option_value::bool FROM pg_options_to_table(v.reloptions)
                                                        WHERE option_name = 'security_invoker'), false)) AS i (invoker))
                 SELECT n.nspname::text, v.relname::text, v.relkind = 'm', a.copy, r.rolname::text, o.rolname::text,
                        ARRAY(SELECT DISTINCT coalesce(g.rolname::text, 'public')
                              FROM (SELECT e.grantee FROM aclexplode(v.relacl) e
                                    UNION SELECT e.grantee FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) e
                                    WHERE t.attrelid = v.oid) x
                              LEFT JOIN pg_roles g ON g.oid = x.grantee WHERE x.grantee <> v.relowner ORDER BY 1),
                        string_agg(DISTINCT b.oid::regclass::text, ', ')
                 FROM above a JOIN pg_class v ON v.oid = a.oid AND v.oid <> a.base JOIN pg_class b ON b.oid = a.base
                 JOIN pg_namespace n ON n.oid = v.relnamespace
                 JOIN pg_roles r ON r.oid = a.reads_as JOIN pg_roles o ON o.oid = v.relowner
                 WHERE NOT a.invoker
                 GROUP BY v.oid, v.relacl, v.relowner, 1, 2, 3, 4, 5, 6 ORDER BY 1, 2",
                &[&self.oids()],
            )
            .await?;
        let view = |row: &Row| -> Result<View, Error> {
            Ok(View {
                name: name(row)?,
                materialised: row.try_get(2)?,
                copy: row.try_get(3)?,
                reads_as: row.try_get(4)?,
                power: None,
                owner: row.try_get(5)?,
                grantees: row.try_get(6)?,
                tables: row.try_get(7)?,
            })
        };
        rows.iter().map(view).collect()
    }

    /// Of all schemas but the system's. What an extension brings is the extension's to answer for.
    async fn functions(&self, transaction: &Transaction<'_>) -> Result<Vec<Function>, Error> {
        let rows = transaction
            .query(
                "SELECT f.oid::regprocedure::text, f.prokind = 'p', f.prosecdef, f.proleakproof,
                        f.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype),
                        EXISTS (SELECT FROM unnest(f.proconfig) AS c WHERE c LIKE 'search_path=%'), r.rolname::text,
                        ARRAY(SELECT DISTINCT coalesce(g.rolname::text, 'public')
                              FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                              LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE a.grantee <> f.proowner ORDER BY 1),
                        f.prosrc,
                        ARRAY(SELECT d.refobjid FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
                              AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY ($1))
                 FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_roles r ON r.oid = f.proowner
                 WHERE (f.prosecdef OR f.proleakproof) AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
                   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
                                   AND d.deptype = 'e')
                 ORDER BY 1",
                &[&self.oids()],
            )
            .await?;
        let mut functions = Vec::new();
        for row in &rows {
            let (name, body): (String, &str) = (row.try_get(0)?, row.try_get(8)?);
            let pins_search_path: bool = row.try_get(5)?;
            // Our own tell a session nothing but its own claims; that holds for the bodies that we wrote and for no other.
            if pins_search_path && signed::is_installed_body(&name, body) {
                continue;
            }
            let (words, used) = (Words::of(body), row.try_get::<_, Vec<u32>>(9)?);
            let named =
                self.tables.iter().filter(|(oid, table)| used.contains(oid) || words.name(&table.table));
            functions.push(Function {
                name,
                procedure: row.try_get(1)?,
                definer: row.try_get(2)?,
                leakproof: row.try_get(3)?,
                trigger: row.try_get(4)?,
                pins_search_path,
                owner: row.try_get(6)?,
                power: None,
                grantees: row.try_get(7)?,
                tables: named.map(|(_, table)| table.to_string()).collect(),
            });
        }
        Ok(functions)
    }

    async fn relatives(&self, transaction: &Transaction<'_>) -> Result<Vec<Relative>, Error> {
        let rows = transaction
            .query(
                "WITH RECURSIVE relative (oid, base, above) AS (
                   SELECT o, o, up FROM unnest($1::oid[]) AS o CROSS JOIN (VALUES (true), (false)) AS way (up)
                   UNION
                   SELECT CASE WHEN r.above THEN i.inhparent ELSE i.inhrelid END, r.base, r.above FROM relative r
                   JOIN pg_inherits i ON r.oid = CASE WHEN r.above THEN i.inhrelid ELSE i.inhparent END)
                 SELECT n.nspname::text, c.relname::text, r.above, c.relkind = 'f', c.relrowsecurity AND c.relforcerowsecurity,
                        NOT c.relrowsecurity OR EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive),
                        ARRAY(SELECT DISTINCT coalesce(g.rolname::text, 'public')
                              FROM (SELECT e.grantee FROM aclexplode(c.relacl) e
                                    UNION SELECT e.grantee FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) e
                                    WHERE t.attrelid = c.oid) x
                              LEFT JOIN pg_roles g ON g.oid = x.grantee WHERE x.grantee <> c.relowner ORDER BY 1),
                        string_agg(DISTINCT r.base::regclass::text, ', ')
                 FROM relative r JOIN pg_class c ON c.oid = r.oid JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.oid <> ALL ($1) GROUP BY c.oid, c.relacl, c.relowner, c.relrowsecurity, 1, 2, 3, 4, 5 ORDER BY 1, 2",
                &[&self.oids()],
            )
            .await?;
        let relative = |row: &Row| -> Result<Relative, Error> {
            Ok(Relative {
                name: name(row)?,
                above: row.try_get(2)?,
                foreign: row.try_get(3)?,
                covered: row.try_get(4)?,
                shows: row.try_get(5)?,
                grantees: row.try_get(6)?,
                tables: row.try_get(7)?,
            })
        };
        rows.iter().map(relative).collect()
    }

    /// What the rights of these owners are worth. Code that runs with its owner's rights cannot enter another role, so
    /// rights that are inherited count and those that entering would give do not.
    async fn powers(
        &self,
        transaction: &Transaction<'_>,
        owners: BTreeSet<String>,
    ) -> Result<BTreeMap<String, Power>, Error> {
        let owners: Vec<String> = owners.into_iter().collect();
        let rows = transaction
            .query(
                "SELECT o.rolname::text, o.rolsuper OR o.rolbypassrls,
                        (SELECT r.rolname::text FROM pg_roles r WHERE r.rolname::text = ANY ($2)
                         AND pg_has_role(o.oid, r.oid, 'USAGE') ORDER BY r.oid <> o.oid, 1 LIMIT 1),
                        (SELECT r.rolname::text FROM pg_roles r
                         WHERE r.oid IN (SELECT c.relowner FROM pg_class c WHERE c.oid = ANY ($3))
                         AND pg_has_role(o.oid, r.oid, 'USAGE') ORDER BY r.oid <> o.oid, 1 LIMIT 1)
                 FROM pg_roles o WHERE o.rolname::text = ANY ($1)",
                &[&owners, &self.roles, &self.oids()],
            )
            .await?;
        let mut powers = BTreeMap::new();
        for row in &rows {
            let (role, owner): (Option<String>, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
            let unbound: bool = row.try_get(1)?;
            let bound = role.map(Power::Role).or(owner.map(Power::Owner));
            if let Some(power) = if unbound { Some(Power::Unbound) } else { bound } {
                powers.insert(row.try_get(0)?, power);
            }
        }
        Ok(powers)
    }

    fn oids(&self) -> Vec<u32> {
        self.tables.keys().copied().collect()
    }
}

fn name(row: &Row) -> Result<QualifiedName, Error> {
    Ok(QualifiedName { schema: row.try_get(0)?, table: row.try_get(1)? })
}

/// The words of a function's body. Whether one in another language reads a table cannot be known: that its text names the
/// table, in whatever case, has to do.
struct Words {
    text: String,
    words: BTreeSet<String>,
}

impl Words {
    fn of(body: &str) -> Self {
        let text = body.to_lowercase();
        let words = text.split(|c: char| !is_of_word(c)).map(str::to_owned).collect();
        Self { text, words }
    }

    fn name(&self, table: &str) -> bool {
        let table = table.to_lowercase();
        if table.chars().all(is_of_word) {
            return self.words.contains(&table);
        }
        self.text.contains(&table) || self.text.contains(&table.replace('"', "\"\""))
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, table: &str, named: bool) {
        assert_eq!(Words::of(body).name(table), named, "{body}: {table}");
    }

    #[test]
    fn bodies_name_tables_by_whole_words() {
        check("SELECT count(*) FROM PUBLIC.CUSTOMERS", "customers", true);
        check("SELECT 1 /* customers_old */", "customers", false);
        check("DELETE FROM \"Größe\"", "Größe", true);
        check("SELECT FROM \"x\"\"; --\"", "x\"; --", true);
        check("SELECT FROM x", "x y", false);
    }
}
