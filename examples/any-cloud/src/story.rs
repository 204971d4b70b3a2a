//! The story, told once for each key.

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

use testkit::kms::KeyService;
use zk_crypto::{FileKeyStore, KeyStore};
use zk_kms::{KeySpec, KeyUri, LocalKms, OpenConfig, PassphraseCost, Service, ensure_key};

use crate::{
    Result, app,
    missing::{self, Missing},
    options::{self, Options},
    places,
};

pub async fn over_everything_here() -> Result<()> {
    println!("The application:\n\n{}", indented(include_str!("app.rs")));
    let folder = tempfile::tempdir()?;
    println!("\nA key ring in a file");
    let (uri, config) = places::key_ring(folder.path())?;
    tell(&uri, &config, &folder.path().join("local.keys")).await?;
    let mut left_out = 0;
    for (name, place) in places::HERE {
        println!("\n{name}");
        let service = match KeyService::start(place) {
            Ok(service) => service,
            // Whoever names an environment wants it used.
            Err(error @ testkit::Error::NoEmulator { .. }) if env::var_os("ZK_PYTHON_ENV").is_none() => {
                println!("   NOT SHOWN: {error}");
                left_out += 1;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let (uri, config) = places::provision(&service).await?;
        tell(&uri, &config, &folder.path().join(format!("{place:?}.keys"))).await?;
    }
    println!(
        "\nAll of it held, over {} services and a key ring; {left_out} left out.",
        places::HERE.len() - left_out
    );
    Ok(())
}

pub async fn over_yours(uri: &str, options: &Options) -> Result<()> {
    let (key, config) = (uri.parse::<KeyUri>()?, options.config()?);
    let told = async {
        if options.create {
            create(&key, &config, options).await?;
        }
        missing::fingerprint(&key, &config, options).await?;
        let folder = tempfile::tempdir()?;
        tell(uri, &config, &folder.path().join("keys")).await
    };
    told.await.map_err(|error| Missing::of(&key, error))?;
    println!("\nAll of it held.");
    Ok(())
}

async fn create(key: &KeyUri, config: &OpenConfig, options: &Options) -> Result<()> {
    if key.service() != Service::Local {
        let made = ensure_key(key, config, &KeySpec::new().tag("example", "any-cloud")).await?;
        println!("   {}", if made.created() { "the key was made" } else { "the key was there" });
    } else if let Some(path) = options.key_ring.as_deref().filter(|path| !path.exists()) {
        LocalKms::create(path, key.name(), &options::passphrase()?, PassphraseCost::default())?;
        println!("   the key ring was made");
    }
    Ok(())
}

/// Seals, restarts and opens, and asserts what has to hold.
async fn tell(uri: &str, config: &OpenConfig, keys: &Path) -> Result<()> {
    println!("   {uri}");
    FileKeyStore::create(keys)?;
    let (process, took) = timed(app::start(uri, config, keys)).await?;
    let (sealed, first) = timed(app::save(&process, "078-05-1120", "42")).await?;
    println!("   started in {took:?}; sealed, with a new data key, in {first:?}");
    drop(process);

    // Nothing is left of it but the sealed value and the file of wrapped keys.
    let records = FileKeyStore::open(keys)?.list(None).await?;
    let wrapped = records.first().and_then(|record| record.wrapped.as_ref()).ok_or("no wrapped key")?;
    ensure(records.len() == 1, "there is another number of data keys than one")?;
    ensure(wrapped.uri().as_str() == uri.parse::<KeyUri>()?.as_str(), "the data key is under another key")?;
    println!(
        "   on disk: one data key, wrapped into {} bytes under version {}",
        wrapped.bytes().len(),
        wrapped.version()
    );

    let process = app::start(uri, config, keys).await?;
    let (text, cold) = timed(app::load(&process, &sealed, "42")).await?;
    ensure(text.as_slice() == b"078-05-1120", "another text came back")?;
    let (_, warm) = timed(app::load(&process, &sealed, "42")).await?;
    holds(format!("restarted: opened in {cold:?}, and from memory in {warm:?}"));
    ensure(app::load(&process, &sealed, "43").await.is_err(), "the value opened in another row")?;
    holds("in another row it does not open");
    Ok(())
}

async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let started = Instant::now();
    Ok((work.await?, started.elapsed()))
}

fn ensure(fact: bool, otherwise: &str) -> Result<()> {
    if fact { Ok(()) } else { Err(otherwise.into()) }
}

fn holds(line: impl std::fmt::Display) {
    println!("   ✓ {line}");
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
