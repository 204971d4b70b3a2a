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

/// Counts lines and characters as it goes: diagnostics are in the order of their places, and a text may be one line of
/// millions of bytes.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    offset: usize,
    /// How many line breaks come before, and how many characters since the last.
    line: usize,
    column: usize,
}

impl Cursor {
    /// Line and column, both counted from 1, of a byte offset; columns count characters.
    pub(crate) fn line_column(&mut self, source: &str, offset: usize) -> (usize, usize) {
        if offset < self.offset {
            *self = Self::default();
        }
        let passed = source.get(self.offset..offset).or_else(|| source.get(self.offset..)).unwrap_or("");
        self.line += passed.matches('\n').count();
        self.column = match passed.rsplit_once('\n') {
            Some((_, last)) => last.chars().count(),
            None => self.column + passed.chars().count(),
        };
        self.offset += passed.len();
        (self.line + 1, self.column + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_lines_and_characters() {
        let (text, mut cursor) = ("aä\n\nbß c\n", Cursor::default());
        for (offset, place) in
            [(0, (1, 1)), (3, (1, 3)), (4, (2, 1)), (5, (3, 1)), (9, (3, 4)), (3, (1, 3)), (99, (4, 1))]
        {
            assert_eq!(cursor.line_column(text, offset), place, "{offset}");
        }
    }
}
