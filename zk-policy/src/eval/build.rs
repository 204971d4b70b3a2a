//! Rules into a [`Program`].
//!
//! Negations go down to the questions; what remains of a rule is made of "all of" and "any of". Rules that begin with the
//! same question share it, and rules that want different values of one column become one look-up, so that the time of a
//! decision does not grow with every rule.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::program::{End, Exists, Next, Node, Program, Source, Test};
use super::ranges::{self, Bound, Ranges};
use crate::declared::Declared;
use crate::document::Op;
use crate::ir::{Floor, Operand, Predicate, Right};
use crate::value::Datum;

/// How many questions rules share at most. It bounds how deep the building goes, whatever a document says.
const SHARED: usize = 8;

/// So many conditions with bounds are asked one by one, at most.
const FEW: usize = 3;

/// The tenant's floor, then what is denied, then what is allowed.
pub(super) fn program(declared: &Declared, floor: Option<&Floor>, right: &Right) -> Program {
    let mut builder = Builder { declared, nodes: Vec::new() };
    let allowed =
        right.allow.iter().enumerate().flat_map(|(place, rule)| {
            alternatives(builder.formula(rule, true), Next::End(End::Admitted(place)))
        });
    let allowed = allowed.collect();
    let mut next = builder.any(allowed, Next::End(End::NoRuleAdmits), SHARED);
    for (place, rule) in right.deny.iter().enumerate().rev() {
        let harmless = builder.formula(rule, false);
        next = builder.emit(harmless, next, Next::End(End::Denied(place)));
    }
    if let Some(floor) = floor {
        let (left, right) = (Source::Column(floor.place), builder.claim(&floor.claim));
        let test = Test::Compare { left, op: Op::Eq, right };
        next = builder.ask(test, next, Next::End(End::OtherTenant));
    }
    builder.finish(next)
}

/// A program that admits a row of which the predicate is certainly `wanted`: true, or false.
pub(super) fn condition(declared: &Declared, predicate: &Predicate, wanted: bool) -> Program {
    let mut builder = Builder { declared, nodes: Vec::new() };
    let (yes, no) = (Next::End(End::Admitted(0)), Next::End(End::NoRuleAdmits));
    let formula = builder.formula(predicate, wanted);
    let start = builder.emit(formula, yes, no);
    builder.finish(start)
}

/// A condition without negations, asked whether it certainly holds.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Formula {
    Test(Test),
    All(Vec<Self>),
    Any(Vec<Self>),
}

/// Formulas that must all hold to get to `end`; the last is asked first.
struct Branch {
    open: Vec<Formula>,
    end: Next,
}

/// What branches are grouped by; in the order in which groups are asked.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// A column equals a literal: the column's place.
    Case(usize),
    Costing(Cost),
}

/// Cheap questions come first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Cost {
    Value,
    Several,
    OtherRows,
}

struct Builder<'a> {
    declared: &'a Declared,
    nodes: Vec<Node>,
}

impl Builder<'_> {
    fn finish(self, start: Next) -> Program {
        Program { nodes: self.nodes.into(), start }
    }

    fn ask(&mut self, test: Test, yes: Next, no: Next) -> Next {
        self.node(Node::Ask { test, yes, no })
    }

    fn node(&mut self, node: Node) -> Next {
        self.nodes.push(node);
        Next::Node(self.nodes.len() - 1)
    }

    /// Nodes that lead to `yes` when the formula holds, else to `no`.
    fn emit(&mut self, formula: Formula, yes: Next, no: Next) -> Next {
        match formula {
            Formula::Test(test) => self.ask(test, yes, no),
            formula => self.any(alternatives(formula, yes), no, SHARED),
        }
    }

    /// Nodes that lead to the end of a branch that holds, else to `otherwise`. The first `shared` questions of each branch
    /// are asked once for all branches that have them.
    fn any(&mut self, mut branches: Vec<Branch>, otherwise: Next, shared: usize) -> Next {
        order(&mut branches);
        if branches.len() < 2 || shared == 0 {
            return branches.into_iter().rev().fold(otherwise, |next, branch| self.all(branch, next));
        }
        let (bounded, branches): (Vec<_>, Vec<_>) = branches.into_iter().partition(Branch::is_bounded);
        if bounded.len() > FEW {
            let otherwise = self.any(branches, otherwise, shared);
            return bounded.chunks(ranges::MOST).rev().fold(otherwise, |next, some| self.ranges(some, next));
        }
        let mut branches = branches;
        branches.extend(bounded);
        let mut first: BTreeMap<Formula, Vec<Branch>> = BTreeMap::new();
        for mut branch in branches {
            match branch.open.pop() {
                // Whatever the other branches say, this one holds.
                None => return branch.end,
                Some(formula) => first.entry(formula).or_default().push(branch),
            }
        }
        let mut groups: BTreeMap<Group, Vec<(Formula, Vec<Branch>)>> = BTreeMap::new();
        for member in first {
            groups.entry(Group::of(&member.0)).or_default().push(member);
        }
        groups.into_iter().rev().fold(otherwise, |next, (group, members)| match group {
            Group::Case(place) if members.len() > 1 => self.switch(place, members, next, shared),
            _ => members.into_iter().rev().fold(next, |next, (formula, branches)| {
                let rest = self.any(branches, next, shared - 1);
                self.emit(formula, rest, next)
            }),
        })
    }

    fn all(&mut self, branch: Branch, otherwise: Next) -> Next {
        branch.open.into_iter().fold(branch.end, |yes, formula| self.emit(formula, yes, otherwise))
    }

    /// Branches that want columns to lie on a side of literals.
    fn ranges(&mut self, branches: &[Branch], otherwise: Next) -> Next {
        let conditions: Vec<(Vec<Bound<'_>>, Next)> = branches
            .iter()
            .map(|branch| (branch.open.iter().filter_map(Formula::bound).collect(), branch.end))
            .collect();
        self.node(Node::Ranges { ranges: Ranges::new(&conditions), otherwise })
    }

    /// Branches that begin with different values of one column.
    fn switch(
        &mut self,
        place: usize,
        members: Vec<(Formula, Vec<Branch>)>,
        otherwise: Next,
        shared: usize,
    ) -> Next {
        let cases = members.into_iter().filter_map(|(formula, branches)| {
            let value = formula.case()?.1.clone();
            Some((value, self.any(branches, otherwise, shared - 1)))
        });
        let mut cases: Vec<(Datum, Next)> = cases.collect();
        cases.sort();
        self.node(Node::Switch { place, cases: cases.into(), otherwise })
    }

    /// The condition that holds exactly when the predicate is `wanted`: certainly true, or certainly false.
    fn formula(&self, predicate: &Predicate, wanted: bool) -> Formula {
        let each = |parts: &[Predicate]| parts.iter().map(|part| self.formula(part, wanted)).collect();
        match predicate {
            Predicate::Always if wanted => Formula::All(Vec::new()),
            Predicate::Always => Formula::Any(Vec::new()),
            Predicate::Test(operand) => {
                compare(self.source(operand), Op::Eq, Source::Value(Datum::Bool(wanted)))
            }
            Predicate::Compare { left, op, right, .. } => {
                compare(self.source(left), if wanted { *op } else { opposite(*op) }, self.source(right))
            }
            Predicate::IsNull(operand) => {
                Formula::Test(Test::IsNull { source: self.source(operand), negated: !wanted })
            }
            Predicate::InList { operand, list, .. } if wanted => {
                let item = |item| compare(self.source(operand), Op::Eq, self.source(item));
                Formula::Any(list.iter().map(item).collect())
            }
            Predicate::InList { operand, list, .. } => {
                let item = |item| compare(self.source(operand), Op::Ne, self.source(item));
                Formula::All(list.iter().map(item).collect())
            }
            Predicate::InClaim { operand, claim, .. } => {
                let (source, claim) = (self.source(operand), self.place(claim));
                Formula::Test(Test::InClaim { source, claim, negated: !wanted })
            }
            Predicate::Exists { step, condition, .. } => {
                let condition = self::condition(self.declared, condition, true);
                let inner = Box::new(Exists { step: step.clone(), condition });
                Formula::Test(Test::Exists { inner, negated: !wanted })
            }
            Predicate::Not(inner) => self.formula(inner, !wanted),
            Predicate::And(parts) if wanted => Formula::All(each(parts)),
            Predicate::Or(parts) if !wanted => Formula::All(each(parts)),
            Predicate::And(parts) | Predicate::Or(parts) => Formula::Any(each(parts)),
        }
    }

    fn source(&self, operand: &Operand) -> Source {
        match operand {
            Operand::Column { place, .. } => Source::Column(*place),
            Operand::Claim { name, .. } => self.claim(name),
            Operand::Value { datum, .. } => Source::Value(datum.clone()),
        }
    }

    fn claim(&self, name: &str) -> Source {
        Source::Claim(self.place(name))
    }

    /// A claim's place; for a claim that is not declared, which the check refuses, one that no session has.
    fn place(&self, claim: &str) -> usize {
        self.declared.claim(claim).map_or(usize::MAX, |(place, _)| place)
    }
}

impl Branch {
    /// Whether all that is asked is on which side of literals columns lie. Equalities are left to look-ups.
    fn is_bounded(&self) -> bool {
        let bounded = |f: &Formula| f.bound().is_some_and(|bound| bound.op != Op::Eq);
        !self.open.is_empty() && self.open.iter().all(bounded)
    }
}

impl Formula {
    /// `column = literal`
    fn case(&self) -> Option<(usize, &Datum)> {
        let bound = self.bound()?;
        (bound.op == Op::Eq).then_some((bound.place, bound.literal))
    }

    /// `column < literal`, or with another operator
    fn bound(&self) -> Option<Bound<'_>> {
        match self {
            Self::Test(Test::Compare { left: Source::Column(place), op, right: Source::Value(literal) }) => {
                Some(Bound { place: *place, op: *op, literal })
            }
            _ => None,
        }
    }

    fn cost(&self) -> Cost {
        match self {
            Self::Test(Test::Compare { .. } | Test::IsNull { .. }) => Cost::Value,
            Self::Test(Test::InClaim { .. }) => Cost::Several,
            Self::Test(Test::Exists { .. }) => Cost::OtherRows,
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().map(Self::cost).max().unwrap_or(Cost::Value).max(Cost::Several)
            }
        }
    }
}

impl Group {
    fn of(formula: &Formula) -> Self {
        match formula.case() {
            Some((place, _)) => Self::Case(place),
            None => Self::Costing(formula.cost()),
        }
    }
}

/// The ways in which a formula can hold, each as formulas that must all hold.
fn alternatives(formula: Formula, end: Next) -> Vec<Branch> {
    match formula {
        Formula::Any(parts) => parts.into_iter().flat_map(|part| alternatives(part, end)).collect(),
        formula => vec![Branch { open: conjuncts(formula), end }],
    }
}

fn conjuncts(formula: Formula) -> Vec<Formula> {
    match formula {
        Formula::All(parts) => parts.into_iter().flat_map(conjuncts).collect(),
        formula => vec![formula],
    }
}

/// Orders the formulas of every branch: what many branches have in common is asked first, then what is cheap.
fn order(branches: &mut [Branch]) {
    let mut count: BTreeMap<&Formula, usize> = BTreeMap::new();
    for formula in branches.iter().flat_map(|branch| &branch.open) {
        *count.entry(formula).or_default() += 1;
    }
    let key = |formula: &Formula| (Reverse(formula.cost()), count.get(formula).copied().unwrap_or_default());
    let keys: Vec<Vec<_>> = branches.iter().map(|branch| branch.open.iter().map(key).collect()).collect();
    for (branch, keys) in branches.iter_mut().zip(keys) {
        let mut open: Vec<_> = keys.into_iter().zip(std::mem::take(&mut branch.open)).collect();
        open.sort_by(|(key, formula), (other, than)| key.cmp(other).then_with(|| than.cmp(formula)));
        branch.open = open.into_iter().map(|(_, formula)| formula).collect();
    }
}

/// A column stands on the left, so that the same comparison is written in one way only.
fn compare(left: Source, op: Op, right: Source) -> Formula {
    let (left, op, right) = match (&left, &right) {
        (Source::Column(_), _) => (left, op, right),
        (_, Source::Column(_)) => (right, op.mirrored(), left),
        _ => (left, op, right),
    };
    Formula::Test(Test::Compare { left, op, right })
}

/// The operator that is true where this one is false.
fn opposite(op: Op) -> Op {
    match op {
        Op::Eq => Op::Ne,
        Op::Ne => Op::Eq,
        Op::Lt => Op::Ge,
        Op::Ge => Op::Lt,
        Op::Gt => Op::Le,
        Op::Le => Op::Gt,
    }
}
