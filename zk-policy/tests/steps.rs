//! What an apply passes through, and where it arrives: after every step of a plan, what each role can do to each row and
//! column is asked of the server and compared with both ends. `ZK_PAIRS` asks for more pairs of policies.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::print_stdout, reason = "figures")]

#[path = "shared/corpus.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod corpus;
#[path = "shared/data.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod data;
#[path = "shared/generator.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod generator;
#[path = "shared/lab.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod lab;
#[path = "shared/rights.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod rights;

use std::fs;
use std::sync::Arc;

use data::Dice;
use lab::Lab;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rights::{Caller, Rights};
use tokio_postgres::Client;
use zk_policy::pg::{self, ApplyConfig, ClaimKey};
use zk_policy::{Consent, Document, Policy};

/// Rows of each table: enough for conditions to differ on.
const ROWS: usize = 6;

/// A lab whose tables are filled.
struct Stage {
    lab: Lab,
    key: Arc<ClaimKey>,
    dice: Dice,
}

impl Stage {
    async fn create(tables: &str, dice: u64) -> Self {
        let mut dice = Dice(dice);
        let mut lab = Lab::create(tables).await;
        let rows = data::rows(&lab.schema().await, &lab.tables().await, ROWS, &mut dice);
        rights::install(&lab.database, &rows).await;
        pg::install_signing(&lab.owner).await.unwrap();
        pg::install_mask_keys(&lab.owner).await.unwrap();
        let key = Arc::new(ClaimKey::generate().unwrap());
        pg::add_claim_key(&lab.owner, &key).await.unwrap();
        Self { lab, key, dice }
    }

    /// Every role of the policies, with claims of each policy that it is in.
    fn callers(&mut self, ends: &[(Document, Policy); 2]) -> Vec<Caller> {
        let mut callers: Vec<Caller> = Vec::new();
        for (document, policy) in ends {
            for role in policy.roles() {
                let claims = data::claims(document, &mut self.dice);
                callers.push(Caller::new(document, role, claims, &self.key));
            }
        }
        callers
    }

    /// Goes from the one policy to the other, a step at a time, each of which is there to stay before the next is taken:
    /// what an apply that is not one transaction would leave behind wherever it stops. Returns how many steps it took.
    async fn walk(&mut self, texts: [&str; 2]) -> usize {
        let ends = [self.lab.check(texts[0]).await, self.lab.check(texts[1]).await];
        let callers = self.callers(&ends);
        self.lab.apply(&ends[0].1).await;
        let plan = self.lab.plan(&ends[1].1).await;
        let before = rights_of(&mut self.lab.root, &callers).await;
        let mut passed: Vec<(String, Vec<Rights>)> = Vec::new();
        self.lab.owner.batch_execute("SET search_path = pg_catalog, pg_temp").await.unwrap();
        for step in &plan.steps {
            for statement in &step.sql {
                self.lab
                    .owner
                    .batch_execute(statement)
                    .await
                    .unwrap_or_else(|e| panic!("{statement}: {e:?}"));
            }
            passed.push((step.summary.clone(), rights_of(&mut self.lab.root, &callers).await));
        }
        self.lab.owner.batch_execute("RESET search_path").await.unwrap();
        let left = self.lab.plan(&ends[1].1).await;
        assert!(left.is_empty(), "{left}");
        let after = rights_of(&mut self.lab.root, &callers).await;
        for (number, (summary, now)) in passed.iter().enumerate() {
            for (who, caller) in callers.iter().enumerate() {
                let more: Vec<&String> = now[who]
                    .iter()
                    .filter(|r| !before[who].contains(*r) && !after[who].contains(*r))
                    .collect();
                assert!(
                    more.is_empty(),
                    "after step {number}, {summary}, {} could {more:?}\n{plan}\n{}\n{}",
                    caller.role,
                    texts[0],
                    texts[1]
                );
            }
        }
        passed.len()
    }
}

async fn rights_of(root: &mut Client, callers: &[Caller]) -> Vec<Rights> {
    let mut all = Vec::new();
    for caller in callers {
        all.push(caller.rights(root).await);
    }
    all
}

/// Everything that applying makes, as text; which tables row-level security is on for is left out, because a table that
/// leaves a policy stays closed.
async fn made(lab: &Lab) -> Vec<String> {
    let query = "SELECT format('policy %s on %s %s %s to %s using %s check %s', polname, polrelid::regclass, polpermissive, polcmd,
                               (SELECT array_agg(o::regrole::text ORDER BY 1) FROM unnest(polroles) o),
                               pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) FROM pg_policy
         UNION ALL SELECT format('grant %s %s on %s to %s', a.privilege_type, a.is_grantable, c.oid::regclass, a.grantee::regrole)
           FROM pg_class c CROSS JOIN aclexplode(c.relacl) a WHERE a.grantee <> c.relowner AND a.grantee <> 0
         UNION ALL SELECT format('grant %s %s on %s.%I to %s', a.privilege_type, a.is_grantable, t.attrelid::regclass, t.attname,
                                 a.grantee::regrole)
           FROM pg_attribute t CROSS JOIN aclexplode(t.attacl) a WHERE a.grantee <> 0
         UNION ALL SELECT format('grant %s on %s to %s', a.privilege_type, n.oid::regnamespace, a.grantee::regrole)
           FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) a
           WHERE a.grantee <> n.nspowner AND a.grantee <> 0 AND n.nspname !~ '^pg_'
         UNION ALL SELECT format('check %s on %s %s', conname, conrelid::regclass, pg_get_expr(conbin, conrelid))
           FROM pg_constraint WHERE contype = 'c' AND conname LIKE 'zk%'
         UNION ALL SELECT format('view %s of %s %s', oid::regclass, relowner::regrole, pg_get_viewdef(oid))
           FROM pg_class WHERE relkind = 'v' AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
         ORDER BY 1";
    let rows = lab.root.query(query, &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).filter(|line| !line.contains(&lab.owner_name)).collect()
}

/// Where one policy stood before, applying the next arrives where it does in a fresh database.
#[tokio::test]
async fn where_an_apply_starts_does_not_matter() {
    let name = testkit::unique_name("w");
    let mut moved = Lab::create(corpus::TABLES).await;
    pg::install_mask_keys(&moved.owner).await.unwrap();
    pg::install_signing(&moved.owner).await.unwrap();
    for [one, other] in corpus_pairs(&name) {
        for text in [&one, &other] {
            let (_, policy) = moved.check(text).await;
            moved.apply(&policy).await;
        }
        let mut fresh = Lab::create(corpus::TABLES).await;
        pg::install_mask_keys(&fresh.owner).await.unwrap();
        pg::install_signing(&fresh.owner).await.unwrap();
        let (_, policy) = fresh.check(&other).await;
        // The roles are those of the other database, whose owner made them: only a superuser may use them here too.
        let plan = pg::plan(&mut fresh.root, &policy).await.unwrap().accept(Consent::Widening).unwrap();
        pg::apply(&mut fresh.root, plan, &ApplyConfig::default()).await.unwrap();
        let (moved, fresh) = (made(&moved).await, made(&fresh).await);
        let only = |a: &[String], b: &[String]| -> Vec<String> {
            a.iter().filter(|line| !b.contains(line)).cloned().collect()
        };
        assert!(!fresh.is_empty());
        assert!(moved == fresh, "left over {:#?}\nmissing {:#?}", only(&moved, &fresh), only(&fresh, &moved));
    }
}

/// Policies of one name: those of the corpus, each followed by the next and the last by the first.
fn corpus_pairs(name: &str) -> Vec<[String; 2]> {
    let texts = corpus::renamed(name);
    let next = texts.iter().cycle().skip(1);
    texts.iter().zip(next).map(|(one, other)| [one.clone(), other.clone()]).collect()
}

/// Generated policies of one name.
fn generated(name: &str, count: usize) -> Vec<String> {
    let text = std::env::var("ZK_SEED").unwrap_or_else(|_| testkit::unique_name("seed"));
    println!("ZK_SEED={text}");
    let mut seed = [0; 32];
    seed.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let mut draw = || generator::policy().new_tree(&mut runner).unwrap().current();
    (0..count).map(|_| format!("policy {name}\n{}", draw())).collect()
}

fn wanted(default: usize) -> usize {
    std::env::var("ZK_PAIRS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn plan_is_empty_after_apply() {
    for file in corpus::files() {
        let text = fs::read_to_string(&file).unwrap();
        let mut lab = Lab::create(corpus::TABLES).await;
        pg::install_signing(&lab.owner).await.unwrap();
        pg::install_mask_keys(&lab.owner).await.unwrap();
        let (_, policy) = lab.check(&text).await;
        assert!(!lab.plan(&policy).await.is_empty());
        lab.apply(&policy).await;
        let again = lab.plan(&policy).await;
        assert!(again.is_empty() && again.drift.is_empty(), "{}\n{again}", file.display());
    }
}

#[tokio::test]
async fn the_schema_of_the_corpus_is_what_the_server_says() {
    let mut lab = Lab::create(corpus::TABLES).await;
    let found = serde_json::to_string_pretty(&lab.schema().await).unwrap();
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/schema.json"), &found).unwrap();
    }
    assert_eq!(found, corpus::SCHEMA);
}

#[tokio::test]
async fn never_wider_between_steps() {
    let name = testkit::unique_name("w");
    let mut steps = 0;
    let mut stage = Stage::create(corpus::TABLES, 2).await;
    for [one, other] in corpus_pairs(&name) {
        steps += stage.walk([&one, &other]).await;
    }
    println!("{steps} steps between policies of the corpus");
}

#[tokio::test]
async fn never_wider_between_steps_of_generated_policies() {
    let name = testkit::unique_name("w");
    let policies = generated(&name, wanted(10) + 1);
    let mut stage = Stage::create(generator::TABLES, 3).await;
    let mut steps = 0;
    for pair in policies.windows(2) {
        steps += stage.walk([&pair[0], &pair[1]]).await;
    }
    println!("{steps} steps between {} pairs of generated policies", policies.len() - 1);
}
