//! Which way a changed policy moves access, read from the server's spelling of its conditions.

use std::collections::BTreeSet;

use super::Direction;
use crate::catalog::PolicyObject;
use crate::sql;

/// Which way a changed policy moves, and whom. Where only its roles changed, those whom a permissive one gained or a
/// restrictive one lost may do more, unless it holds for everybody.
pub(super) fn altered(before: &PolicyObject, after: &PolicyObject) -> (Direction, BTreeSet<String>) {
    let all: BTreeSet<String> = before.roles.union(&after.roles).cloned().collect();
    if before.roles == after.roles {
        return (moved_clauses(before, after), all);
    }
    let gained: BTreeSet<String> = after.roles.difference(&before.roles).cloned().collect();
    let lost: BTreeSet<String> = before.roles.difference(&after.roles).cloned().collect();
    let everybody = all.contains(sql::PUBLIC);
    let same = (&before.using, &before.check) == (&after.using, &after.check);
    let (wider, narrower) = if before.permissive { (gained, lost) } else { (lost, gained) };
    match (wider.is_empty(), narrower.is_empty()) {
        (false, true) if same && !everybody => (Direction::Widens, wider),
        (true, false) if same && !everybody => (Direction::Narrows, narrower),
        _ => (Direction::Unclear, all),
    }
}

/// Which way changed conditions move. Both are the server's own spelling, so equal parts spell the same: a disjunction that
/// only gained members admits more, a conjunction that only gained members admits less.
fn moved_clauses(before: &PolicyObject, after: &PolicyObject) -> Direction {
    let clauses = [(&before.using, &after.using), (&before.check, &after.check)];
    let directions: BTreeSet<Direction> = clauses
        .into_iter()
        .filter_map(|(b, a)| Some(moved(b.as_deref()?, a.as_deref()?)))
        .filter(|d| *d != Direction::Neither)
        .collect();
    match (directions.first(), directions.len()) {
        (None, _) => Direction::Neither,
        (Some(one), 1) => *one,
        _ => Direction::Unclear,
    }
}

fn moved(before: &str, after: &str) -> Direction {
    if before == after {
        return Direction::Neither;
    }
    if before == "true" {
        return Direction::Narrows;
    }
    if after == "true" {
        return Direction::Widens;
    }
    let either = |word| (top_level(before, word), top_level(after, word));
    let (before_or, after_or) = either(" OR ");
    if before_or.is_subset(&after_or) {
        return Direction::Widens;
    }
    if after_or.is_subset(&before_or) {
        return Direction::Narrows;
    }
    let (before_and, after_and) = either(" AND ");
    if before_and.is_subset(&after_and) {
        return Direction::Narrows;
    }
    if after_and.is_subset(&before_and) {
        return Direction::Widens;
    }
    Direction::Unclear
}

/// The members of the outermost chain of `word` (` OR `, ` AND `); the whole expression when there is none.
/// Relies on the server's deparser putting parentheses around every nested chain.
fn top_level<'a>(expr: &'a str, word: &str) -> BTreeSet<&'a str> {
    let inner = strip_parentheses(expr);
    let parts = split_top_level(inner, word);
    let other = if word == " OR " { " AND " } else { " OR " };
    if parts.len() > 1 && split_top_level(inner, other).len() > 1 {
        // A mixed chain would mean that the assumption above is wrong: compare as a whole.
        return BTreeSet::from([expr]);
    }
    parts.into_iter().map(strip_parentheses).collect()
}

fn strip_parentheses(expr: &str) -> &str {
    let mut expr = expr.trim();
    while let Some(inner) = expr.strip_prefix('(').and_then(|e| e.strip_suffix(')')) {
        // `(a) OR (b)` starts and ends with parentheses that do not belong together.
        if depth_stays_positive(inner) { expr = inner.trim() } else { break }
    }
    expr
}

fn depth_stays_positive(inner: &str) -> bool {
    let mut scan = Scan::default();
    inner.chars().all(|c| {
        scan.step(c);
        scan.depth >= 0
    }) && scan.depth == 0
}

fn split_top_level<'a>(expr: &'a str, word: &str) -> Vec<&'a str> {
    let mut scan = Scan::default();
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, c) in expr.char_indices() {
        if scan.depth == 0
            && scan.quote.is_none()
            && expr.get(at..).is_some_and(|rest| rest.starts_with(word))
        {
            parts.extend(expr.get(start..at));
            start = at + word.len();
        }
        scan.step(c);
    }
    parts.extend(expr.get(start..));
    parts
}

/// Depth of parentheses, outside quotes. A doubled quote closes and opens again, which comes to the same.
#[derive(Default)]
struct Scan {
    depth: i32,
    quote: Option<char>,
}

impl Scan {
    fn step(&mut self, c: char) {
        match self.quote {
            Some(quote) if c == quote => self.quote = None,
            Some(_) => {}
            None => match c {
                '\'' | '"' => self.quote = Some(c),
                '(' => self.depth += 1,
                ')' => self.depth -= 1,
                _ => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disjunction_that_gains_a_member_widens() {
        let (one, two) = ("(a = 1)", "((a = 1) OR (b = 2))");
        assert_eq!(moved(one, two), Direction::Widens);
        assert_eq!(moved(two, one), Direction::Narrows);
    }

    #[test]
    fn a_conjunction_that_gains_a_member_narrows() {
        let (one, two) = ("(NOT hold)", "((NOT hold) AND (b = 2))");
        assert_eq!(moved(one, two), Direction::Narrows);
        assert_eq!(moved(two, one), Direction::Widens);
    }

    #[test]
    fn an_unrelated_condition_is_unclear() {
        assert_eq!(moved("(a = 1)", "(a = 2)"), Direction::Unclear);
    }

    #[test]
    fn words_inside_quotes_and_parentheses_do_not_split() {
        let before = "(a = 'x OR y'::text)";
        assert_eq!(top_level(before, " OR ").len(), 1);
        assert_eq!(top_level("((a = ')'::text) OR (\"b OR\" = 1))", " OR ").len(), 2);
        assert_eq!(top_level("((a AND (b OR c)) OR d)", " OR ").len(), 2);
    }
}
