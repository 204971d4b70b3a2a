//! The tutorial of the manual, run: its tables, policies and statements, with the answers that it gives.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::string_slice, reason = "tests")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use testkit::Database;
use tokio_postgres::{Client, SimpleQueryMessage};
use zk_policy::pg::{self, ApplyConfig};
use zk_policy::{Command, Consent, Document, MaskKey, Policy, Session, Value, check};

fn chapter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/tutorial-policy.md")
}

/// A block of code: what stands behind its fence, and its lines.
struct Block {
    kind: String,
    text: String,
}

fn blocks(markdown: &str) -> Vec<Block> {
    let mut parts = markdown.split("```").skip(1).step_by(2);
    let block = |part: &str| {
        let (kind, text) = part.split_once('\n').unwrap();
        Block { kind: kind.to_owned(), text: text.to_owned() }
    };
    std::iter::from_fn(|| parts.next()).map(block).collect()
}

/// A database with an owner, and a login that may act as every role of the policy.
struct Crm {
    database: Database,
    owner: Client,
    policy: Option<(Document, Policy)>,
}

impl Crm {
    async fn create() -> Self {
        let database = Database::create().await.unwrap();
        let setup = format!(
            "CREATE ROLE owner LOGIN CREATEROLE PASSWORD 'x'; ALTER DATABASE {} OWNER TO owner;
             CREATE ROLE service LOGIN NOINHERIT PASSWORD 'x'",
            database.name()
        );
        database.execute(&setup).await.unwrap();
        let owner = database.connect_as("owner", "x").await.unwrap();
        Self { database, owner, policy: None }
    }

    /// What `plan` says of the policy, which is then applied; or what is wrong with it.
    async fn apply(&mut self, text: &str) -> String {
        let schema = pg::read_schema(&mut self.owner).await.unwrap();
        let document = Document::parse(text).unwrap();
        let policy = match check(&document, &schema) {
            Ok(policy) => policy,
            Err(mistakes) => return mistakes.to_lines("crm.policy", text),
        };
        if policy.guard("public", "invoices").is_some() {
            give_key(&self.owner, &policy).await.unwrap();
        }
        let plan = pg::plan(&mut self.owner, &policy).await.unwrap();
        let said = policy.warnings().to_lines("crm.policy", text) + &plan.to_string();
        pg::apply(&mut self.owner, plan.accept(Consent::Widening).unwrap(), &ApplyConfig::default())
            .await
            .unwrap();
        assert!(pg::plan(&mut self.owner, &policy).await.unwrap().is_empty());
        for role in policy.roles() {
            let grant = format!("GRANT {} TO service", policy.database_role(role));
            self.database.execute(&grant).await.unwrap();
        }
        self.policy = Some((document, policy));
        said
    }

    /// The answer to a statement by `role claim=value …`; nothing of it is kept.
    async fn ask(&self, who: &str, statement: &str) -> String {
        let mut words = who.split_whitespace();
        let (document, _) = self.policy.as_ref().unwrap();
        let mut session = Session::new(document, words.next().unwrap()).unwrap();
        for claim in words {
            let (name, value) = claim.split_once('=').unwrap();
            session = session.claim(name, value).unwrap();
        }
        let mut client = self.database.connect_as("service", "x").await.unwrap();
        session.enter(&client).await.unwrap();
        let transaction = session.begin(&mut client).await.unwrap();
        let answer = match transaction.simple_query(statement).await {
            Ok(answer) => answer,
            Err(error) => return format!("ERROR {}\n", error.code().unwrap().code()),
        };
        let mut lines = String::new();
        for message in answer {
            if let SimpleQueryMessage::Row(row) = message {
                let values: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
                lines.push_str(&format!("{}\n", values.join(" | ")));
            }
        }
        if lines.is_empty() { "(no rows)\n".to_owned() } else { lines }
    }
}

async fn give_key(owner: &Client, policy: &Policy) -> Result<(), Box<dyn Error>> {
    pg::install_mask_keys(owner).await?;
    pg::set_mask_key(owner, policy.name(), &MaskKey::generate()?).await?;
    Ok(())
}

/// The code of the chapter's last section.
fn decide(document: &Document, policy: &Policy) -> Result<(), Box<dyn Error>> {
    let session = Session::new(document, "agent")?.claim("tenant", 1)?.claim("user", "anna")?;
    let guard = policy.guard("public", "customers").ok_or("no such table")?;
    let row = [Value::Int8(1), Value::Int8(3), Value::Text("omar")];
    let decision = guard.decide(&session, Command::Update, &row);
    let why = "refused: no rule admits the row to update; it is not certain that `owner = claim.user`";
    assert_eq!(decision.to_string(), why);
    let filter = guard.filter(&session, Command::Select);
    assert_eq!(filter.sql, r#"(("tenant" = $1::text::int8) AND ("owner" = $2::text::text))"#);
    Ok(())
}

#[tokio::test]
async fn the_tutorial_tells_the_truth() {
    let markdown = fs::read_to_string(chapter()).unwrap();
    let mut crm = Crm::create().await;
    let (mut said, mut asked, mut answers) = (None, 0, 0);
    for Block { kind, text } in blocks(&markdown) {
        let previous = said.take();
        match kind.as_str() {
            "sql owner" => crm.owner.batch_execute(&text).await.unwrap(),
            "policy" => said = Some(crm.apply(&text).await),
            "text" => {
                let previous: String = previous.expect("an answer follows a statement or a policy");
                answers += 1;
                // Of a plan the chapter shows a part; everything else it shows whole.
                let whole = !text.starts_with("WIDENS") && !text.contains("warning[");
                assert!(!whole || previous == text, "the chapter says\n{text}and the database\n{previous}");
                for line in text.lines() {
                    assert!(
                        previous.lines().any(|l| l.trim() == line.trim()),
                        "`{line}` is not in\n{previous}"
                    );
                }
            }
            "text matrix" => {
                let (_, policy) = crm.policy.as_ref().unwrap();
                assert_eq!(text.trim_end(), policy.access_matrix().to_string());
            }
            "rust" => {
                let here = include_str!("tutorial.rs");
                for line in text.lines() {
                    assert!(here.lines().any(|l| l.trim() == line.trim()), "`{line}` is in no test");
                }
            }
            kind => match kind.strip_prefix("sql as ") {
                Some(who) => {
                    asked += 1;
                    said = Some(crm.ask(who, &text).await);
                }
                None => panic!("the test does not know blocks of `{kind}`"),
            },
        }
    }
    let (document, policy) = crm.policy.as_ref().unwrap();
    decide(document, policy).unwrap();
    assert!(asked > 10 && answers > asked, "{asked} statements, {answers} answers");
}
