//! Values that a KMS opens.

use zk_kms::{Kms, LocalKms};

use super::*;

fn local(name: &str) -> Arc<LocalKms> {
    Arc::new(LocalKms::ephemeral(name).unwrap())
}

async fn kind_of(sealed: &[u8], kms: &dyn Kms, scope: &Scope, context: &Context) -> Option<ErrorKind> {
    let sealed = Portable::parse(sealed).map_err(|e| e.kind());
    match sealed {
        Err(kind) => Some(kind),
        Ok(sealed) => sealed.open_by(kms, scope, context).await.err().map(|e| e.kind()),
    }
}

#[tokio::test]
async fn each_kms_and_each_private_key_opens() {
    let (one, two, stranger) = (local("one"), local("two"), local("three"));
    let escrow = RecipientKey::generate(Kem::X25519).unwrap();
    let writer = KmsWriter::new(scope(), [one.clone() as _, two.clone() as _])
        .and_then(|writer| writer.escrow(escrow.recipient().clone()))
        .unwrap();
    let sealed = writer.seal(&place(), b"text").await.unwrap();
    for kms in [&one, &two] {
        assert_eq!(sealed.open_by(&**kms, &scope(), &place()).await.unwrap().as_slice(), b"text");
        kms.rotate().unwrap();
        assert_eq!(sealed.open_by(&**kms, &scope(), &place()).await.unwrap().as_slice(), b"text");
        let bytes = sealed.as_bytes();
        let other_scope = Scope::new("t").unwrap();
        assert_eq!(kind_of(bytes, &**kms, &other_scope, &place()).await, Some(ErrorKind::Open));
        assert_eq!(kind_of(bytes, &**kms, &scope(), &place().row("2")).await, Some(ErrorKind::Open));
    }
    assert_eq!(escrow.open(&scope(), &place(), &sealed).unwrap().as_slice(), b"text");
    assert_eq!(kind_of(sealed.as_bytes(), &*stranger, &scope(), &place()).await, Some(ErrorKind::Open));
    // Another key with the same name.
    assert_eq!(kind_of(sealed.as_bytes(), &*local("one"), &scope(), &place()).await, Some(ErrorKind::Open));
}

#[tokio::test]
async fn every_byte_counts_for_a_kms() {
    let kms = local("one");
    let escrow = RecipientKey::generate(Kem::X25519).unwrap();
    let writer = KmsWriter::new(scope(), [kms.clone() as _])
        .and_then(|writer| writer.escrow(escrow.recipient().clone()))
        .unwrap();
    let sealed = writer.seal(&place(), b"text").await.unwrap();
    let good = sealed.as_bytes();
    for at in 0..good.len() {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x04;
        assert_eq!(kind_of(&bytes, &*kms, &scope(), &place()).await, Some(ErrorKind::Open), "byte {at}");
        assert!(refused(&escrow, &scope(), &place(), &bytes), "byte {at}");
        assert_eq!(kind_of(&good[..at], &*kms, &scope(), &place()).await, Some(ErrorKind::Open), "cut {at}");
    }
    let longer = [good, &[0]].concat();
    assert_eq!(kind_of(&longer, &*kms, &scope(), &place()).await, Some(ErrorKind::Open));
}

#[test]
fn nobody_is_named_twice_and_somebody_is() {
    let one = local("one");
    let nine = (0..9).map(|i| local(&format!("k{i}")) as Arc<dyn Kms>);
    for bad in [
        KmsWriter::new(scope(), []),
        KmsWriter::new(scope(), [one.clone() as _, one.clone() as _]),
        KmsWriter::new(scope(), nine),
        KmsWriter::new(scope(), (0..8).map(|i| local(&format!("k{i}")) as _)).and_then(|writer| {
            writer.escrow(RecipientKey::generate(Kem::X25519).unwrap().recipient().clone())
        }),
    ] {
        assert_eq!(bad.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[cfg(feature = "rsa")]
#[tokio::test]
async fn a_key_pair_opens_what_its_public_key_sealed() {
    use zk_kms::{AsymmetricKms, LocalKeyPair, PinnedKms};

    let service = Arc::new(LocalKeyPair::ephemeral("pair").unwrap());
    let public_key = service.public_key().await.unwrap();
    let kms = PinnedKms::new(service.clone(), public_key.clone()).unwrap();
    let recipient = Recipient::key_pair(public_key);
    assert_eq!(Recipient::parse(&recipient.to_bytes()).unwrap(), recipient);

    let writer = WriteOnly::new(scope(), [recipient.clone()]).unwrap();
    let sealed = writer.seal(&place(), b"text").unwrap();
    let good = sealed.as_bytes();
    let record = 4 + (2 + "local:pair".len()) + (2 + 1) + (2 + 1 + 384 + 48);
    assert_eq!(good.len(), 62 + 4 + 19 + record);
    assert_eq!(sealed.open_by(&kms, &scope(), &place()).await.unwrap().as_slice(), b"text");
    assert_eq!(kind_of(good, &kms, &Scope::new("t").unwrap(), &place()).await, Some(ErrorKind::Open));
    for at in 0..good.len() {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x04;
        assert_eq!(kind_of(&bytes, &kms, &scope(), &place()).await, Some(ErrorKind::Open), "byte {at}");
    }
    // The KMS itself as the writer, after a rotation; a key pair and its public key are one recipient.
    service.rotate().unwrap();
    let rotated = service.public_key().await.unwrap();
    let again = PinnedKms::new(service, rotated).unwrap();
    let writer = KmsWriter::new(scope(), [Arc::new(again.clone()) as _]).unwrap();
    let second = writer.seal(&place(), b"new").await.unwrap();
    for kms in [&kms, &again] {
        assert_eq!(second.open_by(kms, &scope(), &place()).await.unwrap().as_slice(), b"new");
        assert_eq!(sealed.open_by(kms, &scope(), &place()).await.unwrap().as_slice(), b"text");
    }
    assert_eq!(writer.escrow(recipient).unwrap_err().kind(), ErrorKind::Invalid);
}
