//! Policies over three tables, two of one name: conditions with every operator and type, `exists` over one and two steps and in both
//! directions, roles that include, refusals, columns, masks and a persona.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use zk_policy::Command;

/// The six types with a few values each, in the policy's spelling.
pub(crate) const TYPES: [(&str, [&str; 3]); 6] = [
    (
        "uuid",
        [
            "00000000-0000-4000-8000-00000000000a",
            "00000000-0000-4000-8000-00000000000b",
            "f0000000-0000-4000-8000-000000000000",
        ],
    ),
    ("text", ["a", "", "Ä it's \\ \""]),
    ("int8", ["-1", "0", "7"]),
    ("bool", ["true", "false", "true"]),
    ("timestamptz", ["2026-01-31T09:30:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"]),
    ("date", ["2026-01-31", "0001-01-01", "2000-02-29"]),
];
/// Types that claims can be arrays of.
pub(crate) const ARRAYS: [usize; 3] = [0, 1, 2];

/// `id`, the tenant `t`, a column of each type, and what refers to `public.parent`.
pub(crate) const TABLES: &str = "
    CREATE TABLE parent (id int8 PRIMARY KEY, t int8 NOT NULL, c0 uuid, c1 text, c2 int8, c3 bool, c4 timestamptz, c5 date);
    CREATE TABLE child (LIKE parent INCLUDING ALL, parent_id int8 REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
    CREATE SCHEMA twin;
    CREATE TABLE twin.parent (LIKE child INCLUDING ALL, FOREIGN KEY (parent_id) REFERENCES parent DEFERRABLE INITIALLY DEFERRED);";

/// What a condition can ask other tables.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    /// `twin.parent`, which asks nothing.
    Twin,
    /// `parent`, which asks the twins that refer to it.
    Parent,
    /// `child`, which asks the parent that it refers to, which may be asked for its twins.
    Child,
}

fn condition(depth: u32, of: Of) -> BoxedStrategy<String> {
    if depth == 0 {
        return leaf().boxed();
    }
    let inner = condition(depth - 1, of);
    let mut forms = vec![
        leaf().boxed(),
        inner.clone().prop_map(|c| format!("not ({c})")).boxed(),
        vec(inner.clone(), 2..4).prop_map(|cs| format!("({})", cs.join(") and ("))).boxed(),
        vec(inner, 2..4).prop_map(|cs| format!("({})", cs.join(") or ("))).boxed(),
    ];
    let other = match of {
        Of::Twin => None,
        Of::Parent => Some(("twin.parent", Of::Twin)),
        Of::Child => Some(("parent", Of::Parent)),
    };
    if let Some((table, of)) = other {
        let there = condition(depth - 1, of);
        forms.push(
            there.clone().prop_map(move |c| format!("(exists {table} via parent_id where {c})")).boxed(),
        );
        forms
            .push(there.prop_map(move |c| format!("not (exists {table} via (parent_id) where {c})")).boxed());
        forms.push(Just(format!("(exists {table} via parent_id)")).boxed());
    }
    Union::new(forms).boxed()
}

/// A test of a column or a claim, either side first.
fn leaf() -> impl Strategy<Value = String> {
    let operators = vec!["=", "<>", "<", "<=", ">", ">="];
    (0..TYPES.len(), 0..8_usize, select(operators), 0..3_usize, any::<bool>()).prop_map(
        |(ty, shape, op, value, flip)| {
            let (name, values) = TYPES[ty];
            let literal = match name {
                "int8" | "bool" => values[value].to_owned(),
                _ => format!("'{}'", values[value].replace('\'', "''")),
            };
            let pair =
                |l: String, r: String| if flip { format!("{r} {op} {l}") } else { format!("{l} {op} {r}") };
            let not = if flip { "not " } else { "" };
            match shape {
                0 => pair(format!("c{ty}"), literal),
                1 => pair(format!("c{ty}"), format!("claim.k{ty}")),
                2 => format!("c{ty} is {not}null"),
                3 => format!("c{ty} {not}in ({literal}, claim.k{ty}, c{ty})"),
                4 => format!("c{ty} {not}in ({literal})"),
                5 if ARRAYS.contains(&ty) => format!("c{ty} {not}in claim.a{ty}"),
                5 | 6 => format!("claim.k{ty} is {not}null"),
                _ if flip => "c3".to_owned(),
                _ => "true".to_owned(),
            }
        },
    )
}

/// The rules of one table for the roles `r` and `s`, where `s` includes `r`.
fn rules(of: Of) -> impl Strategy<Value = String> {
    let rule = (
        select(vec!["r", "s"]),
        select(vec!["allow", "allow", "deny"]),
        1..16_u8,
        // Rules that begin alike are asked together in process.
        (select(vec!["", "c2 = 0 and ", "c2 = 7 and ", "claim.k2 = c2 and "]), condition(3, of)),
        any::<bool>(),
    );
    vec(rule, 1..6).prop_map(|rules| {
        let mut text = String::new();
        for (role, effect, commands, (first, condition), always) in rules {
            let commands: Vec<&str> = Command::ALL
                .iter()
                .zip(0..)
                .filter(|(_, bit)| commands >> bit & 1 == 1)
                .map(|(c, _)| c.name())
                .collect();
            let condition = if always && effect == "allow" {
                String::new()
            } else {
                format!(" where {first}({condition})")
            };
            text.push_str(&format!("  {effect} {role} {}{condition}\n", commands.join(", ")));
        }
        text
    })
}

/// Columns and masks of `child`, which no rule asks, each with rows that the role may use. The key and the tenant stay.
fn columns() -> impl Strategy<Value = String> {
    let columns = proptest::option::weighted(0.6, (select(vec!["r", "s"]), 1..8_u8, 0..64_u8, leaf()));
    let masks = proptest::option::weighted(0.6, (1..16_u8, any::<bool>(), leaf()));
    (columns, masks).prop_map(|(columns, masks)| {
        let mut text = String::new();
        let masked = masks.as_ref().map_or(0, |(masked, ..)| *masked);
        if let Some((role, commands, hidden, condition)) = columns {
            let hidden: Vec<String> =
                (0..6).filter(|c| (hidden & !masked) >> c & 1 == 1).map(|c| format!("c{c}")).collect();
            let except =
                if hidden.is_empty() { String::new() } else { format!(" except {}", hidden.join(", ")) };
            for (command, bit) in ["select", "insert", "update"].iter().zip(0..) {
                if commands >> bit & 1 == 1 {
                    text.push_str(&format!("  allow {role} {command} where {condition}\n"));
                    text.push_str(&format!("  columns {role} {command} all{except}\n"));
                }
            }
        }
        if let Some((_, hashed, condition)) = masks {
            text.push_str(&format!("  allow r select where {condition}\n"));
            let masks = [
                if hashed { "c0 for r as hash" } else { "c0 for r as null" },
                if hashed { "c1 for r as hash('it''s \\')" } else { "c1 for r as partial(1, '*''\\', 1)" },
                "c2 for r as -5",
                "c3 for r as true",
            ];
            for (mask, _) in masks.iter().zip(0..).filter(|(_, bit)| masked >> bit & 1 == 1) {
                text.push_str(&format!("  mask {mask}\n"));
            }
        }
        text
    })
}

/// All of a policy but its name. Everybody may read both parents, as an `exists` needs; the persona `z` across
/// tenants.
pub(crate) fn policy() -> impl Strategy<Value = String> {
    let tables = (rules(Of::Twin), rules(Of::Parent), rules(Of::Child), columns());
    (tables, any::<bool>(), condition(2, Of::Child)).prop_map(
        |((twin, parent, child, columns), shared, persona)| {
            let mut text = String::from("role r role s includes r claim tenant: int8\n");
            for (ty, (name, _)) in TYPES.iter().enumerate() {
                text.push_str(&format!("claim k{ty}: {name}\n"));
            }
            for ty in ARRAYS {
                text.push_str(&format!("claim a{ty}: {}[]\n", TYPES[ty].0));
            }
            let tenancy = if shared { "shared" } else { "tenant t = claim.tenant" };
            text.push_str(&format!(
                "table twin.parent {{ tenant t = claim.tenant\n  allow r select where not c3 or c3 is null\n{twin}}}\n\
                 table parent {{ {tenancy}\n  allow r select where c2 is null or c2 < 7\n{parent}}}\n\
                 table child {{ tenant t = claim.tenant\n{child}{columns}}}\n\
                 persona z {{ select on parent across tenants\n select on twin.parent across tenants where c2 < 7\n \
                 select, insert, update, delete on child across tenants where {persona} }}\n"
            ));
            text
        },
    )
}
