//! The rules as a WHERE condition with parameters, for databases and queries that row-level security does not guard.

use crate::document::{ClaimType, Command};
use crate::eval::Guard;
use crate::ir::Policy;
use crate::schema::QualifiedName;
use crate::session::Session;
use crate::sql::predicate::{self, Of, Source};

/// A condition over the columns of one table, and the values of its parameters.
///
/// The parameters are texts (NULL for a claim that the session lacks) and are cast within the SQL, so that any driver can
/// bind them: `("tenant_id" = $1::text::uuid)`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// The condition. It names columns without their table; claims are `$1`, `$2` and so on.
    pub sql: String,
    /// The values of the parameters, in order.
    pub parameters: Vec<Option<String>>,
}

impl Guard<'_> {
    /// The condition for the rows that `command` may touch in this session: the tenant's floor, what is allowed and what
    /// is denied. It is `false` when the role has no right, or the session was made for another policy.
    ///
    /// ```
    /// # use zk_policy::{Column, ColumnType, Command, Document, Scalar, Schema, Session, check};
    /// # let schema = Schema::default().table("public", "notes", [
    /// #     Column::new("tenant", ColumnType::Scalar(Scalar::Text)).not_null()]);
    /// # let document = Document::parse("policy p role r claim tenant: text
    /// #     table notes { tenant tenant = claim.tenant allow r select }")?;
    /// # let policy = check(&document, &schema)?;
    /// let session = Session::new(&document, "r")?.claim("tenant", "acme")?;
    /// let filter = policy.guard("public", "notes").expect("it is there").filter(&session, Command::Select);
    /// assert_eq!(filter.sql, "((\"tenant\" = $1::text::text) AND true)");
    /// assert_eq!(filter.parameters, [Some("acme".to_owned())]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn filter(&self, session: &Session, command: Command) -> Filter {
        let mut parameters = Parameters { policy: self.policy, session, values: Vec::new() };
        let sql = match session.role_in(&self.policy.declared) {
            Some(_) => parameters.rows(*self, command, None),
            None => "false".to_owned(),
        };
        Filter { sql, parameters: parameters.values.into_iter().map(|(_, value)| value).collect() }
    }
}

/// Claims as parameters, each once.
struct Parameters<'a> {
    policy: &'a Policy,
    session: &'a Session,
    /// Name and value.
    values: Vec<(String, Option<String>)>,
}

impl Parameters<'_> {
    fn rows(&mut self, guard: Guard<'_>, command: Command, of: Of) -> String {
        let Some(right) = guard.right(self.session.role(), command) else { return "false".to_owned() };
        let mut conditions = Vec::new();
        conditions.extend(guard.floor(self.session.role()).map(|floor| predicate::floor(floor, of, self)));
        conditions.push(predicate::any(&right.allow, of, self));
        if !right.deny.is_empty() {
            conditions.push(predicate::none(&right.deny, of, self));
        }
        format!("({})", conditions.join(" AND "))
    }
}

impl Source for Parameters<'_> {
    fn claim(&mut self, name: &str, ty: ClaimType) -> String {
        let known = self.values.iter().position(|(claim, _)| claim == name);
        let place = known.unwrap_or_else(|| {
            self.values.push((name.to_owned(), self.session.text(name).map(str::to_owned)));
            self.values.len() - 1
        });
        let parameter = format!("${}::text::{ty}", place + 1);
        if matches!(ty, ClaimType::Many { .. }) { format!("({parameter})") } else { parameter }
    }

    fn visible(&mut self, table: &QualifiedName) -> Option<String> {
        let policy = self.policy;
        let table = policy.tables.get(table)?;
        let asked = self.asked();
        Some(self.rows(Guard { policy, table }, Command::Select, Some(asked)))
    }
}
