use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::json_schema::{is_valid, spoilt};

use super::*;

/// Every field once.
fn whole() -> Value {
    json!({
        "solution": "crm",
        "services": [
            { "name": "orders", "roles": ["crm_agent", "a role"], "peers": ["billing"],
              "secrets": { "STRIPE_KEY": "stripe-key" }, "databases": { "REPORTS_URL": "reports" },
              "search_path": ["crm", "public"], "scopes": ["payments", "tenant:*"], "lifetime_seconds": 60, "max_lifetime_seconds": 100,
              "connections": 3, "statement_timeout_ms": 5, "scram_iterations": 1 },
            { "name": "billing", "roles": ["crm_manager"] },
        ],
    })
}

/// The codes, paths and marked text of what is wrong with `json`, in order.
#[track_caller]
fn check(json: &str, expected: &[(Code, &str, &str)]) {
    let mistakes = Manifest::from_json(json).expect_err("must be refused");
    let marked = |d: &Diagnostic| d.span.clone().map_or("", |span| json.get(span).unwrap()).to_owned();
    let found: Vec<_> = mistakes.iter().map(|d| (d.code, d.path.clone(), marked(d))).collect();
    let expected: Vec<_> = expected.iter().map(|(c, p, m)| (*c, (*p).to_owned(), (*m).to_owned())).collect();
    assert_eq!(found, expected, "{}", mistakes.to_lines("m", json));
    for mistake in mistakes.iter() {
        assert!(!mistake.message.is_empty() && !mistake.message.ends_with('.'), "{mistake:?}");
    }
}

#[test]
fn the_same_manifest_is_read_as_serde_reads_it() {
    let text = whole().to_string();
    let read = Manifest::from_json(&text).unwrap();
    assert_eq!(read, serde_json::from_str::<Manifest>(&text).unwrap());
    assert_eq!(Manifest::from_json(&serde_json::to_string(&read).unwrap()).unwrap(), read);
    assert_eq!(read.services[0].secrets["STRIPE_KEY"], "stripe-key");
}

#[test]
fn every_mistake_is_told_at_its_place() {
    use Code::{
        Bounds, Json, Kind, Lifetime, MissingField, Name, NoRoles, RepeatedField, RepeatedService, TooMany,
        UnknownField, UnknownPeer, Variable,
    };
    let service = |fields: &str| {
        format!(r#"{{"solution": "a", "services": [{{"name": "x", "roles": ["r"], {fields}}}]}}"#)
    };
    check("{\"solution\": \"a\",\n \"services\": [}", &[(Json, "", "}")]);
    check("", &[(Json, "", "")]);
    check("[]", &[(Kind, "", "[]")]);
    check("{}", &[(MissingField, "solution", "{"), (MissingField, "services", "{")]);
    check(r#"{"solution": 7, "services": {}}"#, &[(Kind, "solution", "7"), (Kind, "services", "{}")]);
    check(r#"{"solution": "a", "services": [7]}"#, &[(Kind, "services[0]", "7")]);
    check(&service(r#""tls": false"#), &[(UnknownField, "services[0].tls", r#""tls""#)]);
    check(&service(r#""name": "y""#), &[(RepeatedField, "services[0].name", r#""name""#)]);
    check(
        r#"{"solution": "a b", "services": [{"name": "x\"; DROP", "roles": []}]}"#,
        &[
            (Name, "solution", r#""a b""#),
            (Name, "services[0].name", r#""x\"; DROP""#),
            (NoRoles, "services[0].roles", "[]"),
        ],
    );
    check(
        &service(
            r#""lifetime_seconds": 0, "max_lifetime_seconds": 99999999, "connections": 0, "scram_iterations": 0"#,
        ),
        &[
            (Lifetime, "services[0].lifetime_seconds", "0"),
            (Lifetime, "services[0].max_lifetime_seconds", "99999999"),
            (Bounds, "services[0].connections", "0"),
            (Bounds, "services[0].scram_iterations", "0"),
        ],
    );
    check(
        &service(
            r#""search_path": [""], "scopes": ["a b", "*", "a*b", "t:*"], "secrets": {"K": "a"},
               "databases": {"K": "x", "PGHOST": "x", "D": "", "E": "x"}"#,
        ),
        &[
            (Name, "services[0].search_path[0]", r#""""#),
            (Name, "services[0].scopes[0]", r#""a b""#),
            (Name, "services[0].scopes[2]", r#""a*b""#),
            (Variable, "services[0].databases.K", r#""K""#),
            (Variable, "services[0].databases.PGHOST", r#""PGHOST""#),
            (Name, "services[0].databases.D", r#""D""#),
        ],
    );
    // What was left out has the place of its object.
    check(&service(r#""max_lifetime_seconds": 100"#), &[(Lifetime, "services[0].lifetime_seconds", "{")]);
    check(&service(r#""connections": 65536"#), &[(Bounds, "services[0].connections", "65536")]);
    check(&service(r#""connections": -1"#), &[(Kind, "services[0].connections", "-1")]);
    check(
        &service(r#""roles": ["\u0000", 3]"#).replace(r#""roles": ["r"], "#, ""),
        &[(Name, "services[0].roles[0]", r#""\u0000""#), (Kind, "services[0].roles[1]", "3")],
    );
    check(&service(r#""peers": ["y", "x"]"#), &[(UnknownPeer, "services[0].peers[0]", r#""y""#)]);
    check(
        &service(r#""secrets": {"PGPASSWORD": "a", "path": "a", "PATH": "a", "KEY": "A!", "KEY": "a"}"#),
        &[
            (Variable, "services[0].secrets.PGPASSWORD", r#""PGPASSWORD""#),
            (Variable, "services[0].secrets.path", r#""path""#),
            (Variable, "services[0].secrets.PATH", r#""PATH""#),
            (RepeatedField, "services[0].secrets.KEY", r#""KEY""#),
        ],
    );
    // A stored secret's value must not choose the code that runs.
    check(
        &service(r#""secrets": {"LD_PRELOAD": "a", "NODE_OPTIONS": "a"}, "databases": {"PYTHONPATH": "d"}"#),
        &[
            (Variable, "services[0].secrets.LD_PRELOAD", r#""LD_PRELOAD""#),
            (Variable, "services[0].secrets.NODE_OPTIONS", r#""NODE_OPTIONS""#),
            (Variable, "services[0].databases.PYTHONPATH", r#""PYTHONPATH""#),
        ],
    );
    check(&service(r#""secrets": {"KEY": "A!"}"#), &[(Name, "services[0].secrets.KEY", r#""KEY""#)]);
    check(
        r#"{"solution": "a", "services": [{"name": "x", "roles": ["r"]}, {"name": "x", "roles": ["r"]}]}"#,
        &[(RepeatedService, "services[1].name", r#""x""#)],
    );
    let many = format!("[{}]", vec![r#""r""#; 1001].join(","));
    let text = service("").replace(", }", "}").replace(r#"["r"]"#, &many);
    let mistakes = Manifest::from_json(&text).unwrap_err();
    assert_eq!(mistakes.iter().map(|d| d.code).collect::<Vec<_>>(), [TooMany]);
    let long = " ".repeat((1 << 20) + 1);
    assert_eq!(Manifest::from_json(&long).unwrap_err().iter().next().unwrap().code, Json);
}

#[test]
fn what_is_meant_is_guessed() {
    let text = r#"{"solution": "a", "servces": [], "services": [{"name": "billing", "roles": ["r"], "peers": ["biling"]}]}"#;
    let help: Vec<_> = Manifest::from_json(text).unwrap_err().iter().map(|d| d.help.clone()).collect();
    assert_eq!(help, ["did you mean `services`?", "did you mean `billing`?"]);
    let manifest = Manifest::from_json(&whole().to_string()).unwrap();
    assert!(manifest.service("biling").unwrap_err().to_string().ends_with("did you mean `billing`?"));
}

#[test]
fn codes_are_told_apart_and_listed() {
    let manual = include_str!("../../../docs/src/manifest.md");
    for code in Code::ALL {
        assert!(manual.contains(&format!("| {code} |")), "{code} is not in the manual");
    }
    let numbers: std::collections::BTreeSet<u16> = Code::ALL.iter().map(|code| code.number()).collect();
    assert_eq!(numbers.len(), Code::ALL.len());
}

#[cfg(feature = "render")]
#[test]
fn mistakes_are_drawn() {
    let text = "{\n  \"solution\": \"crm\",\n  \"services\": [{ \"name\": \"orders\", \"rols\": \"agent\", \"connections\": \"ten\" }]\n}\n";
    let drawn = Manifest::from_json(text).unwrap_err().render("manifest.json", text);
    let expected = r#"error[M104]: `services[0]` does not say its `roles`
 --> manifest.json:3:16
  |
3 |   "services": [{ "name": "orders", "rols": "agent", "connections": "ten" }]
  |                ^
  |
  = help: add `"roles": …`

error[M103]: there is no field `rols` here
 --> manifest.json:3:36
  |
3 |   "services": [{ "name": "orders", "rols": "agent", "connections": "ten" }]
  |                                    ^^^^^^
  |
  = help: did you mean `roles`?

error[M102]: services[0].connections wants a whole number
 --> manifest.json:3:68
  |
3 |   "services": [{ "name": "orders", "rols": "agent", "connections": "ten" }]
  |                                                                    ^^^^^ this is a text

"#;
    assert_eq!(drawn, expected);
}

// --- The schema -----------------------------------------------------------------------------------------------------

fn generated() -> Value {
    let mut schema = schemars::schema_for!(Manifest).to_value();
    schema["title"] = "A manifest of zk-creds".into();
    schema
}

/// `INSTA_UPDATE=always` writes the file anew, as it does with snapshots.
#[test]
fn the_file_is_that_of_the_types() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/manifest.schema.json");
    let wanted = serde_json::to_string_pretty(&generated()).unwrap() + "\n";
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&file, &wanted).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted, "{} is stale", file.display());
}

#[test]
fn the_schema_agrees_with_what_is_read() {
    let schema = generated();
    let quickstart = include_str!("../../../examples/quickstart/manifest.json");
    for text in [whole().to_string(), quickstart.to_owned()] {
        let json: Value = serde_json::from_str(&text).unwrap();
        assert!(Manifest::from_json(&text).is_ok() && is_valid(&json, &schema));
        let mut refused = 0;
        for (place, spoilt) in spoilt(&json) {
            if Manifest::from_json(&spoilt.to_string()).is_err() {
                refused += 1;
                let by_value = place.ends_with("/secrets") || place.contains("/peers");
                assert!(by_value || !is_valid(&spoilt, &schema), "at {place}");
            }
        }
        assert!(refused > 10, "{refused}");
    }
    for (field, value) in [
        ("lifetime_seconds", 0),
        ("max_lifetime_seconds", 2_592_001),
        ("connections", 0),
        ("scram_iterations", 100_001),
    ] {
        let mut json = whole();
        json["services"][0][field] = value.into();
        assert!(Manifest::from_json(&json.to_string()).is_err() && !is_valid(&json, &schema), "{field}");
    }
    let pattern = |longest: usize| json!(format!("^[a-z][a-z0-9_]{{0,{}}}$", longest - 1));
    assert_eq!(schema["properties"]["solution"]["pattern"], pattern(check::MAX_SOLUTION));
    assert_eq!(schema["$defs"]["Service"]["properties"]["name"]["pattern"], pattern(check::MAX_SERVICE));
}

// --- Any text -------------------------------------------------------------------------------------------------------

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z\"\\\\\u{0}-\u{ff}表]{0,8}".prop_map(Value::from),
        Just(Value::from("x")),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let name = proptest::sample::select(vec![
            "solution",
            "services",
            "name",
            "roles",
            "peers",
            "secrets",
            "lifetime_seconds",
            "connections",
            "",
            "KEY",
        ]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name.prop_map(str::to_owned), inner, 0..6)
                .prop_map(Value::from_iter),
        ]
    })
}

proptest! {
    /// Any JSON, and any text, is a valid manifest or a list of mistakes whose places are in the text; and whatever is
    /// valid, serde reads as the same.
    #[test]
    fn any_text_is_a_manifest_or_its_mistakes(value in json_value(), cut in any::<prop::sample::Index>(), put in ".{0,3}") {
        let text = value.to_string();
        let at = (0..=cut.index(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let mut spoilt = text.clone();
        spoilt.insert_str(at, &put);
        for text in [text, spoilt] {
            match Manifest::from_json(&text) {
                Ok(manifest) => prop_assert_eq!(manifest, serde_json::from_str::<Manifest>(&text).unwrap()),
                Err(mistakes) => {
                    prop_assert!(mistakes.iter().count() > 0);
                    for mistake in mistakes.iter() {
                        let span = mistake.span.clone().unwrap();
                        prop_assert!(text.get(span).is_some(), "{:?} in {}", mistake, text);
                    }
                    #[cfg(feature = "render")]
                    drop(mistakes.render("m", &text));
                    drop(mistakes.to_lines("m", &text));
                }
            }
        }
    }
}
