//! What is wrong with a manifest, as data: all of it at once, each with a code, a place and help.

use std::fmt;
use std::ops::Range;

use crate::error::{Error, ErrorKind};

/// What kind of mistake it is: 1xx about the text, 2xx about names, 3xx about what does not make sense. A number is never
/// used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Code {
    /// M101: text that is not JSON, or too long.
    Json,
    /// M102: a value of another kind than the field takes.
    Kind,
    /// M103: a field that a manifest does not have.
    UnknownField,
    /// M104: a field that is missing.
    MissingField,
    /// M105: a field that is there twice.
    RepeatedField,
    /// M106: more of something than is read.
    TooMany,
    /// M201: a text that cannot name a solution, a service, a role or a secret.
    Name,
    /// M202: two services of one name.
    RepeatedService,
    /// M203: a peer that is no service of the solution.
    UnknownPeer,
    /// M204: a text that cannot name an environment variable, or names one that has its value from the login.
    Variable,
    /// M301: a service without roles.
    NoRoles,
    /// M302: lifetimes that contradict each other or are out of bounds.
    Lifetime,
    /// M303: a number out of its bounds.
    Bounds,
}

impl Code {
    /// All codes, by number.
    pub const ALL: &[Self] = &[
        Self::Json,
        Self::Kind,
        Self::UnknownField,
        Self::MissingField,
        Self::RepeatedField,
        Self::TooMany,
        Self::Name,
        Self::RepeatedService,
        Self::UnknownPeer,
        Self::Variable,
        Self::NoRoles,
        Self::Lifetime,
        Self::Bounds,
    ];

    /// The number shown to people, such as the 103 of `M103`.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Json => 101,
            Self::Kind => 102,
            Self::UnknownField => 103,
            Self::MissingField => 104,
            Self::RepeatedField => 105,
            Self::TooMany => 106,
            Self::Name => 201,
            Self::RepeatedService => 202,
            Self::UnknownPeer => 203,
            Self::Variable => 204,
            Self::NoRoles => 301,
            Self::Lifetime => 302,
            Self::Bounds => 303,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "M{}", self.number())
    }
}

/// One mistake, with its place and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// Which kind of mistake.
    pub code: Code,
    /// What is wrong, in lower case without a full stop, the author's words in backticks.
    pub message: String,
    /// Which field, such as `services[1].roles[0]`; empty for the manifest itself.
    pub path: String,
    /// Where in the text, in bytes. None for a manifest that was not read from a text.
    pub span: Option<Range<usize>>,
    /// A few words to stand beside the place; may be empty.
    pub label: String,
    /// What to do about it; may be empty.
    pub help: String,
}

impl Diagnostic {
    pub(super) fn new(code: Code, path: impl Into<String>, message: impl Into<String>) -> Self {
        let (path, message) = (path.into(), message.into());
        Self { code, message, path, span: None, label: String::new(), help: String::new() }
    }

    pub(super) fn at(self, span: Range<usize>) -> Self {
        Self { span: Some(span), ..self }
    }

    pub(super) fn label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// Whether what is said of `path` would follow from this: the first mistake at a place is the one to tell, and what
    /// is of another kind has no parts.
    fn covers(&self, path: &str) -> bool {
        match path.strip_prefix(self.path.as_str()) {
            Some("") => true,
            Some(rest) => self.code == Code::Kind && (self.path.is_empty() || rest.starts_with(['.', '['])),
            None => false,
        }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: help.into(), ..self }
    }
}

/// So many mistakes are kept: a text of millions must not cost more than somebody would read.
const MAX_REPORTED: usize = 100;
/// Longer names are not compared: it costs the product of the lengths.
const MAX_COMPARED: usize = 63;

/// All that is wrong with a manifest, by place, up to the first hundred.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    pub(super) fn one(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }

    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        if !self.is_full() && !self.0.iter().any(|known| known.covers(&diagnostic.path)) {
            self.0.push(diagnostic);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX_REPORTED
    }

    /// `value` when nothing is wrong, else what is.
    pub(super) fn or<T>(mut self, value: T) -> Result<T, Self> {
        self.0.sort_by_key(|d| (d.span.as_ref().map(|span| span.start), d.code));
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// The mistakes, by place.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }

    /// Writes the mistakes as plain lines: `name:line:column: error[M103]: message`, or with the path for what has no text.
    #[must_use]
    pub fn to_lines(&self, name: &str, source: &str) -> String {
        let mut out = String::new();
        for d in &self.0 {
            let place = match &d.span {
                Some(span) => line_column(source, span.start),
                None => d.path.clone(),
            };
            out.push_str(&format!("{name}:{place}: error[{}]: {}\n", d.code, d.message));
            if !d.help.is_empty() {
                out.push_str(&format!("  help: {}\n", d.help));
            }
        }
        out
    }

    /// Draws the mistakes over the source text, in the manner of the Rust compiler. `name` is where the text came from.
    #[cfg(feature = "render")]
    #[must_use]
    pub fn render(&self, name: &str, source: &str) -> String {
        use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

        let mut out = String::new();
        for d in &self.0 {
            let mut group = Group::with_title(Level::ERROR.primary_title(&d.message).id(d.code.to_string()));
            if let Some(span) = d.span.clone().filter(|span| source.get(span.clone()).is_some()) {
                let mark = AnnotationKind::Primary.span(span);
                let mark = if d.label.is_empty() { mark } else { mark.label(&d.label) };
                group = group.element(Snippet::source(source).path(name).annotation(mark));
            }
            if !d.help.is_empty() {
                group = group.element(Level::HELP.message(&d.help));
            }
            out.push_str(&Renderer::plain().render(&[group]));
            out.push_str("\n\n");
        }
        out
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Diagnostic { code, message, path, .. }) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            let place = if path.is_empty() { "the manifest" } else { path };
            write!(f, "{separator}{place}: error[{code}]: {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostics> for Error {
    fn from(mistakes: Diagnostics) -> Self {
        Self::new(ErrorKind::Invalid, "the manifest is not valid").because(mistakes)
    }
}

/// The candidate that is closest to `name`, when one is close, as help.
pub(super) fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let close = |c: &&str| name.len() <= MAX_COMPARED && c.len() <= MAX_COMPARED;
    let distances = candidates.into_iter().filter(close).map(|c| (strsim::damerau_levenshtein(name, c), c));
    let nearest = distances.filter(|(distance, c)| *distance <= 1 + c.len().max(name.len()) / 4).min();
    nearest.map_or_else(String::new, |(_, c)| format!("did you mean `{c}`?"))
}

/// Line and column, both counted from 1; columns count characters.
fn line_column(source: &str, offset: usize) -> String {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{line}:{column}")
}
