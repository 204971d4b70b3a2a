//! Blind indexes: tokens of values, by which a database can search a sealed column without seeing it.

mod indexer;
mod leakage;
mod normalize;
mod plan;
mod slow;
mod token;

pub use self::{
    indexer::{Indexer, TokenPair},
    leakage::Leakage,
    normalize::Normalizer,
    plan::{BlindIndex, Hazard, IndexSpec},
    slow::SlowHash,
    token::{MAX_TOKEN, Token},
};

#[cfg(test)]
mod tests;
