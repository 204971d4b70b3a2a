//! A directory of sealed files that carries its keys: a key ring, a key file, and the ring's passphrase for each recipient.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter},
    path::{Path, PathBuf},
    sync::Arc,
};

use data_encoding::HEXLOWER;
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::{ExposeSecret, SecretString};
use zk_crypto::{
    Context, Encryptor, EncryptorConfig, FileKeyStore, Portable, Recipient, RecipientKey, Scope, WriteOnly,
    stream::{StreamAt, StreamHeader, StreamReader},
};
use zk_kms::{LocalKms, PassphraseCost};

use crate::Result;

pub(crate) struct Vault {
    folder: PathBuf,
    encryptor: Encryptor,
    scope: Scope,
}

impl Vault {
    /// Makes a directory whose passphrase nobody knows but the recipients.
    pub(crate) async fn create(
        folder: &Path,
        recipients: impl IntoIterator<Item = Recipient>,
    ) -> Result<Self> {
        fs::create_dir(folder)?;
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        let passphrase = SecretString::from(HEXLOWER.encode(&random));
        let writer = WriteOnly::new(scope()?, recipients)?;
        let value = writer.seal(&place_of_passphrase(), passphrase.expose_secret().as_bytes())?;
        fs::write(folder.join("passphrase.zkp"), value.as_bytes())?;
        LocalKms::create(folder.join("keys.ring"), "files", &passphrase, cost()?)?;
        FileKeyStore::create(folder.join("keys.data"))?;
        let vault = Self::with(folder, &passphrase)?;
        vault.encryptor.create_key(&vault.scope).await?;
        Ok(vault)
    }

    pub(crate) fn open(folder: &Path, key: &RecipientKey) -> Result<Self> {
        let value = Portable::parse(&fs::read(folder.join("passphrase.zkp"))?)?;
        let passphrase = key.open(&scope()?, &place_of_passphrase(), &value)?;
        Self::with(folder, &std::str::from_utf8(&passphrase)?.into())
    }

    fn with(folder: &Path, passphrase: &SecretString) -> Result<Self> {
        let kms = LocalKms::open(folder.join("keys.ring"), passphrase)?;
        let store = FileKeyStore::open(folder.join("keys.data"))?;
        let encryptor = Encryptor::new(Arc::new(kms), Arc::new(store), EncryptorConfig::default())?;
        Ok(Self { folder: folder.to_owned(), encryptor, scope: scope()? })
    }

    /// Seals a file, and shows how far it is.
    pub(crate) async fn seal(&self, name: &str, from: &Path) -> Result<()> {
        let from = File::open(from)?;
        let style = ProgressStyle::with_template(
            "   {msg} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        )?;
        let bar = ProgressBar::new(from.metadata()?.len()).with_style(style).with_message(name.to_owned());
        let sealer = self.encryptor.stream_sealer(&self.scope, &place_of(name)).await?;
        let mut writer = sealer.writer(BufWriter::new(File::create_new(self.folder.join(name))?));
        io::copy(&mut bar.wrap_read(from), &mut writer)?;
        // Without this the file counts as cut.
        writer.finish()?.into_inner()?.sync_all()?;
        bar.finish_and_clear();
        Ok(())
    }

    /// Opens a file from its beginning: what was read counts once its end was reached without an error.
    pub(crate) async fn reader(&self, name: &str) -> Result<StreamReader<BufReader<File>>> {
        let mut file = BufReader::new(File::open(self.folder.join(name))?);
        let header = StreamHeader::read_from(&mut file)?;
        let opener = self.encryptor.stream_opener(&self.scope, &place_of(name), &header).await?;
        Ok(opener.reader(file))
    }

    /// Opens a file for reading at any place.
    pub(crate) async fn at(&self, name: &str) -> Result<StreamAt<File>> {
        let file = File::open(self.folder.join(name))?;
        let header = StreamHeader::read_from(&file)?;
        let opener = self.encryptor.stream_opener(&self.scope, &place_of(name), &header).await?;
        Ok(opener.at(file)?)
    }
}

/// A file is bound to its name, so that it does not open under another one.
fn place_of(name: &str) -> Context {
    Context::purpose("file").row(name)
}

fn place_of_passphrase() -> Context {
    Context::purpose("passphrase of the key ring")
}

fn scope() -> Result<Scope> {
    Ok(Scope::new("files")?)
}

/// The passphrase has 256 random bits: nobody guesses it, however cheap a guess is.
fn cost() -> Result<PassphraseCost> {
    Ok(PassphraseCost::new(64, 1, 1)?)
}
