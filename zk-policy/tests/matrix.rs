//! The access matrix as a page and as JSON: escaped, self-contained, with the conditions in words.
#![allow(clippy::unwrap_used, reason = "tests")]

use zk_policy::{AccessMatrix, Column, ColumnType, Document, Scalar, Schema, check};

const BAD: &str = "<script>alert('&')</script>";

fn matrix(rules: &str) -> AccessMatrix {
    let column = |name: &str, ty| Column::new(name, ColumnType::Scalar(ty)).not_null();
    let columns = [
        column("id", Scalar::Int8),
        column("Tenant", Scalar::Uuid),
        column("state", Scalar::Text),
        column(BAD, Scalar::Bool),
        column("where", Scalar::Bool),
        column("A b", Scalar::Bool),
    ];
    let schema = Schema::default().table("public", "t", columns.clone()).table("public", BAD, columns);
    check(
        &Document::parse(&format!("policy p claim tenant: uuid claim ids: int8[] role r role s {rules}"))
            .unwrap(),
        &schema,
    )
    .unwrap()
    .access_matrix()
}

#[test]
fn conditions_are_in_the_words_of_the_policy() {
    #[track_caller]
    fn check(rule: &str, expected: &str) {
        let matrix = matrix(&format!("table t {{ tenant \"Tenant\" = claim.tenant allow s delete {rule} }}"));
        let json = serde_json::to_value(&matrix).unwrap();
        let row = &json["rows"][0];
        assert_eq!(
            (&row["tenant"], &row["cells"][0]["role"]),
            (&"\"Tenant\" = claim.tenant".into(), &"r".into())
        );
        let select = &row["cells"][0]["commands"][0];
        assert_eq!((&select["command"], &select["reach"]), (&"select".into(), &"some".into()));
        assert_eq!(select["condition"], expected);
    }
    check("allow r select where id = 7", "id = 7");
    check(
        "allow r select where id in claim.ids and (state is not null or not state = 'it''s')",
        "id in claim.ids and (state is not null or not state = 'it''s')",
    );
    check(
        "allow r select where id = 7 allow r select where state in ('a', 'b')",
        "id = 7 or state in ('a', 'b')",
    );
    check("allow r select deny r select where state is null", "state is not null");
    check("allow r select deny r select where state = 'a' and id in (1)", "not (state = 'a' and id in (1))");
    check("allow r select where \"where\" or \"A b\"", "\"where\" or \"A b\"");
    check("allow r select where id > 1 deny r select where id > 5", "id > 1 and not id > 5");
}

#[test]
fn the_page_escapes_names_and_loads_nothing() {
    let page = matrix(&format!(
        "role \"{BAD}\" table \"{BAD}\" {{ shared allow \"{BAD}\" select where \"{BAD}\" and state = '{}' allow r select allow s delete }}",
        BAD.replace('\'', "''")
    ))
    .to_html();
    assert!(!page.contains("<script"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;"), "{page}");
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_page_says_who_may_what() {
    let page = matrix(
        "table t { tenant \"Tenant\" = claim.tenant allow r select where id = 7 allow s select, delete }",
    )
    .to_html();
    assert!(page.contains("<code>&quot;Tenant&quot; = claim.tenant</code>"), "{page}");
    assert!(page.contains("title=\"only rows: id = 7\">read <sup>1</sup>"), "{page}");
    assert!(page.contains("<li><code>id = 7</code></li>"), "{page}");
    assert!(page.contains("<span class=\"all\">remove</span>"), "{page}");
}

#[test]
fn masks_and_personas_are_said() {
    let matrix = matrix(
        "persona p { select on t across tenants }
         table t { tenant \"Tenant\" = claim.tenant allow r select mask state for r as partial(1, '<b>', 0)
                   allow s select mask id for s as 0 }",
    );
    let json = serde_json::to_value(&matrix).unwrap();
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows[0]["across"], serde_json::json!(["p"]));
    let masks: Vec<&serde_json::Value> =
        rows.iter().flat_map(|r| r["cells"].as_array().unwrap()).map(|c| &c["commands"][0]["mask"]).collect();
    assert_eq!(masks.iter().filter(|m| **m == "partial(1, '<b>', 0)").count(), 1, "{json}");
    assert_eq!(masks.iter().filter(|m| **m == "0").count(), 1, "{json}");
    let page = matrix.to_html();
    assert!(
        page.contains("read</span> <span class=\"mask\">as partial(1, &#39;&lt;b&gt;&#39;, 0)"),
        "{page}"
    );
    assert!(page.contains("Under every role but p, across tenants, only rows where"), "{page}");
    assert!(matrix.to_string().contains(" M"), "{matrix}");
}

/// A condition does not hide that the rows are those of all tenants, nor a hash that other columns share it.
#[test]
fn nothing_is_said_to_be_less_than_it_is() {
    let matrix = matrix(
        "persona p { select on t across tenants where id = 7  delete on t across tenants }
         table t { tenant \"Tenant\" = claim.tenant allow r select allow s select
                   mask state for r as hash('state') mask state for s as hash }",
    );
    assert!(matrix.to_string().contains("s!D!"), "{matrix}");
    let json = serde_json::to_value(&matrix).unwrap();
    let state = &json["rows"][2]["cells"];
    let hashes: Vec<&serde_json::Value> = (0..2).map(|role| &state[role]["commands"][0]["mask"]).collect();
    assert_eq!(hashes, ["hash('state')", "hash"]);
    let persona = &state[2]["commands"][0];
    assert_eq!((&persona["reach"], &persona["across"]), (&"some".into(), &true.into()));
    assert_eq!(persona["condition"], "id = 7");
    assert_eq!(state[0]["commands"][0]["across"], false);
    let page = matrix.to_html();
    assert!(page.contains("title=\"only rows: id = 7\">read (of all tenants) <sup>"), "{page}");
}
