//! What a role can do, as a set of the smallest things: this column of that row, this row in the place of that one.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};
use testkit::Database;
use tokio_postgres::Client;
use zk_policy::pg::ClaimKey;
use zk_policy::{ClaimValue, Document, Session};

use super::data::Rows;

const SCRIPT: &str = include_str!("rights.sql");

/// Everything that a role can do.
pub(crate) type Rights = BTreeSet<String>;

/// Fills the tables and makes what [`Caller::rights`] asks, as the superuser.
pub(crate) async fn install(database: &Database, rows: &[Rows]) {
    let root = database.connect().await.unwrap();
    root.batch_execute(SCRIPT).await.unwrap();
    for Rows { table, key, there, candidates } in rows {
        let insert = format!(
            "INSERT INTO {table} SELECT r.* FROM jsonb_array_elements($1::text::jsonb) row,
             jsonb_populate_record(NULL::{table}, row) r"
        );
        root.execute(&insert, &[&Value::from(there.clone()).to_string()]).await.unwrap();
        let note =
            "INSERT INTO probe.candidates SELECT $1, row FROM jsonb_array_elements($2::text::jsonb) row";
        root.execute(note, &[table, &Value::from(candidates.clone()).to_string()]).await.unwrap();
        let (table, key) = (table, key.replace('\'', "''"));
        let trigger = format!(
            "CREATE TRIGGER probe BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION probe.instead('{key}')"
        );
        root.batch_execute(&trigger).await.unwrap();
    }
}

/// Who asks: a role of the database with claims.
pub(crate) struct Caller {
    pub(crate) role: String,
    pub(crate) claims: Vec<(String, ClaimValue)>,
    /// The session that signs the claims, where a policy asks for that.
    pub(crate) signed: Option<(Session, Arc<ClaimKey>)>,
}

impl Caller {
    /// `role` of the policy with these claims.
    pub(crate) fn new(
        document: &Document,
        role: &str,
        claims: Vec<(String, ClaimValue)>,
        key: &Arc<ClaimKey>,
    ) -> Self {
        let mut session = Session::new(document, role).unwrap();
        for (name, value) in &claims {
            session = session.claim(name, value.clone()).unwrap();
        }
        let role = session.database_role().to_owned();
        Self { role, claims, signed: document.signed.then(|| (session, Arc::clone(key))) }
    }

    /// What the caller can do now; nothing if the role does not exist.
    pub(crate) async fn rights(&self, root: &mut Client) -> Rights {
        let text = |value: &ClaimValue| match value {
            ClaimValue::One(text) => text.clone(),
            ClaimValue::Many(items) => array(items),
        };
        let claims: Map<String, Value> =
            self.claims.iter().map(|(name, value)| (name.clone(), text(value).into())).collect();
        let (role, claims) = (&self.role, Value::Object(claims).to_string());
        let found = match &self.signed {
            Some((session, key)) => {
                // Whoever signs acts as the role; whoever asks does not.
                if root.batch_execute(&format!("SET ROLE {}", quoted(role))).await.is_err() {
                    return Rights::new();
                }
                let transaction = session.signed(key).begin(root).await.unwrap();
                transaction.batch_execute("SET LOCAL ROLE NONE").await.unwrap();
                let found = transaction.query_one(ASK, &[role, &claims]).await;
                transaction.batch_execute("ROLLBACK; RESET ROLE").await.unwrap();
                found
            }
            None => root.query_one(ASK, &[role, &claims]).await,
        };
        let found: String = found.unwrap_or_else(|e| panic!("{role}: {e:?}")).get(0);
        expand(&serde_json::from_str(&found).unwrap())
    }
}

const ASK: &str = "SELECT probe.rights($1, $2::text::jsonb)::text";

fn quoted(role: &str) -> String {
    format!("\"{}\"", role.replace('"', "\"\""))
}

fn array(items: &[String]) -> String {
    let quoted: Vec<String> =
        items.iter().map(|i| format!("\"{}\"", i.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!("{{{}}}", quoted.join(","))
}

fn expand(found: &Value) -> Rights {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = Rights::new();
    for (relation, can) in found.as_object().unwrap() {
        for cell in can["shown"].as_array().into_iter().flatten() {
            rights.insert(format!("{relation}: see {cell}"));
        }
        for column in list(&can["insertable"]) {
            rights.extend(
                list(&can["taken"]).iter().map(|row| format!("{relation}: insert {column} of {row}")),
            );
        }
        let (reached, written) = (list(&can["reached"]), list(&can["written"]));
        for column in list(&can["updatable"]) {
            for old in &reached {
                rights
                    .extend(written.iter().map(|new| format!("{relation}: update {column}, {old} to {new}")));
            }
        }
        rights.extend(list(&can["deleted"]).iter().map(|row| format!("{relation}: delete {row}")));
        rights.extend(list(&can["other"]).iter().map(|word| format!("{relation}: {word}")));
    }
    rights
}
