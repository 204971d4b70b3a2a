//! What is wrong with a policy, as data: all of it at once, each with a code, a place and help.

use std::fmt;

use crate::source::{Span, line_column};

/// The registry of diagnostic codes: 1xx syntax, 2xx names, 3xx types, 4xx policy sense. A code is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Code {
    /// E101: a character that no token starts with, or a text that does not end.
    Lexical,
    /// E102: something else was expected here.
    Syntax,
    /// E104: a limit on size or nesting.
    Limit,
    /// E201: a name that nothing declares.
    UnknownName,
    /// E202: a name declared twice.
    DuplicateName,
    /// E203: roles that include each other in a circle.
    RoleCycle,
    /// E204: a name that PostgreSQL would truncate.
    NameTooLong,
    /// E205: a name that PostgreSQL keeps for itself.
    ReservedName,
    /// E301: the two sides of a comparison have types that do not compare.
    TypeMismatch,
    /// E302: a literal that its type cannot read.
    BadLiteral,
    /// E303: a type that rules cannot compare.
    NotComparable,
    /// E304: a critical column that cannot hold sealed bytes.
    CriticalType,
    /// E401: a table that says neither `tenant` nor `shared`.
    NoTenancy,
    /// E402: a tenant column that may be NULL.
    NullableTenant,
    /// E403: a role without any right.
    IdleRole,
    /// E404: a statement that contradicts or repeats another.
    Conflict,
    /// E405: a critical column that a rule compares: its bytes are sealed.
    SealedInRule,
    /// E406: rules about columns for a command that the role is never allowed.
    ColumnsWithoutRows,
    /// E407: tables whose rules ask each other in a circle, which PostgreSQL refuses to evaluate.
    ExistsCycle,
    /// E408: an `exists` about rows or columns that the role may not select, and so would never find.
    BlindExists,
    /// E410: a mask on a column that the role does not select, or sees unmasked through another rule.
    IdleMask,
    /// E409: no foreign key, or more than one, fits an `exists`.
    NoForeignKey,
}

impl Code {
    /// The number shown to people, such as `E201`.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Lexical => 101,
            Self::Syntax => 102,
            Self::Limit => 104,
            Self::UnknownName => 201,
            Self::DuplicateName => 202,
            Self::RoleCycle => 203,
            Self::NameTooLong => 204,
            Self::ReservedName => 205,
            Self::TypeMismatch => 301,
            Self::BadLiteral => 302,
            Self::NotComparable => 303,
            Self::CriticalType => 304,
            Self::NoTenancy => 401,
            Self::NullableTenant => 402,
            Self::IdleRole => 403,
            Self::Conflict => 404,
            Self::SealedInRule => 405,
            Self::ColumnsWithoutRows => 406,
            Self::ExistsCycle => 407,
            Self::BlindExists => 408,
            Self::NoForeignKey => 409,
            Self::IdleMask => 410,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E{}", self.number())
    }
}

/// One thing that is wrong, with its place and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// Which kind of mistake.
    pub code: Code,
    /// What is wrong, in lower case without a full stop, the author's words in backticks.
    pub message: String,
    /// Where.
    pub span: Span,
    /// A few words to stand beside the place; may be empty.
    pub label: String,
    /// What to do about it; may be empty.
    pub help: String,
}

impl Diagnostic {
    pub(crate) fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), span, label: String::new(), help: String::new() }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

/// How many diagnostics are kept.
const MAX_REPORTED: usize = 200;
/// How many of them may carry a suggestion.
const MAX_SUGGESTED: usize = 50;
/// PostgreSQL truncates longer names: `NAMEDATALEN - 1`, manual section 4.1.1.
pub(crate) const MAX_NAME: usize = 63;

/// The diagnostics of one document, the first 200, in the order of their places. Never empty when returned as an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    pub(crate) fn one(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }

    /// Adds one, up to as many as somebody would read: a text of millions of mistakes must not cost more than that.
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if self.0.len() < MAX_REPORTED {
            self.0.push(diagnostic);
        }
    }

    /// The candidate closest to `name`, when one is close, as help. Given for the first mistakes only, and for names that
    /// could be names: comparing costs the product of the lengths.
    pub(crate) fn suggest<'a>(
        &self,
        name: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<String> {
        if self.0.len() >= MAX_SUGGESTED || name.len() > MAX_NAME {
            return None;
        }
        candidates
            .into_iter()
            .filter(|c| c.len() <= MAX_NAME)
            .map(|c| (strsim::damerau_levenshtein(name, c), c))
            .filter(|(distance, c)| *distance <= 1 + c.len().max(name.len()) / 4)
            .min()
            .map(|(_, c)| format!("did you mean `{c}`?"))
    }

    /// `value` when nothing was wrong, else what was.
    pub(crate) fn or<T>(mut self, value: T) -> Result<T, Self> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort_by_key(|d| (d.span.range().start, d.code));
        Err(self)
    }

    /// The diagnostics, by place.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes the diagnostics as plain lines: `name:line:column: error[E201]: message`.
    #[must_use]
    pub fn to_lines(&self, name: &str, source: &str) -> String {
        let mut out = String::new();
        for d in &self.0 {
            let (line, column) = line_column(source, d.span.range().start);
            out.push_str(&format!("{name}:{line}:{column}: error[{}]: {}\n", d.code, d.message));
            if !d.help.is_empty() {
                out.push_str(&format!("  help: {}\n", d.help));
            }
        }
        out
    }

    /// Draws the diagnostics over the source text, in the manner of the Rust compiler.
    ///
    /// `name` is what stands for the text's origin (a path, say); `colour` asks for terminal colours.
    #[cfg(feature = "render")]
    #[must_use]
    pub fn render(&self, name: &str, source: &str, colour: Colour) -> String {
        use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

        let renderer = match colour {
            Colour::Never => Renderer::plain(),
            Colour::Always => Renderer::styled(),
        };
        let mut out = String::new();
        for d in &self.0 {
            let end = d.span.range().end.min(source.len());
            let span = d.span.range().start.min(end)..end;
            let title = Level::ERROR.primary_title(d.message.as_str()).id(d.code.to_string());
            let mark = AnnotationKind::Primary.span(span);
            let mark = if d.label.is_empty() { mark } else { mark.label(d.label.as_str()) };
            let mut group =
                Group::with_title(title).element(Snippet::source(source).path(name).annotation(mark));
            if !d.help.is_empty() {
                group = group.element(Level::HELP.message(d.help.as_str()));
            }
            out.push_str(&renderer.render(&[group]));
            out.push_str("\n\n");
        }
        out
    }
}

/// Whether rendered diagnostics carry terminal colours.
#[cfg(feature = "render")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a yes or a no that reads at the call")]
pub enum Colour {
    /// Plain text.
    Never,
    /// ANSI colours.
    Always,
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}error[{}]: {}", d.code, d.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
