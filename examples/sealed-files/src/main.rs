//! A directory of files, sealed for several recipients and opened again, in whole and in parts.

mod vault;

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
    process::ExitCode,
};

use zk_crypto::{Kem, Recipient, RecipientKey};

use crate::vault::Vault;

/// Any error, shown as it is.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The files of the story, and how long they are: empty, shorter than a chunk, and many chunks.
const FILES: [(&str, usize); 3] = [("empty.txt", 0), ("letter.txt", 1_000), ("scan.tiff", 8_000_000)];

#[tokio::main]
async fn main() -> ExitCode {
    match story().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

async fn story() -> Result<()> {
    // Removed at the end, whatever happens on the way.
    let folder = tempfile::tempdir()?;
    let (plain, sealed) = (folder.path().join("plain"), folder.path().join("sealed"));
    fs::create_dir(&plain)?;
    for (name, length) in FILES {
        fs::write(plain.join(name), content(length))?;
    }
    let (ann, bob) = (RecipientKey::generate(Kem::X25519)?, RecipientKey::generate(Kem::XWing)?);
    let escrow = RecipientKey::generate(Kem::XWing)?;

    println!("1. Seal a directory for two people and an escrow key");
    seal(&plain, &sealed, [&ann, &bob, &escrow].map(|key| key.recipient().clone())).await?;
    println!("\n2. Each of them opens it alone");
    for (who, key) in [("Ann", &ann), ("Bob", &bob), ("escrow", &escrow)] {
        open(&sealed, key).await?;
        holds(format!("{who}: every file is what it was"));
    }
    let stranger = RecipientKey::generate(Kem::XWing)?;
    ensure(Vault::open(&sealed, &stranger).is_err(), "a stranger opened the directory")?;
    holds("a stranger does not open it");

    println!("\n3. Read a part of a file, without what comes before it");
    read_a_part(&sealed, &ann).await?;
    println!("\n4. Change the sealed files");
    tamper(&sealed, &ann).await?;

    let path = folder.path().to_owned();
    folder.close()?;
    ensure(!path.exists(), "files are left behind")?;
    println!("\nAll of it held, and nothing is left behind.");
    Ok(())
}

async fn seal<const N: usize>(plain: &Path, sealed: &Path, recipients: [Recipient; N]) -> Result<()> {
    let vault = Vault::create(sealed, recipients).await?;
    for (name, length) in FILES {
        vault.seal(name, &plain.join(name)).await?;
        let found = fs::read(sealed.join(name))?;
        let start = content(length.min(64));
        let shows = length > 0 && found.windows(start.len()).any(|window| window == start);
        ensure(!shows, "plaintext stands in a sealed file")?;
        holds(format!("{name}: {length} bytes sealed into {}", found.len()));
    }
    Ok(())
}

async fn open(sealed: &Path, key: &RecipientKey) -> Result<()> {
    let vault = Vault::open(sealed, key)?;
    for (name, length) in FILES {
        let mut text = Vec::new();
        vault.reader(name).await?.read_to_end(&mut text)?;
        ensure(text == content(length), "a file opened to something else")?;
    }
    Ok(())
}

async fn read_a_part(sealed: &Path, key: &RecipientKey) -> Result<()> {
    let vault = Vault::open(sealed, key)?;
    let at = vault.at("scan.tiff").await?;
    let (mut part, offset) = ([0; 4096], 5_000_000);
    let read = at.read_at(&mut part, offset as u64)?;
    ensure(read > 0 && part[..read] == content(8_000_000)[offset..offset + read], "another part came back")?;
    holds(format!("{read} bytes at {offset} of {}", at.size()));
    Ok(())
}

async fn tamper(sealed: &Path, key: &RecipientKey) -> Result<()> {
    let vault = Vault::open(sealed, key)?;
    let (scan, letter) = (sealed.join("scan.tiff"), sealed.join("letter.txt"));
    let good = fs::read(&scan)?;

    let mut changed = good.clone();
    changed[3_000_000] ^= 1;
    fs::write(&scan, &changed)?;
    ensure(refused(&vault, "scan.tiff").await, "a changed byte went unnoticed")?;
    holds("one bit of a file: refused");

    // At the end of a chunk, where nothing but the missing last chunk tells.
    File::options().write(true).open(&scan)?.set_len(73 + 16_400 * 100)?;
    ensure(refused(&vault, "scan.tiff").await, "a cut file was taken for a whole one")?;
    ensure(vault.at("scan.tiff").await.is_err(), "a part of a cut file was given out")?;
    holds("a file cut between two chunks: refused, also in part");

    fs::copy(&letter, &scan)?;
    ensure(refused(&vault, "scan.tiff").await, "a file opened under the name of another")?;
    holds("a file under the name of another: refused");

    fs::write(&scan, &good)?;
    ensure(!refused(&vault, "scan.tiff").await, "the file does not open after it was put back")?;
    Ok(())
}

async fn refused(vault: &Vault, name: &str) -> bool {
    match vault.reader(name).await {
        Ok(mut reader) => std::io::copy(&mut reader, &mut std::io::sink()).is_err(),
        Err(_) => true,
    }
}

/// Something that differs at every place a mistake could confuse.
fn content(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i ^ (i >> 8).wrapping_mul(31) ^ (i >> 16)) as u8).collect()
}

fn ensure(condition: bool, otherwise: &str) -> Result<()> {
    if condition { Ok(()) } else { Err(otherwise.into()) }
}

fn holds(what: impl std::fmt::Display) {
    println!("   ✓ {what}");
}
