//! The code of the manual and of the READMEs, compiled where it stands. A function here says what a block takes for
//! granted; the rest is the block. `tests/blocks.rs` reads what is no Rust.
#![allow(
    unused_variables,
    unused_mut,
    unused_assignments,
    dead_code,
    reason = "the blocks show, they do not use"
)]

/// What a page's block of Rust says, as an expression; see `build.rs`.
macro_rules! block {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"))
    };
}

/// The same for a block that consists of items.
macro_rules! items {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
    };
}

mod creds;
mod kms;
mod policy;
mod whole;

type Run = Result<(), Box<dyn std::error::Error>>;

#[cfg(test)]
mod tests {
    #[test]
    fn every_block_is_compiled() {
        let here = [
            include_str!("creds.rs"),
            include_str!("kms.rs"),
            include_str!("policy.rs"),
            include_str!("whole.rs"),
        ];
        let here = here.concat();
        let blocks = include_str!(concat!(env!("OUT_DIR"), "/blocks.txt"));
        let left: Vec<&str> =
            blocks.lines().filter(|name| !here.contains(&format!("!(\"{name}\")"))).collect();
        assert!(left.is_empty(), "docs/code/src does not compile the blocks {left:?}");
        let used = here.matches("block!(\"").count() + here.matches("items!(\"").count();
        assert_eq!(used, blocks.lines().count(), "docs/code/src compiles a block twice");
    }
}
