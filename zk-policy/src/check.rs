//! A [`Document`] and a [`Schema`] into a [`Policy`], or every mistake at once.

mod circles;
mod exists;
mod masks;
mod resolve;
mod rights;
mod roles;
mod sense;
mod table;
mod truth;
mod types;

use std::collections::{BTreeMap, BTreeSet};

use crate::declared::Declared;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::document::{Document, Name, PersonaRight, Table, TableName};
use crate::ir::{Policy, TablePolicy};
use crate::schema::{QualifiedName, Schema};
use crate::source::Span;
use table::TableChecker;

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
    let mut diagnostics = Diagnostics::default();
    let Some(roles) = resolve::roles(document, &mut diagnostics) else { return Err(diagnostics) };
    let claims = resolve::claims(document, &mut diagnostics);
    let index = Index::new(document);
    let mut room = rights::Room::default();
    let mut tables = BTreeMap::new();
    let (mut uses, mut written) = (Vec::new(), Vec::new());
    for table in &document.tables {
        let name = QualifiedName::new(table.name.schema.as_str(), table.name.table.as_str());
        if tables.contains_key(&name) {
            let message = format!("table `{name}` is described twice");
            let diagnostic = Diagnostic::new(Code::DuplicateName, table.name.table.span(), message);
            diagnostics.push(diagnostic.help("put all that holds for a table into one block"));
            continue;
        }
        let Some(shape) = schema.find(&name.schema, &name.table) else {
            unknown_table(&name, table.name.table.span(), schema, &mut diagnostics);
            continue;
        };
        let mut checker = TableChecker {
            table,
            document,
            schema,
            index: &index,
            places: vec![table::Place::new(name.clone(), shape, Some(table))],
            claims: &claims,
            roles: &roles,
            uses: Vec::new(),
            written: Vec::new(),
            diagnostics: &mut diagnostics,
        };
        let policy = checker.check(&mut room);
        uses.append(&mut checker.uses);
        written.push((table, name.clone(), checker.written));
        tables.insert(name, policy);
        if room.is_exceeded() {
            return Err(diagnostics.sorted());
        }
    }
    let masked = tables.values().flat_map(|table| table.masks.keys().map(String::as_str));
    resolve::views(document, masked, &mut diagnostics);
    exists::check_uses(&uses, &tables, &roles, &mut diagnostics);
    circles::check(&uses, &tables, &roles, &mut diagnostics);
    masks::check_names(document, &tables, &mut diagnostics);
    personas(document, &index, &mut diagnostics);
    // Where something else is wrong, that may be why a role has no right.
    if !diagnostics.has_errors() {
        idle(document, &tables, &mut diagnostics);
    }
    diagnostics.or(())?;
    let warnings = sense::warnings(document, schema, &roles, &written, &tables);
    Ok(Policy {
        alongside: BTreeSet::new(),
        name: document.name.as_str().to_owned(),
        declared: Declared::from(document),
        signed: document.signed,
        tables,
        warnings: warnings.sorted(),
    })
}

/// What of a document is looked up by name.
struct Index<'d> {
    tables: BTreeMap<(&'d str, &'d str), &'d Table>,
    personas: BTreeSet<&'d str>,
    /// What personas may do with a table, in the order of the document.
    rights: BTreeMap<(&'d str, &'d str), Vec<(&'d Name, &'d PersonaRight)>>,
}

impl<'d> Index<'d> {
    fn new(document: &'d Document) -> Self {
        let mut tables = BTreeMap::new();
        for table in &document.tables {
            tables.entry(key(&table.name)).or_insert(table);
        }
        let mut rights: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for persona in &document.personas {
            for right in &persona.rights {
                rights.entry(key(&right.table)).or_default().push((&persona.name, right));
            }
        }
        let personas = document.personas.iter().map(|persona| persona.name.as_str()).collect();
        Self { tables, personas, rights }
    }

    fn table(&self, name: &TableName) -> Option<&'d Table> {
        self.tables.get(&key(name)).copied()
    }
}

fn key(name: &TableName) -> (&str, &str) {
    (name.schema.as_str(), name.table.as_str())
}

/// What personas may do is said of tables that the policy describes.
fn personas(document: &Document, index: &Index<'_>, diagnostics: &mut Diagnostics) {
    for right in document.personas.iter().flat_map(|persona| &persona.rights) {
        if index.table(&right.table).is_none() {
            let message = format!("`{}` is not in the policy", right.table);
            let diagnostic = Diagnostic::new(Code::UnknownName, right.table.table.span(), message);
            diagnostics.push(diagnostic.help(format!("describe it: `table {} {{ … }}`", right.table)));
        }
    }
}

/// Roles without any right.
fn idle(document: &Document, tables: &BTreeMap<QualifiedName, TablePolicy>, diagnostics: &mut Diagnostics) {
    let active: BTreeSet<&str> =
        tables.values().flat_map(|table| table.rights.keys().map(String::as_str)).collect();
    let roles = document.roles.iter().map(|role| &role.name);
    for name in roles.chain(document.personas.iter().map(|persona| &persona.name)) {
        if !active.contains(name.as_str()) {
            let message = format!("role `{name}` has no right on any table");
            let diagnostic = Diagnostic::new(Code::IdleRole, name.span(), message);
            diagnostics.push(diagnostic.help("give it an `allow`, or remove it"));
        }
    }
}

fn unknown_table(name: &QualifiedName, span: Span, schema: &Schema, diagnostics: &mut Diagnostics) {
    let diagnostic = Diagnostic::new(Code::UnknownName, span, format!("the database has no table `{name}`"));
    let help = diagnostics.suggest(&name.table, schema.table_names(&name.schema)).unwrap_or_else(|| {
        "create the table first, or write its schema: `table schema.name { … }`".to_owned()
    });
    diagnostics.push(diagnostic.help(help));
}
