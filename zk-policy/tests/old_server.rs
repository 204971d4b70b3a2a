//! A server older than PostgreSQL 15 is refused before anything else is asked of it.
//!
//! Such servers are no longer packaged, so the few messages of one are written here (PostgreSQL manual, section 55.7).
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "tests")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_postgres::NoTls;
use zk_policy::pg::{self, ErrorKind};
use zk_policy::{Column, ColumnType, Document, Scalar, Schema, check};

/// A message: its type, its length and its body.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], length.to_be_bytes().as_slice(), body].concat()
}

/// Answers the start and then one query, with `version` as `server_version_num`.
async fn serve(listener: TcpListener, version: &str) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut buffer = [0; 1024];
    let _start = stream.read(&mut buffer).await.unwrap();
    let ready = message(b'Z', b"I");
    stream.write_all(&[message(b'R', &[0; 4]), ready.clone()].concat()).await.unwrap();
    let _query = stream.read(&mut buffer).await.unwrap();
    let text_column =
        [b"\0\x01version\0".as_slice(), &[0; 4], &[0; 2], &25u32.to_be_bytes(), &[0; 2], &[0; 4], &[0; 2]]
            .concat();
    let value = [
        &1u16.to_be_bytes(),
        u32::try_from(version.len()).unwrap().to_be_bytes().as_slice(),
        version.as_bytes(),
    ]
    .concat();
    let answer =
        [message(b'T', &text_column), message(b'D', &value), message(b'C', b"SHOW\0"), ready].concat();
    stream.write_all(&answer).await.unwrap();
    // Whatever else is asked stays without an answer.
    while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused() {
    let schema = Schema::default().table("public", "t", [Column::new("a", ColumnType::Scalar(Scalar::Text))]);
    let document = Document::parse("policy p role r table t { shared allow r select }").unwrap();
    let policy = check(&document, &schema).unwrap();
    for (version, told) in [("140012", "PostgreSQL 14"), ("90624", "PostgreSQL 9")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move { serve(listener, version).await });
        let url = format!("host=127.0.0.1 port={port} user=u sslmode=disable");
        let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let error = pg::plan(&mut client, &policy).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooOld);
        assert!(error.to_string().contains(told), "{error}");
        drop(client);
        drop((server.await, connection.await));
    }
}
