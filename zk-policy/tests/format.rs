//! The formatter: the same meaning, every comment where it belongs, and nothing more to do a second time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::string_slice, reason = "tests")]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use zk_policy::Document;

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(Document::format(text).unwrap(), expected);
    assert_eq!(Document::format(expected).unwrap(), expected, "formatting again changes nothing");
}

#[test]
fn comments_stay_with_what_they_precede_or_stand_behind() {
    check(
        "# Whose customers.\n\n# Since 2024.\npolicy crm # the name\nclaim tenant: uuid # whose\n\
         # who works\nrole agent\ntable t { # about t\n # no tenant\n shared # all see it\n \
         mask a for agent as null # last\n allow agent select # all\n # nothing else\n\n} # end of t\n\n# the end\n",
        "# Whose customers.\n\n# Since 2024.\npolicy crm  # the name\n\n\
         # who works\nrole agent\n\nclaim tenant: uuid  # whose\n\n\
         table public.t {  # about t\n  # no tenant\n  shared  # all see it\n  allow agent select  # all\n  \
         mask a for agent as null  # last\n  # nothing else\n}  # end of t\n\n# the end\n",
    );
}

#[test]
fn a_comment_within_a_statement_comes_before_it() {
    check(
        "policy p table t { allow r # who\n select where a # what\n # and\n and b # done\n }",
        "policy p\n\ntable public.t {\n  # who\n  # what\n  # and\n  allow r select where a and b  # done\n}\n",
    );
}

#[test]
fn statements_that_are_joined_bring_their_comments() {
    check(
        "policy p table t {\n critical a # one\n # before b\n critical b # two\n}",
        "policy p\n\ntable public.t {\n  # before b\n  # one\n  critical a, b  # two\n}\n",
    );
}

#[test]
fn a_sign_within_quotes_is_no_comment() {
    check(
        "policy \"a#b\" table t { allow r select where c = '# no' #yes\r\n }",
        "policy \"a#b\"\n\ntable public.t {\n  allow r select where c = '# no'  #yes\n}\n",
    );
}

#[test]
fn mistakes_are_those_of_parsing() {
    let text = "policy p # c\nrole";
    assert_eq!(Document::format(text), Document::parse(text).map(|_| String::new()));
}

/// The policies of the corpus without their comments, which are on lines of their own.
fn corpus() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let policies = paths.filter(|path| path.extension().is_some_and(|e| e == "policy"));
    let lines =
        |text: String| text.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
    policies.map(|path| lines(fs::read_to_string(path).unwrap())).collect()
}

/// The text with something else in place of some of the blanks between its words: `None` leaves a blank as it is.
fn with_comments(text: &str, choices: &[Option<bool>]) -> (String, Vec<String>) {
    let (mut out, mut comments, mut quote) = (String::new(), Vec::new(), None);
    let mut choices = choices.iter().cycle();
    for c in text.chars() {
        match quote {
            Some(open) if open == c => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => {}
        }
        let choice =
            (quote.is_none() && c.is_whitespace()).then(|| choices.next().copied().flatten()).flatten();
        let Some(own_line) = choice else {
            out.push(c);
            continue;
        };
        let comment = format!("# {};", comments.len());
        out.push_str(if own_line { "\n\n" } else { " " });
        out.push_str(&comment);
        out.push('\n');
        comments.push(comment);
    }
    (out, comments)
}

proptest! {
    #[test]
    fn formatting_keeps_the_meaning_and_all_comments(
        choices in proptest::collection::vec(proptest::option::weighted(0.3, any::<bool>()), 1..60),
    ) {
        for text in corpus() {
            let (commented, comments) = with_comments(&text, &choices);
            let formatted = Document::format(&commented).unwrap();
            prop_assert_eq!(Document::parse(&formatted).unwrap(), Document::parse(&text).unwrap());
            for comment in &comments {
                prop_assert_eq!(formatted.matches(comment).count(), 1, "{}\n{}", comment, &formatted);
            }
            prop_assert_eq!(&Document::format(&formatted).unwrap(), &formatted);
        }
    }
}
