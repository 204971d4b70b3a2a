//! Takes the blocks of Rust out of the manual and the READMEs, so that `src` can compile them where they are: block 2 of
//! `kms.md` becomes `kms.2.rs` in the build's folder.

use std::{env, fs, path::Path};

/// Run by tests of the crates that they are about, or compiled with these.
const ELSEWHERE: [&str; 4] = ["tutorial-policy", "tutorial-sealing", "zk-crypto", "zk-kms"];

/// Told from the beginning to the end: its blocks are one.
const STORY: &str = "tutorial-kms";

fn main() {
    let (here, out) = (env::var("CARGO_MANIFEST_DIR").unwrap(), env::var("OUT_DIR").unwrap());
    let (here, out) = (Path::new(&here), Path::new(&out));
    let manual = here.join("../src");
    println!("cargo::rerun-if-changed={}", manual.display());
    let mut pages: Vec<_> = fs::read_dir(manual).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut texts: Vec<(String, String)> = pages
        .iter()
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), read(path)))
        .collect();
    texts.push(("README".to_owned(), read(&here.join("../../README.md"))));
    for package in ["zk-policy", "zk-http", "zk-kms", "zk-crypto", "zk-creds"] {
        texts.push((package.to_owned(), read(&here.join("../..").join(package).join("README.md"))));
    }
    let mut names = Vec::new();
    for (page, text) in texts {
        if ELSEWHERE.contains(&page.as_str()) {
            continue;
        }
        let mut blocks = text.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
        // What says `from=` is compiled where it is from, which `tests/blocks.rs` looks at.
        let is_rust = |kind: &str| kind.split(',').next() == Some("rust") && !kind.contains(",from=");
        let rust =
            std::iter::from_fn(|| blocks.next()).filter(|(kind, _)| is_rust(kind)).map(|(_, code)| code);
        let mut rust: Vec<String> = rust.map(str::to_owned).collect();
        if page == STORY {
            rust = vec![rust.concat()];
        }
        for (number, code) in (1..).zip(rust) {
            for (name, code) in alternatives(&format!("{page}.{number}"), &code) {
                // Items stand by themselves; statements are an expression, which `include!` wants.
                let items = code.starts_with("#[async_trait]");
                let code = if items { code } else { format!("{{\n{code}\n}}\n") };
                fs::write(out.join(format!("{name}.rs")), code).unwrap();
                names.push(name);
            }
        }
    }
    fs::write(out.join("blocks.txt"), names.join("\n")).unwrap();
}

fn read(path: &Path) -> String {
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read_to_string(path).unwrap()
}

/// A line that says `// or:` can stand in place of the one before it: each of the two is compiled.
fn alternatives(name: &str, code: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = code.lines().collect();
    let Some(or) = lines.iter().position(|line| line.contains("// or:")) else {
        return vec![(name.to_owned(), code.to_owned())];
    };
    let without = |out: usize| {
        let left = lines.iter().enumerate().filter(|(n, _)| *n != out).map(|(_, line)| *line);
        left.collect::<Vec<_>>().join("\n")
    };
    vec![(name.to_owned(), without(or)), (format!("{name}.or"), without(or - 1))]
}
