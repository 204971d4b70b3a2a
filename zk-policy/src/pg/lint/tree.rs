//! A condition as the server stores it: a tree in text form (`pg_node_tree`), of which we read which columns it asks.

use std::collections::BTreeSet;

/// Columns of the row that a condition is about, by their numbers. What a sub-query asks of its own tables is none of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Asked outside of sub-queries whether they are NULL, or for their truth.
    pub(super) deciding: BTreeSet<usize>,
    /// Asked anywhere.
    pub(super) mentioned: BTreeSet<usize>,
}

/// Reads what one or more conditions ask, written one after the other.
pub(super) fn read(tree: &str) -> Read {
    let mut read = Read::default();
    let mut open: Vec<&str> = Vec::new();
    let mut chars = tree.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            // The name of something, and no part of the tree.
            '\\' => drop(chars.next()),
            '{' => {
                let node = tree.get(at + 1..).unwrap_or_default();
                let name = node.split([' ', '}']).next().unwrap_or_default();
                if name == "VAR" {
                    note(node, &open, &mut read);
                }
                open.push(name);
            }
            '}' => drop(open.pop()),
            _ => {}
        }
    }
    read
}

/// Notes a column, whose node begins here, within the nodes that are open.
fn note(node: &str, open: &[&str], read: &mut Read) {
    const IS_NULL: &str = " :nulltesttype 0";
    const BOOL: &str = "16";
    let Some((fields, after)) = node.split_once('}') else { return };
    let field = |name| fields.split(' ').skip_while(|word| *word != name).nth(1);
    let level = open.iter().filter(|name| **name == "QUERY").count().to_string();
    if field(":varno") != Some("1") || field(":varlevelsup") != Some(level.as_str()) {
        return;
    }
    let Some(column) = field(":varattno").and_then(|number| number.parse().ok()) else { return };
    read.mentioned.insert(column);
    let is_null = open.last() == Some(&"NULLTEST") && after.starts_with(IS_NULL);
    if level == "0" && (is_null || field(":vartype") == Some(BOOL)) {
        read.deciding.insert(column);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tree: &str, deciding: &[usize], mentioned: &[usize]) {
        let set = |columns: &[usize]| columns.iter().copied().collect();
        assert_eq!(read(tree), Read { deciding: set(deciding), mentioned: set(mentioned) }, "{tree}");
    }

    fn var(table: usize, column: usize, ty: usize, level: usize) -> String {
        format!(
            "{{VAR :varno {table} :varattno {column} :vartype {ty} :vartypmod -1 :varlevelsup {level} :location 5}}"
        )
    }

    #[test]
    fn columns_of_the_row_are_told_from_those_of_others() {
        check("", &[], &[]);
        check(&var(1, 3, 25, 0), &[], &[3]);
        check(&format!("{{BOOLEXPR :boolop not :args ({})}}", var(1, 3, 16, 0)), &[3], &[3]);
        let null = |var: &str, kind| format!("{{NULLTEST :arg {var} :nulltesttype {kind} :argisrow false}}");
        check(&null(&var(1, 4, 1184, 0), 0), &[4], &[4]);
        check(&null(&var(1, 4, 1184, 0), 1), &[], &[4]);
        let query = |inner: &str| format!("{{SUBLINK :subselect {{QUERY :commandType 1 :quals {inner}}}}}");
        check(&query(&var(1, 3, 16, 0)), &[], &[]);
        check(&query(&null(&var(1, 4, 1184, 0), 0)), &[], &[]);
        check(&query(&format!("{} {}", var(1, 2, 16, 1), var(2, 5, 16, 1))), &[], &[2]);
        check(&query(&query(&var(1, 2, 25, 2))), &[], &[2]);
        // What follows a sub-query is about the row again, and names may hold braces.
        let named = format!("{} {{X :name a\\{{QUERY\\}}}} {}", query(&var(1, 3, 16, 0)), var(1, 6, 16, 0));
        check(&named, &[6], &[6]);
    }
}
