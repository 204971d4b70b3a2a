//! Text into tokens.

use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::source::Span;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word, folded to lower case: a keyword where the grammar wants one, else a name.
    Word(String),
    /// A name in double quotes: never a keyword.
    Quoted(String),
    Text(String),
    Int(i64),
    /// Punctuation and operators.
    Mark(&'static str),
    End,
}

/// Longest first, so that `<=` is not read as `<` and `=`.
const MARKS: [&str; 16] =
    ["<>", "!=", "<=", ">=", "{", "}", "(", ")", "[", "]", ",", ".", ":", "=", "<", ">"];

/// Splits the text into tokens, always closed by [`Token::End`], and the places of its comments; what cannot be read is
/// reported and skipped.
pub(super) fn lex(source: &str, diagnostics: &mut Diagnostics) -> (Vec<(Token, Span)>, Vec<Span>) {
    let (mut tokens, mut comments) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let start = at;
        let first = rest.chars().next().unwrap_or(' ');
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if first == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
            comments.push(Span::new(start, at));
            continue;
        }
        let token = if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            at += length;
            Some(Token::Word(rest.get(..length).unwrap_or("").to_ascii_lowercase()))
        } else if first == '"' || first == '\'' {
            let (text, length) = quoted(rest, first);
            at += length;
            if text.as_ref().is_some_and(|text| text.contains('\0')) {
                let message = "PostgreSQL cannot store a NUL character";
                let diagnostic = Diagnostic::new(Code::Lexical, Span::new(start, at), message);
                diagnostics.push(diagnostic.help("remove it"));
            }
            if first == '"' && text.as_ref().is_some_and(String::is_empty) {
                let diagnostic = Diagnostic::new(Code::Lexical, Span::new(start, at), "this name is empty");
                diagnostics.push(diagnostic.help("write a name between the quotes"));
            }
            match text {
                None => {
                    let what = if first == '"' { "name" } else { "text" };
                    diagnostics.push(
                        Diagnostic::new(
                            Code::Lexical,
                            Span::new(start, at),
                            format!("this {what} does not end"),
                        )
                        .help(format!("close it with `{first}` on the same line")),
                    );
                    // Stands in for what was meant, so that one mistake is reported once.
                    Some(if first == '"' { Token::Quoted(String::new()) } else { Token::Text(String::new()) })
                }
                Some(text) if first == '"' => Some(Token::Quoted(text)),
                Some(text) => Some(Token::Text(text)),
            }
        } else if first.is_ascii_digit() || (first == '-' && rest.get(1..).is_some_and(starts_with_digit)) {
            let length =
                1 + rest.get(1..).map_or(0, |r| r.find(|c: char| !c.is_ascii_digit()).unwrap_or(r.len()));
            at += length;
            let digits = rest.get(..length).unwrap_or("");
            let value = digits.parse().ok();
            if value.is_none() {
                let message = format!("`{digits}` does not fit in 64 bits");
                let diagnostic = Diagnostic::new(Code::Lexical, Span::new(start, at), message);
                diagnostics
                    .push(diagnostic.help("write a number from -9223372036854775808 to 9223372036854775807"));
            }
            Some(Token::Int(value.unwrap_or_default()))
        } else if let Some(mark) = MARKS.iter().find(|mark| rest.starts_with(**mark)) {
            at += mark.len();
            Some(Token::Mark(if *mark == "!=" { "<>" } else { mark }))
        } else {
            at += first.len_utf8();
            let message = format!("`{}` has no meaning here", first.escape_default());
            let diagnostic = Diagnostic::new(Code::Lexical, Span::new(start, at), message);
            diagnostics
                .push(diagnostic.help("remove it; a name with other characters stands in double quotes"));
            None
        };
        tokens.extend(token.map(|token| (token, Span::new(start, at))));
    }
    tokens.push((Token::End, Span::new(source.len(), source.len())));
    (tokens, comments)
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// What stands between quotes, a doubled quote meaning one, and the length read. None when the line ends first.
fn quoted(rest: &str, quote: char) -> (Option<String>, usize) {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\n' {
            return (None, at);
        }
        if c != quote {
            text.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            return (Some(text), at + 1);
        }
    }
    (None, rest.len())
}
