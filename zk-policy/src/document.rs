//! A policy as written: the tree that the text parser makes, that a studio posts as JSON, and that prints back.

mod comments;
mod expr;
mod lexer;
mod parser;
mod print;
#[cfg(test)]
mod schema;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::source::Span;
use comments::Comments;

pub use expr::{Expr, Literal, Op, Term};

/// The longest text or JSON that is read, in bytes.
const MAX_SOURCE: usize = 4 << 20;
/// How much is repeated of what another library says, in characters.
const MAX_MESSAGE: usize = 300;

/// Words that are never names unless quoted, because a reader could take them for something else.
const RESERVED: [&str; 16] = [
    "policy", "role", "claim", "claims", "table", "persona", "where", "and", "or", "not", "in", "is",
    "exists", "null", "true", "false",
];

/// A name with its place in the text. Two names are equal when they spell the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Name {
    text: String,
    #[serde(skip)]
    span: Span,
}

impl Name {
    pub(crate) fn new(text: impl Into<String>, span: Span) -> Self {
        Self { text: text.into(), span }
    }

    /// The name, exactly as PostgreSQL spells it (unquoted names are folded to lower case, as PostgreSQL does).
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where it stands in the text.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text, Span::NONE)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A table's name with its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a document is plain data, built by hand in tests and studios")]
pub struct TableName {
    /// The schema; `public` when the text names none.
    pub schema: Name,
    /// The table.
    pub table: Name,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// A whole policy document.
///
/// ```
/// use zk_policy::Document;
///
/// let text = "policy shop\nrole clerk\nclaim tenant: uuid\n\
///             table orders { tenant tenant_id = claim.tenant  allow clerk select }";
/// let document = Document::parse(text).expect("no syntax errors");
/// assert_eq!(document.name.as_str(), "shop");
/// assert_eq!(Document::parse(&document.to_string()).expect("prints what it parses"), document);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a document is plain data, built by hand in tests and studios")]
pub struct Document {
    /// The policy's name; its PostgreSQL roles are called `<name>_<role>`.
    pub name: Name,
    /// The roles that people and services act as.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// The typed facts about a session that rules may use.
    #[serde(default)]
    pub claims: Vec<Claim>,
    /// Whether sessions must sign their claims.
    #[serde(default, rename = "claims_signed")]
    pub signed: bool,
    /// What holds for each table.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// Roles that act across tenants.
    #[serde(default)]
    pub personas: Vec<Persona>,
}

impl Document {
    /// Parses the text of a policy.
    ///
    /// # Errors
    /// Every mistake in the text, at once: [`Code`](crate::Code) 1xx.
    pub fn parse(source: &str) -> Result<Self, Diagnostics> {
        Ok(parser::parse(source)?.document)
    }

    /// Reads the JSON form of a policy: what [`serde`] makes of a document that has a text, and nothing else. Its diagnostics
    /// have no places.
    ///
    /// ```
    /// use zk_policy::{Code, Document};
    ///
    /// let document = Document::from_json(br#"{ "name": "shop", "roles": [{ "name": "clerk" }] }"#)?;
    /// assert_eq!(document, Document::parse("policy shop role clerk")?);
    /// let mistakes = Document::from_json(br#"{ "nam": "shop" }"#).expect_err("no such field");
    /// assert_eq!(mistakes.iter().next().map(|d| d.code), Some(Code::Json));
    /// # Ok::<(), zk_policy::Diagnostics>(())
    /// ```
    ///
    /// # Errors
    /// [`Code::Json`](crate::Code::Json), [`Code::Limit`](crate::Code::Limit), and what
    /// [`parse`](Self::parse) says of the same document as text.
    pub fn from_json(json: &[u8]) -> Result<Self, Diagnostics> {
        let refuse = |code, message, help: &str| {
            Diagnostics::one(Diagnostic::new(code, Span::NONE, message).help(help))
        };
        if json.len() > MAX_SOURCE {
            let message = format!("the JSON is longer than {MAX_SOURCE} bytes");
            return Err(refuse(Code::Limit, message, "split it into several policies"));
        }
        let help = "docs/src/policy.schema.json says what a document has";
        let document: Self = serde_json::from_slice(json).map_err(|error| {
            let error: String = error.to_string().chars().take(MAX_MESSAGE).collect();
            refuse(Code::Json, format!("this is no policy document: {error}"), help)
        })?;
        // The text is the measure: what it cannot say, an empty list of commands or a name of two lines, is no policy.
        if Self::parse(&document.to_string()).map_err(Diagnostics::without_places)? != document {
            let message =
                "this is no policy document: an `and` or `or` of fewer than two conditions".to_owned();
            return Err(refuse(Code::Json, message, "write the one condition without them"));
        }
        Ok(document)
    }

    /// Rewrites the text of a policy in its canonical form and keeps its comments: one at the end of a line stays with what
    /// it stands behind, any other with what it precedes.
    ///
    /// ```
    /// use zk_policy::Document;
    ///
    /// let text = "policy shop # of toys\n# who sells\nROLE clerk\n";
    /// assert_eq!(Document::format(text)?, "policy shop  # of toys\n\n# who sells\nrole clerk\n");
    /// # Ok::<(), zk_policy::Diagnostics>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse).
    pub fn format(source: &str) -> Result<String, Diagnostics> {
        let text = parser::parse(source)?;
        Ok(print::print(&text.document, &Comments::attach(source, &text.comments, &text.places)))
    }
}

/// A declared role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a document is plain data, built by hand in tests and studios")]
pub struct Role {
    /// Its name within the policy.
    pub name: Name,
    /// Roles whose rights and refusals it has as well.
    #[serde(default)]
    pub includes: Vec<Name>,
}

/// A role that acts across tenants on the tables it names, and on no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a document is plain data, built by hand in tests and studios")]
pub struct Persona {
    /// Its name within the policy, beside those of the roles.
    pub name: Name,
    /// What it may do.
    pub rights: Vec<PersonaRight>,
}

/// A line of a persona: `select on invoices across tenants where …`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a document is plain data, built by hand in tests and studios")]
pub struct PersonaRight {
    /// Which commands.
    pub commands: Vec<Command>,
    /// On which table; it must be described in the policy too.
    pub table: TableName,
    /// Which rows; all of all tenants when absent.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Expr>,
}

/// A declared claim: a typed fact that a session states about its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a document is plain data, built by hand in tests and studios")]
pub struct Claim {
    /// Its name; the PostgreSQL setting is `zk.<name>`.
    pub name: Name,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: ClaimType,
}

/// The type of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_enums, reason = "every pass must treat every type")]
pub enum ClaimType {
    /// One value.
    #[serde(untagged)]
    One(Scalar),
    /// An array of values, for `in`.
    #[serde(untagged)]
    Many {
        /// The type of each element.
        array: Scalar,
    },
}

/// The types that rules compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "every pass must treat every type")]
pub enum Scalar {
    /// `uuid`
    Uuid,
    /// `text` (and `varchar` columns)
    Text,
    /// `int8` (and `int2`, `int4` columns)
    Int8,
    /// `bool`
    Bool,
    /// `timestamptz`
    Timestamptz,
    /// `date`
    Date,
}

impl Scalar {
    pub(crate) const ALL: [Self; 6] =
        [Self::Uuid, Self::Text, Self::Int8, Self::Bool, Self::Timestamptz, Self::Date];

    /// The type's name, in the policy language and in PostgreSQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Int8 => "int8",
            Self::Bool => "bool",
            Self::Timestamptz => "timestamptz",
            Self::Date => "date",
        }
    }
}

impl fmt::Display for ClaimType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(scalar) => f.write_str(scalar.name()),
            Self::Many { array } => write!(f, "{}[]", array.name()),
        }
    }
}

/// What holds for one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a document is plain data, built by hand in tests and studios")]
pub struct Table {
    /// Which table.
    pub name: TableName,
    /// The floor under every role, or that the table deliberately has none.
    pub tenancy: Option<Tenancy>,
    /// Columns that hold sealed bytes only.
    #[serde(default)]
    pub critical: Vec<Name>,
    /// Who may do what to which rows.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Who may read or write which columns.
    #[serde(default)]
    pub columns: Vec<ColumnRule>,
    /// Who sees something else in place of a column's values.
    #[serde(default)]
    pub masks: Vec<MaskRule>,
}

/// How a table belongs to tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[expect(clippy::exhaustive_enums, reason = "every pass must treat every case")]
pub enum Tenancy {
    /// Rows belong to the tenant in `column`, and a session sees only those that equal `claim`.
    Tenant {
        /// The column that holds the tenant.
        column: Name,
        /// The claim that must equal it.
        claim: Name,
    },
    /// The table is shared by all tenants.
    Shared,
}

/// A statement `allow` or `deny`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a document is plain data, built by hand in tests and studios")]
pub struct Rule {
    /// Allow or deny.
    pub effect: Effect,
    /// For whom.
    pub role: Name,
    /// Which commands.
    pub commands: Vec<Command>,
    /// Which rows; all when absent.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Expr>,
}

/// Whether a rule admits or refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "every pass must treat every case")]
pub enum Effect {
    /// Admits rows for which the condition is true.
    Allow,
    /// Refuses rows unless the condition is false: a condition that is NULL refuses.
    Deny,
}

/// What a statement does to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "SQL has these four")]
pub enum Command {
    /// Reading rows.
    Select,
    /// Adding rows.
    Insert,
    /// Changing rows.
    Update,
    /// Removing rows.
    Delete,
}

impl Command {
    /// All commands, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Select, Self::Insert, Self::Update, Self::Delete];

    /// The command's name in lower case, as the policy language spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// A statement `columns`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a document is plain data, built by hand in tests and studios")]
pub struct ColumnRule {
    /// For whom.
    pub role: Name,
    /// Which commands; a row is deleted whole, so never [`Command::Delete`].
    pub commands: Vec<Command>,
    /// Which columns.
    pub columns: ColumnSet,
}

/// A statement `mask`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a document is plain data, built by hand in tests and studios")]
pub struct MaskRule {
    /// Which column.
    pub column: Name,
    /// For whom.
    pub role: Name,
    /// What they see.
    #[serde(rename = "as")]
    pub kind: MaskKind,
}

/// What is seen in place of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[expect(clippy::exhaustive_enums, reason = "every pass must treat every case")]
pub enum MaskKind {
    /// NULL.
    Null,
    /// Always the same value, also for NULL.
    Constant(Term),
    /// The first and last characters of a text, with `fill` between; `fill` alone for a text that is not longer.
    Partial {
        /// How many characters are kept at the beginning.
        first: u16,
        /// What stands for the rest.
        fill: String,
        /// How many characters are kept at the end.
        last: u16,
    },
    /// A keyed hash of a text or a uuid: equal for equal values, and nothing else to whom lacks the key.
    Hash {
        /// Columns with the same label show equal values equally; without one a column is alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
}

/// A set of columns, named or left over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "every pass must treat every case")]
pub enum ColumnSet {
    /// Just these.
    Only(Vec<Name>),
    /// All that the table has when the policy is planned, without these.
    Except(Vec<Name>),
}
