//! A [`Document`] and a [`Schema`] into a [`Policy`], or every mistake at once.

mod exists;
mod masks;
mod resolve;
mod sense;
mod truth;
mod types;

use std::collections::{BTreeMap, BTreeSet};

use crate::declared::Declared;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::document::{
    ClaimType, ColumnSet, Command, Document, Effect, Name, Persona, PersonaRight, Rule, Table, Tenancy,
};
use crate::eval::Programs;
use crate::ir::{Floor, Policy, Predicate, Right, TablePolicy};
use crate::schema::{ColumnType, QualifiedName, Schema, TableShape};

/// The most rules of one table. Each is compared with the others of its role and command.
const MAX_RULES: usize = 1000;

/// Checks a document against the tables it speaks of.
///
/// What is no mistake and hardly meant stands in [`Policy::warnings`].
///
/// # Errors
/// Every mistake of the document, at once: [`Code`] 2xx names, 3xx types, 4xx sense.
///
/// # Examples
/// ```
/// use zk_policy::{Code, Column, ColumnType, Document, Scalar, Schema, check};
///
/// let schema = Schema::default().table("public", "orders", [
///     Column::new("tenant_id", ColumnType::Scalar(Scalar::Uuid)).not_null(),
/// ]);
/// let document = Document::parse(
///     "policy shop  role clerk  claim tenant: uuid
///      table orders { tenant tenant_id = claim.tenent  allow clerk select }",
/// ).expect("the syntax is fine");
/// let mistakes = check(&document, &schema).expect_err("no claim is called `tenent`");
/// let first = mistakes.iter().next().expect("never empty");
/// assert_eq!(first.code, Code::UnknownName);
/// assert_eq!(first.help, "did you mean `tenant`?");
/// ```
pub fn check(document: &Document, schema: &Schema) -> Result<Policy, Diagnostics> {
    let (mut diagnostics, mut warnings) = (Diagnostics::default(), Diagnostics::default());
    let closure = resolve::roles(document, &mut diagnostics);
    let claims = resolve::claims(document, &mut diagnostics);
    let mut tables = BTreeMap::new();
    let (mut uses, mut written) = (Vec::new(), Vec::new());
    for table in &document.tables {
        let name = QualifiedName::new(table.name.schema.as_str(), table.name.table.as_str());
        if tables.contains_key(&name) {
            diagnostics.push(
                Diagnostic::new(
                    Code::DuplicateName,
                    table.name.table.span(),
                    format!("table `{name}` is described twice"),
                )
                .help("put all that holds for a table into one block"),
            );
            continue;
        }
        let Some(shape) = schema.find(&name.schema, &name.table) else {
            unknown_table(&name, table.name.table.span(), schema, &mut diagnostics);
            continue;
        };
        let critical = table.critical.iter().collect();
        let mut checker = TableChecker {
            table,
            document,
            schema,
            places: vec![Place { name: name.clone(), shape, critical, used: BTreeSet::new() }],
            claims: &claims,
            roles: &closure,
            uses: Vec::new(),
            written: Vec::new(),
            diagnostics: &mut diagnostics,
        };
        let policy = checker.check();
        uses.append(&mut checker.uses);
        written.push((table, name.clone(), checker.written));
        tables.insert(name, policy);
    }
    let masked = tables.values().flat_map(|table| table.masks.keys().map(|(role, _)| role.as_str()));
    resolve::views(document, masked, &mut diagnostics);
    exists::check_uses(&uses, &tables, &closure, &mut diagnostics);
    masks::check_names(document, &tables, &mut diagnostics);
    for right in document.personas.iter().flat_map(|p| &p.rights) {
        if !document.tables.iter().any(|t| t.name == right.table) {
            let message = format!("`{}` is not in the policy", right.table);
            let diagnostic = Diagnostic::new(Code::UnknownName, right.table.table.span(), message);
            diagnostics.push(diagnostic.help(format!("describe it: `table {} {{ … }}`", right.table)));
        }
    }
    let names: Vec<&Name> =
        document.roles.iter().map(|r| &r.name).chain(document.personas.iter().map(|p| &p.name)).collect();
    for name in names {
        let idle = !tables.values().any(|t| t.rights.keys().any(|(r, _)| r == name.as_str()));
        if idle && diagnostics.is_empty() {
            let message = format!("role `{name}` has no right on any table");
            let diagnostic = Diagnostic::new(Code::IdleRole, name.span(), message);
            diagnostics.push(diagnostic.help("give it an `allow`, or remove it"));
        }
    }
    // A policy with mistakes has others to think of.
    for (table, name, rules) in written.iter().filter(|_| !diagnostics.has_errors()) {
        let Some(policy) = tables.get(name) else { continue };
        let sense = sense::Sense { document, schema, roles: &closure, table, policy, rules };
        sense.warn(&mut warnings);
    }
    diagnostics.or(())?;
    let declared = Declared::from(document);
    for table in tables.values_mut() {
        table.programs = Programs::new(&declared, table);
    }
    Ok(Policy {
        alongside: BTreeSet::new(),
        name: document.name.as_str().to_owned(),
        declared,
        signed: document.signed,
        tables,
        warnings: warnings.sorted(),
    })
}

fn unknown_table(
    name: &QualifiedName,
    span: crate::source::Span,
    schema: &Schema,
    diagnostics: &mut Diagnostics,
) {
    let diagnostic = Diagnostic::new(Code::UnknownName, span, format!("the database has no table `{name}`"));
    let help = diagnostics.suggest(&name.table, schema.table_names(&name.schema)).unwrap_or_else(|| {
        "create the table first, or write its schema: `table schema.name { … }`".to_owned()
    });
    diagnostics.push(diagnostic.help(help));
}

/// Checks one table's block against the table's shape.
struct TableChecker<'a> {
    table: &'a Table,
    document: &'a Document,
    schema: &'a Schema,
    /// The table whose columns a condition names: the table itself, and within an `exists` the other one. Never empty.
    places: Vec<Place<'a>>,
    claims: &'a BTreeMap<String, ClaimType>,
    /// Each declared role with itself and all that it includes.
    roles: &'a BTreeMap<String, BTreeSet<String>>,
    /// Every `exists`, for the checks that need the rules of all tables.
    uses: Vec<exists::Use>,
    /// Every rule, for the warnings about a policy without mistakes.
    written: Vec<sense::Written>,
    diagnostics: &'a mut Diagnostics,
}

/// A table whose columns a condition names.
struct Place<'a> {
    name: QualifiedName,
    shape: &'a TableShape,
    critical: Vec<&'a Name>,
    /// The columns that the condition reads.
    used: BTreeSet<String>,
}

/// What the rules say of one role alone, before inclusion.
#[derive(Default)]
struct Own {
    /// For whom an `allow` is written, also where its condition is mistaken.
    allowed: BTreeSet<(String, Command)>,
    allow: BTreeMap<(String, Command), Vec<Predicate>>,
    deny: BTreeMap<(String, Command), Vec<Predicate>>,
    columns: BTreeMap<(String, Command), BTreeSet<String>>,
}

impl<'a> TableChecker<'a> {
    fn check(&mut self) -> TablePolicy {
        let floor = self.floor();
        let critical = self.critical();
        let own = self.own();
        let mut rights = BTreeMap::new();
        for (role, included) in self.roles {
            for command in Command::ALL {
                let all = |map: &BTreeMap<(String, Command), Vec<Predicate>>| -> Vec<Predicate> {
                    let of = |r: &String| map.get(&(r.clone(), command)).cloned().unwrap_or_default();
                    let mut found: Vec<Predicate> = Vec::new();
                    for predicate in included.iter().flat_map(of) {
                        if !found.contains(&predicate) {
                            found.push(predicate);
                        }
                    }
                    found
                };
                let mut allow = all(&own.allow);
                if allow.is_empty() {
                    continue;
                }
                if allow.contains(&Predicate::Always) {
                    allow = vec![Predicate::Always];
                }
                let columns = included.iter().flat_map(|r| self.columns_of(r, command, &own)).collect();
                rights.insert((role.clone(), command), Right { allow, deny: all(&own.deny), columns });
            }
        }
        let masks = self.masks(&own);
        let columns = self.place().shape.columns().map(|c| c.name.clone()).collect();
        let across = self.personas().map(|(persona, _)| persona.as_str().to_owned()).collect();
        TablePolicy { floor, critical, columns, masks, across, rights, programs: Programs::default() }
    }

    /// The columns that `role` itself brings for `command`: those of its rule, else all if it has its own `allow`.
    fn columns_of(&self, role: &str, command: Command, own: &Own) -> BTreeSet<String> {
        let key = (role.to_owned(), command);
        match own.columns.get(&key) {
            _ if command == Command::Delete => BTreeSet::new(),
            Some(columns) => columns.clone(),
            None if own.allow.contains_key(&key) => self.all_columns(command),
            None => BTreeSet::new(),
        }
    }

    /// Every column that `command` can name; what the server computes cannot be written.
    fn all_columns(&self, command: Command) -> BTreeSet<String> {
        let usable = |c: &&crate::schema::Column| command == Command::Select || !c.generated;
        self.place().shape.columns().filter(usable).map(|c| c.name.clone()).collect()
    }

    fn floor(&mut self) -> Option<Floor> {
        let span = self.table.name.table.span();
        match &self.table.tenancy {
            None => {
                let message = format!("`{}` says neither `tenant` nor `shared`", self.table.name);
                self.diagnostics.push(Diagnostic::new(Code::NoTenancy, span, message).label("whose rows are these?").help(
                    "write `tenant <column> = claim.<claim>`, or `shared` if every tenant may see this table's rows",
                ));
                None
            }
            Some(Tenancy::Shared) => None,
            Some(Tenancy::Tenant { column, claim }) => {
                let (found, place) = self.column(column)?;
                let ty = self.scalar_claim(claim)?;
                if found.nullable {
                    let message =
                        format!("tenant column `{column}` may be NULL: such a row would belong to no one");
                    let help = format!("ALTER TABLE {} ALTER COLUMN {column} SET NOT NULL", self.table.name);
                    let diagnostic = Diagnostic::new(Code::NullableTenant, column.span(), message);
                    self.diagnostics.push(diagnostic.help(help));
                }
                if found.ty != ColumnType::Scalar(ty) {
                    let message =
                        format!("`{column}` is `{}` but claim `{claim}` is `{}`", found.ty, ty.name());
                    self.diagnostics.push(
                        Diagnostic::new(Code::TypeMismatch, column.span().to(claim.span()), message)
                            .help("declare the claim with the column's type"),
                    );
                }
                let (column, claim) = (column.as_str().to_owned(), claim.as_str().to_owned());
                Some(Floor { column, place, claim, ty })
            }
        }
    }

    fn critical(&mut self) -> BTreeSet<String> {
        let mut critical = BTreeSet::new();
        for name in &self.table.critical {
            let Some((column, _)) = self.column(name) else { continue };
            if column.ty != ColumnType::Bytea {
                let message =
                    format!("critical column `{name}` is `{}`, which cannot hold sealed bytes", column.ty);
                self.diagnostics
                    .push(Diagnostic::new(Code::CriticalType, name.span(), message).help("make it `bytea`"));
            }
            if !critical.insert(name.as_str().to_owned()) {
                let message = format!("`{name}` is declared critical twice");
                self.diagnostics.push(Diagnostic::new(Code::Conflict, name.span(), message));
            }
        }
        critical
    }

    fn own(&mut self) -> Own {
        let mut own = Own::default();
        let count = self.table.rules.len();
        if count > MAX_RULES {
            let message =
                format!("`{}` has {count} rules; at most {MAX_RULES} are planned for", self.table.name);
            self.diagnostics.push(Diagnostic::new(Code::Limit, self.table.name.table.span(), message));
            return own;
        }
        for rule in &self.table.rules {
            let known = self.role(&rule.role);
            if rule.effect == Effect::Allow {
                self.refuse_persona(rule);
                own.allowed.extend(rule.commands.iter().map(|c| (rule.role.as_str().to_owned(), *c)));
            }
            let predicate = match &rule.condition {
                None => Some(Predicate::Always),
                Some(expr) => self.predicate(expr),
            };
            for found in self.uses.iter_mut().filter(|found| found.role.is_none()) {
                (found.role, found.commands) = (Some(rule.role.as_str().to_owned()), rule.commands.clone());
            }
            let (true, Some(predicate)) = (known, predicate) else { continue };
            self.written.push(sense::Written {
                effect: rule.effect,
                role: rule.role.as_str().to_owned(),
                commands: rule.commands.clone(),
                predicate: predicate.clone(),
                conditional: rule.condition.is_some(),
                span: rule.role.span(),
            });
            let map = if rule.effect == Effect::Allow { &mut own.allow } else { &mut own.deny };
            for command in &rule.commands {
                map.entry((rule.role.as_str().to_owned(), *command)).or_default().push(predicate.clone());
            }
        }
        let personas: Vec<(&Name, &PersonaRight)> = self.personas().collect();
        for (persona, right) in personas {
            let key = |command: &Command| (persona.as_str().to_owned(), *command);
            own.allowed.extend(right.commands.iter().map(key));
            let predicate = right.condition.as_ref().map_or(Some(Predicate::Always), |c| self.predicate(c));
            for found in self.uses.iter_mut().filter(|found| found.role.is_none()) {
                (found.role, found.commands) = (Some(persona.as_str().to_owned()), right.commands.clone());
            }
            let Some(predicate) = predicate else { continue };
            self.written.push(sense::Written {
                effect: Effect::Allow,
                role: persona.as_str().to_owned(),
                commands: right.commands.clone(),
                predicate: predicate.clone(),
                conditional: right.condition.is_some(),
                span: right.table.table.span(),
            });
            for command in &right.commands {
                own.allow.entry(key(command)).or_default().push(predicate.clone());
            }
        }
        for rule in &self.table.columns {
            let known = self.role(&rule.role);
            let (ColumnSet::Only(names) | ColumnSet::Except(names)) = &rule.columns;
            let found: BTreeSet<String> =
                names.iter().filter_map(|n| self.column(n).map(|(c, _)| c.name.clone())).collect();
            if !known {
                continue;
            }
            for command in &rule.commands {
                let set = match &rule.columns {
                    ColumnSet::Only(_) => found.clone(),
                    ColumnSet::Except(_) => self.all_columns(*command).difference(&found).cloned().collect(),
                };
                self.column_rule(&rule.role, *command, set, &mut own);
            }
        }
        own
    }

    /// SECURITY: a persona passes the tenants' floor, so that all it may do must say `across tenants` where it stands.
    fn refuse_persona(&mut self, rule: &Rule) {
        let role = &rule.role;
        if self.document.personas.iter().any(|persona| persona.name == *role) {
            let message = format!("`{role}` is a persona, which passes the tenants' floor");
            let help = format!("write it in `persona {role} {{ … }}`, where it says `across tenants`");
            self.diagnostics.push(Diagnostic::new(Code::Conflict, role.span(), message).help(help));
        }
    }

    fn column_rule(&mut self, role: &Name, command: Command, set: BTreeSet<String>, own: &mut Own) {
        let key = (role.as_str().to_owned(), command);
        let allowed = self
            .roles
            .get(role.as_str())
            .is_some_and(|included| included.iter().any(|r| own.allowed.contains(&(r.clone(), command))));
        if !allowed {
            let message = format!(
                "`{role}` is never allowed to {} here, so these columns mean nothing",
                command.name()
            );
            let help = format!("add `allow {role} {} …`, or remove this line", command.name());
            self.diagnostics.push(Diagnostic::new(Code::ColumnsWithoutRows, role.span(), message).help(help));
        }
        if own.columns.insert(key, set).is_some() {
            let message = format!("the columns that `{role}` may {} are given twice", command.name());
            let diagnostic = Diagnostic::new(Code::Conflict, role.span(), message);
            self.diagnostics.push(diagnostic.help("keep one of the two lines"));
        }
    }

    /// What personas may do with this table.
    fn personas(&self) -> impl Iterator<Item = (&'a Name, &'a PersonaRight)> + use<'a> {
        let (document, table) = (self.document, self.table);
        let of = move |p: &'a Persona| p.rights.iter().map(move |right| (&p.name, right));
        document.personas.iter().flat_map(of).filter(move |(_, right)| right.table == table.name)
    }

    fn place(&self) -> &Place<'a> {
        #[expect(
            clippy::expect_used,
            reason = "INVARIANT: `places` begins with the table and every push is popped"
        )]
        self.places.last().expect("a table is being checked")
    }

    /// Remembers that the condition reads a column.
    fn note(&mut self, column: &str) {
        if let Some(place) = self.places.last_mut() {
            place.used.insert(column.to_owned());
        }
    }

    fn role(&mut self, name: &Name) -> bool {
        let known = self.roles.contains_key(name.as_str());
        if !known {
            let candidates = self.roles.keys().map(String::as_str);
            self.diagnostics.push(resolve::unknown("role", name, candidates, self.diagnostics));
        }
        known
    }
}
