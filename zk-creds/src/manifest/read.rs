//! JSON as text, read into a manifest with the place of each value, so that all mistakes are told at once.
//!
//! serde_json parses; values that were not looked into yet stay slices of the text, and a slice knows where it begins.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::diagnostic::{Code, Diagnostic, Diagnostics, suggest};
use super::{Manifest, Service};

/// The longest manifest that is read, in bytes.
const MAX_TEXT: usize = 1 << 20;
/// The longest list in it.
const MAX_LIST: usize = 1000;
/// The longest text in a message.
const MAX_SHOWN: usize = 40;

/// A manifest, the place of each of its fields, and what is wrong so far.
pub(super) struct Read {
    pub(super) manifest: Manifest,
    pub(super) places: BTreeMap<String, Range<usize>>,
    pub(super) mistakes: Diagnostics,
}

pub(super) fn read(text: &str) -> Result<Read, Diagnostics> {
    let refused = |message: String, at: usize| {
        let length = text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        Diagnostics::one(Diagnostic::new(Code::Json, "", message).at(at..at + length))
    };
    if text.len() > MAX_TEXT {
        return Err(refused(format!("the manifest is longer than {MAX_TEXT} bytes"), 0));
    }
    let root: &RawValue = serde_json::from_str(text)
        .map_err(|e| refused(format!("this is not JSON: {e}"), offset(text, e.line(), e.column())))?;
    let mut reader = Reader { text, places: BTreeMap::new(), mistakes: Diagnostics::default() };
    let manifest = reader.manifest(root.get());
    Ok(Read { manifest, places: reader.places, mistakes: reader.mistakes })
}

/// Where a field is; for one that was left out, where the object begins whose default it has.
pub(super) fn place_of(path: &str, places: &BTreeMap<String, Range<usize>>) -> Range<usize> {
    let opening = |parent: &Range<usize>| parent.start..parent.start + 1;
    let left_out = || path.rsplit_once('.').and_then(|(object, _)| places.get(object)).map(opening);
    places.get(path).cloned().or_else(left_out).unwrap_or(0..0)
}

struct Reader<'t> {
    text: &'t str,
    places: BTreeMap<String, Range<usize>>,
    mistakes: Diagnostics,
}

impl<'t> Reader<'t> {
    fn manifest(&mut self, value: &'t str) -> Manifest {
        let mut fields = self.fields("", value, &["solution", "services"]);
        Manifest {
            solution: self.required(&mut fields, "solution"),
            services: self.list(&mut fields, "services", Self::service),
        }
    }

    fn service(&mut self, path: &str, value: &'t str) -> Service {
        const FIELDS: [&str; 12] = [
            "name",
            "roles",
            "peers",
            "secrets",
            "databases",
            "search_path",
            "scopes",
            "lifetime_seconds",
            "max_lifetime_seconds",
            "connections",
            "statement_timeout_ms",
            "scram_iterations",
        ];
        let mut fields = self.fields(path, value, &FIELDS);
        Service {
            name: self.required(&mut fields, "name"),
            roles: self.list(&mut fields, "roles", Self::text),
            peers: self.texts(&mut fields, "peers"),
            secrets: self.map(&mut fields, "secrets"),
            databases: self.map(&mut fields, "databases"),
            search_path: self.texts(&mut fields, "search_path"),
            scopes: self.texts(&mut fields, "scopes"),
            lifetime_seconds: self.number(&mut fields, "lifetime_seconds", super::default_lifetime()),
            max_lifetime_seconds: self.number(
                &mut fields,
                "max_lifetime_seconds",
                super::default_max_lifetime(),
            ),
            connections: self.number(&mut fields, "connections", super::default_connections()),
            statement_timeout_ms: self.number(
                &mut fields,
                "statement_timeout_ms",
                super::default_statement_timeout(),
            ),
            scram_iterations: self.number(&mut fields, "scram_iterations", super::default_iterations()),
        }
    }

    fn texts(&mut self, fields: &mut Fields<'t>, name: &str) -> Vec<String> {
        if fields.has(name) { self.list(fields, name, Self::text) } else { Vec::new() }
    }

    fn required(&mut self, fields: &mut Fields<'t>, name: &str) -> String {
        match self.take(fields, name) {
            Some((path, value)) => self.text(&path, value),
            None => self.missing(fields, name),
        }
    }

    fn number<T: TryFrom<u64> + Default>(&mut self, fields: &mut Fields<'t>, name: &str, absent: T) -> T {
        let Some((path, value)) = self.take(fields, name) else { return absent };
        let number: u64 = self.parse(&path, value, "a whole number");
        T::try_from(number).unwrap_or_else(|_| {
            let mistake =
                Diagnostic::new(Code::Bounds, &path, format!("{number} is more than `{path}` can be"));
            self.mistakes.push(mistake.at(self.span(value)));
            absent
        })
    }

    fn list<T>(
        &mut self,
        fields: &mut Fields<'t>,
        name: &str,
        each: fn(&mut Self, &str, &'t str) -> T,
    ) -> Vec<T> {
        let Some((path, value)) = self.take(fields, name) else { return self.missing(fields, name) };
        let items: Vec<&RawValue> = self.parse(&path, value, "a list");
        self.check_length(&path, value, items.len());
        let items = items.into_iter().take(MAX_LIST).enumerate();
        items
            .map(|(at, item)| {
                let path = format!("{path}[{at}]");
                self.places.insert(path.clone(), self.span(item.get()));
                each(self, &path, item.get())
            })
            .collect()
    }

    /// An object whose keys are the author's.
    fn map(&mut self, fields: &mut Fields<'t>, name: &str) -> BTreeMap<String, String> {
        let Some((path, value)) = self.take(fields, name) else { return BTreeMap::new() };
        let entries = self.entries(&path, value);
        self.check_length(&path, value, entries.len());
        let mut map = BTreeMap::new();
        for (key, value) in entries.into_iter().take(MAX_LIST) {
            let path = format!("{path}.{}", shown(&key.name));
            self.places.insert(path.clone(), key.span.clone());
            let value = self.text(&path, value);
            if map.insert(key.name.clone(), value).is_some() {
                self.repeated(&path, &key);
            }
        }
        map
    }

    fn check_length(&mut self, path: &str, value: &str, length: usize) {
        if length > MAX_LIST {
            let message = format!("`{path}` has more than {MAX_LIST} entries");
            self.mistakes.push(Diagnostic::new(Code::TooMany, path, message).at(self.span(value)));
        }
    }

    fn text(&mut self, path: &str, value: &'t str) -> String {
        self.parse(path, value, "a text")
    }

    /// Reads one value, or says that it is of another kind.
    fn parse<T: Deserialize<'t> + Default>(&mut self, path: &str, value: &'t str, wanted: &str) -> T {
        serde_json::from_str(value).unwrap_or_else(|_| {
            let message = format!("{} wants {wanted}", if path.is_empty() { "a manifest" } else { path });
            let label = format!("this is {}", kind_in(value));
            let mistake = Diagnostic::new(Code::Kind, path, message).at(self.span(value)).label(label);
            self.mistakes.push(mistake);
            T::default()
        })
    }

    /// The fields of an object whose keys are ours.
    fn fields(&mut self, path: &str, value: &'t str, known: &[&str]) -> Fields<'t> {
        self.places.insert(path.to_owned(), self.span(value));
        let is_object = value.starts_with('{');
        let mut fields = Fields { path: path.to_owned(), values: BTreeMap::new(), is_object };
        for (key, value) in self.entries(path, value) {
            if self.mistakes.is_full() {
                break;
            }
            let here = join(path, &key.name);
            if !known.contains(&key.name.as_str()) {
                let message = format!("there is no field `{}` here", shown(&key.name));
                let help = suggest(&key.name, known.iter().copied());
                let help =
                    if help.is_empty() { format!("the fields are {}", known.join(", ")) } else { help };
                let mistake = Diagnostic::new(Code::UnknownField, &here, message);
                self.mistakes.push(mistake.at(key.span).help(help));
            } else if fields.values.insert(key.name.clone(), value).is_some() {
                self.repeated(&here, &key);
            }
        }
        fields
    }

    fn entries(&mut self, path: &str, value: &'t str) -> Vec<(Key, &'t str)> {
        let Entries(entries) = self.parse(path, value, "an object");
        let key = |(key, value): (&'t RawValue, &'t RawValue)| {
            let name = serde_json::from_str(key.get()).unwrap_or_default();
            (Key { name, span: self.span(key.get()) }, value.get())
        };
        entries.into_iter().map(key).collect()
    }

    fn take(&mut self, fields: &mut Fields<'t>, name: &str) -> Option<(String, &'t str)> {
        let value = fields.values.remove(name)?;
        let path = join(&fields.path, name);
        self.places.insert(path.clone(), self.span(value));
        Some((path, value))
    }

    fn missing<T: Default>(&mut self, fields: &Fields<'_>, name: &str) -> T {
        // What is no object has no fields, which was said.
        if fields.is_object {
            let here =
                if fields.path.is_empty() { "the manifest".to_owned() } else { format!("`{}`", fields.path) };
            let mistake = Diagnostic::new(
                Code::MissingField,
                join(&fields.path, name),
                format!("{here} does not say its `{name}`"),
            );
            let opening = self.places.get(&fields.path).map_or(0, |span| span.start);
            self.mistakes.push(mistake.at(opening..opening + 1).help(format!("add `\"{name}\": …`")));
        }
        T::default()
    }

    fn repeated(&mut self, path: &str, key: &Key) {
        let message = format!("`{}` is there twice", shown(&key.name));
        let mistake = Diagnostic::new(Code::RepeatedField, path, message);
        self.mistakes.push(mistake.at(key.span.clone()).help("keep one"));
    }

    /// Where a slice of the text begins and ends.
    fn span(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr()).min(self.text.len());
        start..(start + part.len()).min(self.text.len())
    }
}

/// The fields of one object that were not read yet.
struct Fields<'t> {
    path: String,
    values: BTreeMap<String, &'t str>,
    is_object: bool,
}

impl Fields<'_> {
    fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}

struct Key {
    name: String,
    span: Range<usize>,
}

/// The entries of an object as they stand, repeated ones included.
#[derive(Default)]
struct Entries<'t>(Vec<(&'t RawValue, &'t RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Reading)
    }
}

fn join(path: &str, name: &str) -> String {
    let name = shown(name);
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// As much of the author's text as fits into a message, on one line.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

fn kind_in(value: &str) -> &'static str {
    match value.bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a yes or a no",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The byte at a line and a column, both counted from 1 and in bytes, as serde_json tells them.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let at = (before + column.saturating_sub(1)).min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}
