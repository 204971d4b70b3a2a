//! Any bytes are a value of a column's type that encodes to the same bytes, or an error. Run: `fuzz/run 60 column_value`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zeroize::Zeroizing;
use zk_crypto::Value;

fuzz_target!(|bytes: &[u8]| {
    check::<String>(bytes);
    check::<Vec<u8>>(bytes);
    check::<bool>(bytes);
    check::<i16>(bytes);
    check::<i64>(bytes);
    check::<u32>(bytes);
});

fn check<T: Value>(bytes: &[u8]) {
    if let Ok(value) = T::decode(Zeroizing::new(bytes.to_vec())) {
        assert_eq!(value.encode().ok().as_deref().map(Vec::as_slice), Some(bytes));
    }
}
