//! The nouns: which key wraps, what is wrapped, what comes out, and what it is bound to.

mod context;
mod data;
mod uri;
mod wrapped;

pub use context::Context;
pub use data::DataKey;
pub use uri::{KeyUri, Service};
pub use wrapped::{KeyVersion, WrappedKey};

pub(crate) use context::put;
pub(crate) use data::random;
#[cfg(feature = "aws")]
pub(crate) use uri::is_host;
#[cfg(feature = "rsa")]
pub(crate) use wrapped::{read_record, write_record};
