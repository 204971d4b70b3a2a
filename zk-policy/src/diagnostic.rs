//! What is wrong with a policy, as data: all of it at once, each with a code, a place and help.

use std::fmt;

use crate::lint::Severity;
use crate::source::{Cursor, Span};

/// Writes the registry once: the variants, their documentation, number and title cannot part.
macro_rules! registry {
    ($($number:literal $code:ident $title:literal;)+) => {
        /// The registry of diagnostic codes: 1xx syntax, 2xx names, 3xx types, 4xx policy sense, 5xx warnings. A code is
        /// never reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!($number, ": ", $title, ".")] $code,)+
        }

        impl Code {
            /// All codes, by number.
            pub const ALL: &[Self] = &[$(Self::$code),+];

            /// The number shown to people, such as the 201 of `E201`.
            #[must_use]
            pub fn number(self) -> u16 {
                match self { $(Self::$code => $number,)+ }
            }

            /// What it is about, in a few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$code => $title,)+ }
            }
        }
    };
}

registry! {
    101 Lexical "a character that no token starts with, or a text that does not end";
    102 Syntax "something else was expected here";
    104 Limit "a limit on size or nesting";
    105 Json "JSON that is no policy document";

    201 UnknownName "a name that nothing declares";
    202 DuplicateName "a name declared twice";
    203 RoleCycle "roles that include each other in a circle";
    204 NameTooLong "a name that PostgreSQL would truncate";
    205 ReservedName "a name that PostgreSQL keeps for itself";

    301 TypeMismatch "two sides of a comparison, or a mask and its column, whose types do not agree";
    302 BadLiteral "a literal that its type cannot read";
    303 NotComparable "a type that rules cannot compare";
    304 CriticalType "a critical column that cannot hold sealed bytes";

    401 NoTenancy "a table that says neither `tenant` nor `shared`";
    402 NullableTenant "a tenant column that may be NULL";
    403 IdleRole "a role without any right";
    404 Conflict "a statement that contradicts or repeats another";
    405 SealedInRule "a rule that compares a critical column, whose bytes are sealed";
    406 ColumnsWithoutRows "rules about columns for a command that the role is never allowed";
    407 ExistsCycle "tables whose rules ask each other in a circle, which PostgreSQL refuses to evaluate";
    408 BlindExists "an `exists` about rows or columns that the role may not select, and so would never find";
    409 NoForeignKey "no foreign key, or more than one, fits an `exists`";
    410 IdleMask "a mask on a column that the role does not select, or sees unmasked through another rule";
    411 ViewName "a masked table of the same name as another table that the role reads";
    412 KeyComparison "an `exists` along a foreign key whose values are equal by another rule than `=`";

    501 IdleRule "a rule that changes nothing";
    502 AlwaysTrue "a condition that holds for every row";
    503 BlindWrite "rows that a role may change or delete and may not select";
    504 VanishingRow "an update that can make the row invisible to its author, and then fails";
    505 GuessedHash "a masked role that may write what it sees hashed";
    506 NotCompared "rules that were not compared with each other, because they are too many";
    507 TenantUnindexed "a tenant column that no index leads with";
}

impl Code {
    /// Whether the policy is refused for it, or it is only worth a look.
    #[must_use]
    pub fn severity(self) -> Severity {
        if self.number() < 500 { Severity::Error } else { Severity::Warning }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = if self.severity() == Severity::Error { 'E' } else { 'W' };
        write!(f, "{letter}{}", self.number())
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

/// The diagnostics of one document, the first 200, in the order of their places. One at least is an error when they are
/// returned as one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    pub(crate) fn one(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }

    /// Adds one, up to as many as somebody would read: a text of millions of mistakes must not cost more than that.
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if !self.is_full() {
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

    /// `value` when nothing is wrong, else what is.
    pub(crate) fn or<T>(self, value: T) -> Result<T, Self> {
        if self.has_errors() { Err(self.sorted()) } else { Ok(value) }
    }

    /// Whether more would not be kept: what costs time to find need not be looked for.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= MAX_REPORTED
    }

    pub(crate) fn sorted(mut self) -> Self {
        self.0.sort_by_key(|d| (d.span.range().start, d.code));
        self
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.code.severity() == Severity::Error)
    }

    /// The same about what has no text.
    pub(crate) fn without_places(mut self) -> Self {
        self.0.iter_mut().for_each(|d| d.span = Span::NONE);
        self
    }

    /// The diagnostics, by place.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = Diagnostic> {
        self.0.into_iter()
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
        let (mut out, mut cursor) = (String::new(), Cursor::default());
        for d in &self.0 {
            let (line, column) = cursor.line_column(source, d.span.range().start);
            let severity = d.code.severity();
            out.push_str(&format!("{name}:{line}:{column}: {severity}[{}]: {}\n", d.code, d.message));
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
        use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

        let renderer = match colour {
            Colour::Never => Renderer::plain(),
            Colour::Always => Renderer::styled(),
        };
        let (mut out, mut cursor) = (String::new(), Cursor::default());
        for d in &self.0 {
            let end = d.span.range().end.min(source.len());
            let span = d.span.range().start.min(end)..end;
            let (line, column) = cursor.line_column(source, span.start);
            let level = if d.code.severity() == Severity::Error { Level::ERROR } else { Level::WARNING };
            let title = level.primary_title(d.message.as_str()).id(d.code.to_string());
            // What is drawn is read as a whole for each diagnostic: only what is near.
            let near = near(source, &span);
            let within = span.start - near.start..span.end.min(near.end) - near.start;
            let mark = AnnotationKind::Primary.span(within);
            let mark = if d.label.is_empty() { mark } else { mark.label(d.label.as_str()) };
            let shown =
                Snippet::source(source.get(near.clone()).unwrap_or("")).line_start(line).annotation(mark);
            // Of a line that is cut, the column is not that of what is drawn.
            let is_cut =
                near.start > 0 && !source.get(..near.start).is_some_and(|before| before.ends_with('\n'));
            let mut group = if is_cut {
                let origin = Origin::path(name).line(line).char_column(column);
                Group::with_title(title).element(origin).element(shown)
            } else {
                Group::with_title(title).element(shown.path(name))
            };
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
            write!(f, "{separator}{}[{}]: {}", d.code.severity(), d.code, d.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// How much of a line is drawn before and behind a place, in bytes.
#[cfg(feature = "render")]
const AROUND: usize = 400;

/// The lines of a place, or of long ones what is near.
#[cfg(feature = "render")]
fn near(source: &str, span: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    let earliest = source.floor_char_boundary(span.start.saturating_sub(AROUND));
    let latest = source.ceil_char_boundary(span.end.min(span.start + AROUND) + AROUND);
    let before = source.get(earliest..span.start).unwrap_or("");
    let behind = source.get(span.start..latest).unwrap_or("");
    let start = before.rfind('\n').map_or(earliest, |at| earliest + at + 1);
    let from = span.end.min(latest) - span.start;
    let end = behind.get(from..).and_then(|rest| rest.find('\n'));
    start..end.map_or(latest, |at| span.start + from + at)
}
