//! Tokens into a [`Document`]: recursive descent that goes on after a mistake, so that all are reported at once.

mod conditions;

use super::comments::{Line, Place};
use super::lexer::{Token, lex};
use super::{
    Claim, ClaimType, ColumnRule, ColumnSet, Command, Document, Effect, MAX_SOURCE, MaskKind, MaskRule, Name,
    Persona, PersonaRight, RESERVED, Role, Rule, Scalar, Table, TableName, Tenancy, Term,
};
use crate::diagnostic::{Code, Diagnostic, Diagnostics, MAX_NAME};
use crate::source::Span;

const ITEMS: [&str; 5] = ["role", "claim", "claims", "table", "persona"];
const COMMANDS: [&str; 4] = ["select", "insert", "update", "delete"];
const STATEMENTS: [&str; 7] = ["tenant", "shared", "critical", "allow", "deny", "columns", "mask"];

/// A text that was read: what it says, and where.
pub(super) struct Text {
    pub(super) document: Document,
    pub(super) comments: Vec<Span>,
    /// Where each line of the canonical form stands, in the order of the text; the last is its end.
    pub(super) places: Vec<(Place, Span)>,
}

pub(super) fn parse(source: &str) -> Result<Text, Diagnostics> {
    if source.len() > MAX_SOURCE {
        let message = format!("the text is longer than {MAX_SOURCE} bytes");
        let diagnostic = Diagnostic::new(Code::Limit, Span::NONE, message);
        return Err(Diagnostics::one(diagnostic.help("split it into several policies")));
    }
    let mut diagnostics = Diagnostics::default();
    let (tokens, comments) = lex(source, &mut diagnostics);
    let mut parser = Parser { tokens, at: 0, depth: 0, diagnostics, places: Vec::new() };
    let document = parser.document();
    parser.diagnostics.or(Text { document, comments, places: parser.places })
}

/// A mistake was reported; the caller decides where reading goes on.
struct Reported;
type Parsed<T> = Result<T, Reported>;

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    diagnostics: Diagnostics,
    places: Vec<(Place, Span)>,
}

impl Parser {
    fn document(&mut self) -> Document {
        let mut document = Document {
            name: "".into(),
            roles: vec![],
            claims: vec![],
            signed: false,
            tables: vec![],
            personas: vec![],
        };
        match self.keyword("policy").and_then(|()| self.name("the policy's name")) {
            Ok(name) => document.name = name,
            Err(Reported) => self.skip_to(&ITEMS),
        }
        self.placed(Place::Policy, self.tokens.first().map_or(Span::NONE, |(_, span)| *span));
        while *self.peek() != Token::End {
            let start = self.at;
            if self.item(&mut document).is_err() {
                self.at += usize::from(self.at == start);
                self.skip_to(&ITEMS);
            }
        }
        self.places.push((Place::End, self.span()));
        document
    }

    /// Remembers where a line of the canonical form stands: from `start` to what was read last.
    fn placed(&mut self, place: Place, start: Span) {
        self.places.push((place, start.to(self.previous_span())));
    }

    fn item(&mut self, document: &mut Document) -> Parsed<()> {
        let start = self.span();
        if self.eat_word("role") {
            let name = self.name("the role's name")?;
            let includes = if self.eat_word("includes") { self.names("a role")? } else { vec![] };
            self.placed(Place::Role(document.roles.len()), start);
            document.roles.push(Role { name, includes });
        } else if self.eat_word("claim") {
            let name = self.name("the claim's name")?;
            self.mark(":")?;
            let ty = self.claim_type()?;
            self.placed(Place::Claim(document.claims.len()), start);
            document.claims.push(Claim { name, ty });
        } else if self.eat_word("claims") {
            self.keyword("signed")?;
            self.placed(Place::Signed, start);
            document.signed = true;
        } else if self.eat_word("table") {
            let index = document.tables.len();
            let table = self.table(start, |line| Place::Table(index, line))?;
            document.tables.push(table);
        } else if self.eat_word("persona") {
            let index = document.personas.len();
            let persona = self.persona(start, |line| Place::Persona(index, line))?;
            document.personas.push(persona);
        } else {
            return self.unexpected("`role`, `claim`, `claims`, `table` or `persona`", &ITEMS);
        }
        Ok(())
    }

    fn claim_type(&mut self) -> Parsed<ClaimType> {
        let scalar = match self.peek() {
            Token::Word(word) => Scalar::ALL.into_iter().find(|s| s.name() == word),
            _ => None,
        };
        let Some(scalar) = scalar else {
            return self.unexpected(
                "a type: uuid, text, int8, bool, timestamptz or date",
                &Scalar::ALL.map(Scalar::name),
            );
        };
        self.at += 1;
        if !self.eat("[") {
            return Ok(ClaimType::One(scalar));
        }
        self.mark("]")?;
        if matches!(scalar, Scalar::Uuid | Scalar::Text | Scalar::Int8) {
            return Ok(ClaimType::Many { array: scalar });
        }
        let span = self.previous_span();
        let message = format!("a claim cannot be an array of `{}`", scalar.name());
        self.diagnostics
            .push(Diagnostic::new(Code::Syntax, span, message).help("arrays are of uuid, text or int8"));
        Err(Reported)
    }

    fn table(&mut self, start: Span, place: impl Fn(Line) -> Place) -> Parsed<Table> {
        let name = self.table_name()?;
        let mut table =
            Table { name, tenancy: None, critical: vec![], rules: vec![], columns: vec![], masks: vec![] };
        self.mark("{")?;
        self.placed(place(Line::Open), start);
        while !self.eat("}") {
            if *self.peek() == Token::End {
                return self.unexpected("`}`", &[]);
            }
            let (at, start) = (self.at, self.span());
            let read = self.statement(&mut table);
            if let Ok(line) = read {
                self.placed(place(line), start);
            } else {
                self.at += usize::from(self.at == at);
                self.skip_to(&STATEMENTS);
                // A new item can only start after this table's `}`; without one, the table ends here.
                if self.is_item() {
                    break;
                }
            }
        }
        self.placed(place(Line::Close), self.previous_span());
        Ok(table)
    }

    fn persona(&mut self, start: Span, place: impl Fn(Line) -> Place) -> Parsed<Persona> {
        let name = self.name("the persona's name")?;
        self.mark("{")?;
        self.placed(place(Line::Open), start);
        let mut rights = Vec::new();
        while !self.eat("}") {
            if *self.peek() == Token::End {
                return self.unexpected("`}`", &[]);
            }
            let (at, start) = (self.at, self.span());
            if let Ok(right) = self.persona_right() {
                self.placed(place(Line::Right(rights.len())), start);
                rights.push(right);
            } else {
                self.at += usize::from(self.at == at);
                self.skip_to(&COMMANDS);
                if self.is_item() {
                    break;
                }
            }
        }
        self.placed(place(Line::Close), self.previous_span());
        Ok(Persona { name, rights })
    }

    fn persona_right(&mut self) -> Parsed<PersonaRight> {
        let commands = self.commands(&Command::ALL)?;
        self.keyword("on")?;
        let table = self.table_name()?;
        self.keyword("across")?;
        self.keyword("tenants")?;
        let condition = if self.eat_word("where") { Some(self.expr()?) } else { None };
        Ok(PersonaRight { commands, table, condition })
    }

    fn table_name(&mut self) -> Parsed<TableName> {
        let first = self.name("the table's name")?;
        if self.eat(".") {
            return Ok(TableName { schema: first, table: self.name("the table's name")? });
        }
        Ok(TableName { schema: "public".into(), table: first })
    }

    /// Reads a statement and tells which line of the canonical form says it.
    fn statement(&mut self, table: &mut Table) -> Parsed<Line> {
        let start = self.span();
        if self.eat_word("tenant") {
            let column = self.name("the tenant column")?;
            self.mark("=")?;
            self.keyword("claim")?;
            self.mark(".")?;
            let claim = self.name("the claim's name")?;
            self.tenancy(table, Tenancy::Tenant { column, claim }, start);
            return Ok(Line::Tenancy);
        }
        if self.eat_word("shared") {
            self.tenancy(table, Tenancy::Shared, start);
            return Ok(Line::Tenancy);
        }
        if self.eat_word("critical") {
            table.critical.extend(self.names("a column")?);
            return Ok(Line::Critical);
        }
        if self.is_word("allow") || self.is_word("deny") {
            let effect = if self.is_word("allow") { Effect::Allow } else { Effect::Deny };
            self.at += 1;
            let role = self.name("a role")?;
            let commands = self.commands(&Command::ALL)?;
            let condition = if self.eat_word("where") { Some(self.expr()?) } else { None };
            return Ok(Line::Rule(push(&mut table.rules, Rule { effect, role, commands, condition })));
        }
        if self.eat_word("columns") {
            let role = self.name("a role")?;
            let commands = self.commands(&[Command::Select, Command::Insert, Command::Update])?;
            let columns = self.column_set()?;
            return Ok(Line::Columns(push(&mut table.columns, ColumnRule { role, commands, columns })));
        }
        if self.eat_word("mask") {
            let rule = self.mask_rule()?;
            return Ok(Line::Mask(push(&mut table.masks, rule)));
        }
        self.unexpected(
            "`tenant`, `shared`, `critical`, `allow`, `deny`, `columns`, `mask` or `}`",
            &STATEMENTS,
        )
    }

    fn tenancy(&mut self, table: &mut Table, tenancy: Tenancy, span: Span) {
        if table.tenancy.is_some() {
            let message = format!("`{}` says `tenant` or `shared` twice", table.name);
            let diagnostic = Diagnostic::new(Code::Conflict, span.to(self.previous_span()), message);
            self.diagnostics.push(diagnostic.help("keep one of them"));
        }
        table.tenancy = Some(tenancy);
    }

    fn commands(&mut self, possible: &[Command]) -> Parsed<Vec<Command>> {
        let names: Vec<&str> = possible.iter().map(|c| c.name()).collect();
        let mut commands = Vec::new();
        loop {
            let found = match self.peek() {
                Token::Word(word) => possible.iter().find(|c| c.name() == word),
                _ => None,
            };
            let Some(command) = found else {
                return self.unexpected(&format!("a command: {}", names.join(", ")), &names);
            };
            if commands.contains(command) {
                let message = format!("`{}` is named twice", command.name());
                let diagnostic = Diagnostic::new(Code::Conflict, self.span(), message);
                self.diagnostics.push(diagnostic.help("name it once"));
            } else {
                commands.push(*command);
            }
            self.at += 1;
            if !self.eat(",") {
                return Ok(commands);
            }
        }
    }

    fn column_set(&mut self) -> Parsed<ColumnSet> {
        if self.eat_word("only") {
            return Ok(ColumnSet::Only(self.names("a column")?));
        }
        if !self.eat_word("all") {
            return self.unexpected("`only` or `all`", &["only", "all"]);
        }
        Ok(ColumnSet::Except(if self.eat_word("except") { self.names("a column")? } else { vec![] }))
    }

    /// `column for role as null | value | partial(first, 'fill', last) | hash [ ('label') ]`
    fn mask_rule(&mut self) -> Parsed<MaskRule> {
        let column = self.name("a column")?;
        self.keyword("for")?;
        let role = self.name("a role")?;
        self.keyword("as")?;
        let kind = if self.eat_word("null") {
            MaskKind::Null
        } else if self.eat_word("partial") {
            self.mark("(")?;
            let first = self.count()?;
            self.mark(",")?;
            let fill = self.text()?;
            self.mark(",")?;
            let last = self.count()?;
            self.mark(")")?;
            MaskKind::Partial { first, fill, last }
        } else if self.eat_word("hash") {
            let labelled = self.eat("(");
            let label = if labelled { Some(self.text()?) } else { None };
            if labelled {
                self.mark(")")?;
            }
            MaskKind::Hash { label }
        } else {
            match self.term()? {
                Term::Column(_) | Term::Claim(_) => {
                    self.at -= 1;
                    return self
                        .unexpected("`null`, `partial(…)`, `hash` or a value", &["null", "partial", "hash"]);
                }
                value => MaskKind::Constant(value),
            }
        };
        Ok(MaskRule { column, role, kind })
    }

    fn text(&mut self) -> Parsed<String> {
        let Token::Text(text) = self.peek().clone() else { return self.unexpected("a text", &[]) };
        self.at += 1;
        Ok(text)
    }

    fn count(&mut self) -> Parsed<u16> {
        match *self.peek() {
            Token::Int(value) if u16::try_from(value).is_ok() => {
                self.at += 1;
                Ok(u16::try_from(value).unwrap_or_default())
            }
            _ => self.unexpected("a number of characters, 0 to 65535", &[]),
        }
    }

    // Tokens.

    fn names(&mut self, what: &str) -> Parsed<Vec<Name>> {
        let mut names = vec![self.name(what)?];
        while self.eat(",") {
            names.push(self.name(what)?);
        }
        Ok(names)
    }

    fn name(&mut self, what: &str) -> Parsed<Name> {
        match self.peek().clone() {
            Token::Word(text) if RESERVED.contains(&text.as_str()) => {
                let message = format!("expected {what}, found the word `{text}`");
                let help = format!("to name something so, quote it: `\"{text}\"`");
                self.diagnostics
                    .push(Diagnostic::new(Code::Syntax, self.span(), message).label("here").help(help));
                Err(Reported)
            }
            Token::Word(text) | Token::Quoted(text) => {
                if text.len() > MAX_NAME {
                    let message = format!("this name has {} bytes; PostgreSQL keeps {MAX_NAME}", text.len());
                    let diagnostic = Diagnostic::new(Code::NameTooLong, self.span(), message);
                    self.diagnostics.push(diagnostic.help("shorten the name"));
                }
                let name = Name::new(text, self.span());
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected(what, &[]),
        }
    }

    fn keyword(&mut self, word: &str) -> Parsed<()> {
        if self.eat_word(word) { Ok(()) } else { self.unexpected(&format!("`{word}`"), &[word]) }
    }

    fn mark(&mut self, mark: &str) -> Parsed<()> {
        if self.eat(mark) { Ok(()) } else { self.unexpected(&format!("`{mark}`"), &[]) }
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn eat(&mut self, mark: &str) -> bool {
        let found = matches!(self.peek(), Token::Mark(m) if *m == mark);
        self.at += usize::from(found);
        found
    }

    /// Whether something starts here that no block contains.
    fn is_item(&self) -> bool {
        matches!(self.peek(), Token::Word(word) if ITEMS.contains(&word.as_str()))
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(w) if w == word)
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    fn span(&self) -> Span {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(Span::NONE, |(_, span)| *span)
    }

    fn previous_span(&self) -> Span {
        self.tokens.get(self.at.saturating_sub(1)).map_or(Span::NONE, |(_, span)| *span)
    }

    /// Goes on at the next word that starts something: one of `words`, an item or, within a table, its `}`.
    fn skip_to(&mut self, words: &[&str]) {
        loop {
            match self.peek() {
                Token::End => return,
                Token::Mark("}") if words != ITEMS => return,
                Token::Word(w) if words.contains(&w.as_str()) || ITEMS.contains(&w.as_str()) => return,
                _ => self.at += 1,
            }
        }
    }

    fn unexpected<T>(&mut self, wanted: &str, candidates: &[&str]) -> Parsed<T> {
        let found = match self.peek() {
            Token::Word(text) | Token::Quoted(text) => format!("`{text}`"),
            Token::Text(_) => "a text".to_owned(),
            Token::Int(value) => format!("`{value}`"),
            Token::Mark(mark) => format!("`{mark}`"),
            Token::End => "the end of the policy".to_owned(),
        };
        let mut diagnostic =
            Diagnostic::new(Code::Syntax, self.span(), format!("expected {wanted}, found {found}"))
                .label("here");
        if let Token::Word(word) = self.peek()
            && let Some(help) = self.diagnostics.suggest(word, candidates.iter().copied())
        {
            diagnostic = diagnostic.help(help);
        }
        self.diagnostics.push(diagnostic);
        Err(Reported)
    }
}

/// Adds an item and tells its place.
fn push<T>(items: &mut Vec<T>, item: T) -> usize {
    items.push(item);
    items.len() - 1
}
