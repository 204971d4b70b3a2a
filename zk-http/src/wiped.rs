//! Bytes that leave no copy behind, also when they grow.

use std::io;

use bytes::Bytes;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{Error, ErrorKind};

/// A buffer whose memory is wiped whenever it is given back.
///
/// A `Vec` that grows copies itself and leaves what it had in memory that nobody wipes.
#[derive(Default)]
pub(crate) struct WipedBuffer(Zeroizing<Vec<u8>>);

impl WipedBuffer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    pub(crate) fn of(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    pub(crate) fn json(value: &impl Serialize) -> Result<Self, Error> {
        let mut buffer = Self::with_capacity(1024);
        // Not serde_json's error itself: it can quote what it wrote.
        serde_json::to_writer(&mut buffer, value).map_err(|e| {
            let error = Error::new(ErrorKind::Invalid, "the request cannot be written");
            error.because(format!("{:?}", e.classify()))
        })?;
        Ok(buffer)
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let Self(held) = self;
        let needed = held.len() + bytes.len();
        if needed > held.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(held.capacity() * 2)));
            larger.extend_from_slice(held);
            // The old one is wiped here.
            *held = larger;
        }
        held.extend_from_slice(bytes);
    }

    /// The bytes for the HTTP client, which are wiped once it has sent them.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for WipedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl io::Write for WipedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_into_new_memory_and_never_by_itself() {
        let mut buffer = WipedBuffer::with_capacity(4);
        let (mut whole, mut grown) = (Vec::new(), 0);
        for i in 0..100_u8 {
            let (before, room) = (buffer.as_ref().as_ptr(), buffer.0.capacity());
            let part = vec![i; usize::from(i)];
            let fits = buffer.as_ref().len() + part.len() <= room;
            buffer.push(&part);
            whole.extend(part);
            assert_eq!(buffer.as_ref(), whole);
            // Where it did not fit, it was moved by us; where it did, not at all.
            assert_eq!(fits, buffer.as_ref().as_ptr() == before && buffer.0.capacity() == room);
            grown += u32::from(!fits);
        }
        assert!(grown > 3, "{grown}");
    }

    #[test]
    fn json_is_written_whole() {
        let value = serde_json::json!({ "long": "\u{1}é\"".repeat(4000), "list": [1, 2, 3] });
        let written = WipedBuffer::json(&value).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(written.as_ref()).unwrap(), value);
        assert_eq!(written.into_bytes(), serde_json::to_vec(&value).unwrap());
    }

    #[test]
    fn what_cannot_be_written_says_no_word_of_it() {
        struct Broken;
        impl Serialize for Broken {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("MARKED"))
            }
        }
        let error = WipedBuffer::json(&Broken).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(!format!("{error:?} {error}").contains("MARKED"), "{error:?}");
    }
}
