//! What several targets share.

use std::{
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use zk_policy::Schema;

/// The tables that the policies of the corpus speak of: without any, a check ends at the first table.
///
/// # Panics
///
/// When the file of the tests is no schema.
pub fn tables() -> &'static Schema {
    static TABLES: LazyLock<Schema> = LazyLock::new(|| {
        let json = include_str!("../../zk-policy/tests/corpus/schema.json");
        serde_json::from_str(json).expect("a schema, which the tests of zk-policy read too")
    });
    &TABLES
}

/// Runs a future that never waits, as those over memory do.
///
/// # Panics
///
/// When it waits.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a future over memory waited"),
    }
}

/// Changes bytes as the input says: five bytes of input are one edit, of which there may be none.
pub fn edited(good: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for edit in edits.chunks_exact(5).take(16) {
        let [kind, high, middle, low, value] = edit else { break };
        if bytes.is_empty() {
            break;
        }
        let at = u32::from_be_bytes([0, *high, *middle, *low]) as usize % bytes.len();
        let to = usize::from(*value) * 64 % bytes.len();
        match kind % 6 {
            0 => bytes[at] ^= value,
            1 => bytes.truncate(at),
            2 => bytes.insert(at, *value),
            3 => drop(bytes.remove(at)),
            4 => bytes.swap(at, to),
            // A part again at the end, or one part in the place of another.
            _ => {
                let part = bytes[at..bytes.len().min(at + 16_400)].to_vec();
                let place = bytes.len().min(to + part.len());
                bytes.splice(to..place, part);
            }
        }
    }
    bytes
}
