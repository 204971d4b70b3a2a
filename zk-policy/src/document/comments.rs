//! Comments of a text, each attached to a line of its canonical form.

use std::collections::BTreeMap;

use crate::source::Span;

/// A line of canonical text, by what it says: the second role, the third rule of the first table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Policy,
    Role(usize),
    Claim(usize),
    Signed,
    Table(usize, Line),
    Persona(usize, Line),
    End,
}

/// A line of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Line {
    Open,
    Tenancy,
    Critical,
    Rule(usize),
    Columns(usize),
    Mask(usize),
    Right(usize),
    Close,
}

/// The comments of a text by the line that they belong to.
#[derive(Debug, Default)]
pub(super) struct Comments(BTreeMap<Place, Attached>);

#[derive(Debug, Default)]
struct Attached {
    /// On lines of their own before it; an empty one is a blank line.
    before: Vec<String>,
    /// At its end.
    behind: Option<String>,
}

impl Comments {
    /// Gives each comment to a place: one at the end of a line to what it stands behind, one within a statement to that
    /// statement, any other to what follows it.
    ///
    /// `places` are in the order of the text, and the last is its end.
    pub(super) fn attach(source: &str, comments: &[Span], places: &[(Place, Span)]) -> Self {
        let mut attached = Self::default();
        let mut last = 0;
        for comment in comments {
            let range = comment.range();
            let (start, end) = (range.start, range.end);
            let text = source.get(range).unwrap_or("").trim_end().to_owned();
            let next = places.partition_point(|(_, span)| span.range().end <= start);
            let Some((following, span)) = places.get(next) else { continue };
            let previous = next.checked_sub(1).and_then(|at| places.get(at));
            // Only the first comment after a statement can stand on its line.
            let behind = previous.filter(|(_, span)| {
                let end = span.range().end;
                last <= end && !source.get(end..start).unwrap_or("").contains('\n')
            });
            last = end;
            if span.range().start < start {
                attached.before(*following, text, false);
            } else if let Some((place, _)) = behind {
                attached.behind(*place, text);
            } else {
                attached.before(*following, text, is_followed_by_blank_line(source, end));
            }
        }
        attached.0.iter_mut().for_each(|(place, attached)| {
            let closes =
                matches!(place, Place::End | Place::Table(_, Line::Close) | Place::Persona(_, Line::Close));
            if closes && attached.before.last().is_some_and(String::is_empty) {
                attached.before.pop();
            }
        });
        attached
    }

    fn before(&mut self, place: Place, text: String, blank: bool) {
        let lines = &mut self.0.entry(place).or_default().before;
        lines.push(text);
        if blank {
            lines.push(String::new());
        }
    }

    /// Statements that canonical text joins bring a comment each, and only one has room on the line.
    fn behind(&mut self, place: Place, text: String) {
        let attached = self.0.entry(place).or_default();
        attached.before.extend(attached.behind.replace(text));
    }

    /// The lines to write before a place.
    pub(super) fn lines(&self, place: Place) -> impl Iterator<Item = &str> {
        self.0.get(&place).into_iter().flat_map(|attached| attached.before.iter().map(String::as_str))
    }

    /// The comment to write at the end of a place's line.
    pub(super) fn tail(&self, place: Place) -> Option<&str> {
        self.0.get(&place)?.behind.as_deref()
    }
}

fn is_followed_by_blank_line(source: &str, end: usize) -> bool {
    let gap = source.get(end..).unwrap_or("").chars().take_while(|c| c.is_whitespace());
    gap.filter(|c| *c == '\n').nth(1).is_some()
}
