//! What stands in blocks of the manual and the READMEs and is no Rust: policies are parsed, manifests and JSON are read,
//! dependencies are ours, shells take the commands, PostgreSQL takes the SQL. A block without a name of its language fails.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io::Write as _};

use testkit::Database;
use zk_creds::Manifest;
use zk_policy::{Document, Schema, check};

struct Block {
    place: String,
    page: String,
    kind: String,
    text: String,
}

#[test]
fn every_block_says_its_language_and_can_be_read_in_it() {
    let mut wrong = String::new();
    let mut counts = [0; 4];
    for block in blocks() {
        let (language, _) = block.kind.split_once([',', ' ']).unwrap_or((&block.kind, ""));
        let told = match language {
            "json" => {
                counts[0] += 1;
                json(&block)
            }
            "policy" => {
                counts[1] += 1;
                policy(&block)
            }
            "sh" => {
                counts[2] += 1;
                shell(&block.text)
            }
            "toml" => {
                counts[3] += 1;
                dependencies(&block.text)
            }
            "text" if is_policy(&block.text) => Err("it is a policy: say `policy`".to_owned()),
            // Rust is compiled, SQL is run below, and the policies of Vault are given to a server by the tests of the crates.
            "rust" | "sql" | "hcl" | "text" => Ok(()),
            "python" if block.kind.contains(",from=") => Ok(()),
            other => Err(format!("nobody reads the language `{other}`")),
        };
        let told = told.and_then(|()| stands_where_it_says(&block));
        if let Err(told) = told {
            writeln!(wrong, "{}: {told}", block.place).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(counts.iter().all(|count| *count > 0), "of some kind no block was found: {counts:?}");
}

/// The statements of pages whose crates do not run them themselves, each on a database with what it takes for granted.
#[tokio::test]
async fn postgresql_takes_the_sql() {
    let run_elsewhere = ["tutorial-policy.md", "policy-compiled.md", "credentials.md"];
    let mut count = 0;
    for block in blocks().into_iter().filter(|b| b.kind == "sql" && !run_elsewhere.contains(&b.page.as_str()))
    {
        let before = match block.page.as_str() {
            "operations.md" => {
                "CREATE ROLE zk_shop_estate; CREATE TABLE kept (); ALTER TABLE kept OWNER TO zk_shop_estate"
            }
            page => panic!("{page} has SQL, and nothing here says what it takes for granted"),
        };
        let database = Database::create().await.unwrap();
        let client = database.connect().await.unwrap();
        for statement in before.split("; ") {
            client.batch_execute(statement).await.unwrap();
        }
        if let Err(error) = client.batch_execute(&block.text).await {
            panic!("{}: {}", block.place, error.as_db_error().map_or(error.to_string(), ToString::to_string));
        }
        count += 1;
    }
    assert!(count > 0, "no block of SQL was found");
}

/// A block that says `from=` a file is a part of it, whatever its indentation.
fn stands_where_it_says(block: &Block) -> Result<(), String> {
    let Some((_, file)) = block.kind.split_once(",from=") else { return Ok(()) };
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (whole, part) = (words(&read(&root().join(file))), words(&block.text));
    let found = !part.is_empty() && whole.windows(part.len()).any(|window| window == part);
    if found { Ok(()) } else { Err(format!("{file} does not say that")) }
}

fn json(block: &Block) -> Result<(), String> {
    let value: serde_json::Value = serde_json::from_str(&block.text).map_err(|error| error.to_string())?;
    if value.get("solution").is_some() {
        Manifest::from_json(&block.text).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Whether it is a whole policy: it begins with `policy` and its name, and leaves nothing out.
fn is_policy(text: &str) -> bool {
    !text.contains('…')
        && matches!(
            text.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>()[..],
            ["policy", _]
        )
}

fn policy(block: &Block) -> Result<(), String> {
    // Mistakes on purpose, and fragments, which zk-policy's own tests run, or parts of another file.
    if ["tutorial-policy.md", "policy-compiled.md"].contains(&block.page.as_str())
        || block.kind.contains(",from=")
    {
        return Ok(());
    }
    let document =
        Document::parse(&block.text).map_err(|mistakes| mistakes.to_lines("policy", &block.text))?;
    if block.page == "README.md" {
        let schema: Schema = schema();
        check(&document, &schema).map_err(|mistakes| mistakes.to_lines("policy", &block.text))?;
    }
    Ok(())
}

fn schema() -> Schema {
    use zk_policy::{Column, ColumnType, Scalar};
    let scalar = |name: &str, scalar| Column::new(name, ColumnType::Scalar(scalar));
    Schema::default().table(
        "public",
        "customers",
        [
            scalar("tenant_id", Scalar::Uuid).not_null(),
            scalar("owner_id", Scalar::Uuid),
            Column::new("ssn", ColumnType::Bytea),
            scalar("credit_limit", Scalar::Int8),
            scalar("phone", Scalar::Text),
            scalar("email", Scalar::Text),
            scalar("legal_hold", Scalar::Bool).not_null(),
        ],
    )
}

/// A shell takes the commands, and those that are ours exist.
fn shell(text: &str) -> Result<(), String> {
    // `<id>` stands for something, and is no redirection.
    let mut parts = text.split('<');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('>') {
            Some((name, rest)) if !name.contains('\n') => plain.extend(["x", rest]),
            _ => plain.extend(["<", part]),
        }
    }
    let mut bash = Command::new("bash");
    let mut bash =
        bash.arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    bash.stdin.take().unwrap().write_all(plain.as_bytes()).map_err(|e| e.to_string())?;
    let output = bash.wait_with_output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let words: Vec<&str> = plain.split_whitespace().collect();
    let benches = match words.iter().find_map(|word| word.strip_suffix("/Cargo.toml")) {
        Some(workspace) => root().join(workspace).join("benches"),
        None => root().join("benches/benches"),
    };
    for pair in words.windows(2) {
        let (exists, what) = match *pair {
            ["-p", name] => (!packages(name).is_empty(), "package"),
            ["--bench", name] => (benches.join(format!("{name}.rs")).exists(), "bench"),
            ["./dev", name] => {
                (read(&root().join("dev")).contains(&format!("\n    {name}) shift")), "command of ./dev")
            }
            _ => continue,
        };
        if !exists {
            return Err(format!("there is no {what} `{}`", pair[1]));
        }
    }
    Ok(())
}

/// `name = { version = "0.1", features = ["postgres"] }`: each is ours, has that version and those features.
fn dependencies(text: &str) -> Result<(), String> {
    let workspace = read(&root().join("Cargo.toml"));
    for line in text.lines().filter(|line| line.contains('=')) {
        let name = line.split_whitespace().next().unwrap_or_default();
        let manifest = packages(name).pop().ok_or(format!("there is no package `{name}`"))?;
        let quoted: Vec<&str> =
            line.split('#').next().unwrap_or_default().split('"').skip(1).step_by(2).collect();
        let (version, features) = quoted.split_first().ok_or(format!("`{line}` has no version"))?;
        if !workspace.contains(&format!("\nversion = \"{version}.")) {
            return Err(format!("`{name}` has no version {version}"));
        }
        if let Some(feature) = features.iter().find(|feature| !manifest.contains(&format!("\n{feature} = [")))
        {
            return Err(format!("`{name}` has no feature `{feature}`"));
        }
    }
    Ok(())
}

/// The manifests of the workspace's packages of this name: one or none.
fn packages(name: &str) -> Vec<String> {
    let folders = ["", "examples"].map(|folder| fs::read_dir(root().join(folder)).unwrap());
    let manifests = folders.into_iter().flatten().map(|entry| entry.unwrap().path().join("Cargo.toml"));
    let texts = manifests.filter(|path| path.exists()).map(|path| read(&path));
    texts.filter(|text| text.contains(&format!("\nname = \"{name}\"\n"))).collect()
}

/// The blocks of all pages, and of the READMEs that somebody reads.
fn blocks() -> Vec<Block> {
    let mut pages: Vec<PathBuf> = vec![root().join("README.md")];
    for folder in [
        "docs/src",
        "examples/quickstart",
        "examples/solution",
        "examples/any-cloud",
        "examples/sealed-columns",
    ]
    .into_iter()
    .chain(["examples/sealed-files", "zk-policy", "zk-http", "zk-kms", "zk-crypto", "zk-creds"])
    {
        let files = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(
            files.filter(|path| path.extension().is_some_and(|e| e == "md") && !path.ends_with("SPEC.md")),
        );
    }
    pages.sort();
    pages.iter().flat_map(|path| blocks_of(path)).collect()
}

fn blocks_of(path: &Path) -> Vec<Block> {
    let page = path.file_name().unwrap().to_str().unwrap().to_owned();
    let shown = path.strip_prefix(root()).unwrap().display().to_string();
    let (text, mut line, mut found) = (read(path), 1, Vec::new());
    for (number, part) in text.split("```").enumerate() {
        if number % 2 == 1 {
            let (kind, text) = part.split_once('\n').unwrap_or((part, ""));
            let place = format!("{shown}:{line}");
            found.push(Block {
                place,
                page: page.clone(),
                kind: kind.trim().to_owned(),
                text: text.to_owned(),
            });
        }
        line += part.matches('\n').count();
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
