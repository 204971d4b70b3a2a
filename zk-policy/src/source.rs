//! Positions in the text of a policy.

use std::ops::Range;

/// A range of bytes in the source text, half open.
///
/// A document that came from JSON has no text: its spans are all [`Span::NONE`], and diagnostics then name the
/// object in words only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The span of what has no place in a text.
    pub const NONE: Self = Self { start: 0, end: 0 };

    /// Makes a span of the bytes from `start` up to, not including, `end`.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let clip = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: clip(start), end: clip(end.max(start)) }
    }

    /// The smallest span that covers both.
    pub(crate) fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The bytes covered, for slicing the source text.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Whether this span points nowhere, as in a document that was read from JSON.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// Line and column, both counted from 1, of a byte offset; columns count characters.
pub(crate) fn line_column(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}
