//! The story of a critical column on a real PostgreSQL: sealed, searched, rotated under load, shredded.

mod load;
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use zk_crypto::{ErrorKind, Hazard, IndexSpec, Migration, Normalizer, Reindex, Reseal, Scope, retire_key};

use crate::load::Load;
use crate::world::{PER_TENANT, SSN, World, ssn};

/// Any error, shown as it is.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

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
    let world = Arc::new(World::create().await?);
    println!(
        "1. A table of two tenants, {PER_TENANT} customers each, with social security numbers in plaintext"
    );
    seal(&world).await?;
    search(&world).await?;
    rotate_under_load(&world).await?;
    shred(&world).await?;
    println!("\nAll of it held.");
    Ok(())
}

async fn seal(world: &World) -> Result<()> {
    println!("\n2. Seal the column while the table is in use");
    ensure(world.plaintext_in_dump().await?, "the table does not hold plaintext to begin with")?;
    let mut client = world.client().await?;
    for scope in &world.scopes {
        let migration = migration(scope)?;
        migration.prepare(&client).await?;
        // Two workers share the rows.
        let mut other = world.client().await?;
        let (one, two) = tokio::try_join!(
            migration.seal(&mut client, &world.encryptor),
            migration.seal(&mut other, &world.encryptor)
        )?;
        ensure(one + two == PER_TENANT, "not every row was sealed exactly once")?;
        holds(format!("{scope}: {one} and {two} rows sealed by two workers"));
        let verified = migration.verify(&mut client, &world.encryptor).await?;
        ensure(verified == PER_TENANT, "not every row was verified")?;
    }
    for scope in &world.scopes {
        migration(scope)?.cut_over(&mut client).await?;
        migration(scope)?.erase(&mut client, &world.encryptor).await?;
    }
    let late = client.execute("UPDATE customers SET ssn = '078-05-0000' WHERE id = 1", &[]).await;
    ensure(late.is_err(), "plaintext was accepted after the cut-over")?;
    ensure(!world.plaintext_in_dump().await?, "a dump still holds plaintext")?;
    holds("verified, cut over and erased: a dump holds no plaintext, and plaintext is refused");
    Ok(())
}

async fn search(world: &World) -> Result<()> {
    println!("\n3. Search what the database cannot see");
    let spec = || IndexSpec::unique("public.customers", "ssn").normalize(Normalizer::Digits);
    let refused = spec().possible(1_000_000_000).plan();
    ensure(refused.is_err(), "an index of guessable values was planned without a word")?;
    println!("   planner: {}", refused.err().ok_or("no error")?);
    ensure(
        spec().possible(1_000_000_000).accept(Hazard::Guessable).plan().is_ok(),
        "accepting it did not help",
    )?;
    print!("{}", indented(&world.index.leakage_report().to_string()));
    let mut client = world.client().await?;
    for scope in &world.scopes {
        world.index.ensure_key(&world.encryptor, scope).await?;
        let done = reindex(world, scope).run(&mut client, &world.encryptor).await?;
        ensure(done == PER_TENANT, "not every row has a token")?;
    }
    let found = world.find(&client, &world.scopes[0], "078 05 0042").await?;
    ensure(found == [42], format!("a search found {found:?} instead of customer 42"))?;
    let elsewhere = world.find(&client, &world.scopes[1], "078-05-0042").await?;
    ensure(elsewhere.is_empty(), "another tenant's search found it too")?;
    holds("a search by number finds its one customer, for its own tenant only");
    let again = world.write(&client, &world.scopes[0], 9000, "078 05 0042", true).await;
    ensure(again.is_err(), "the same number was stored twice")?;
    holds("UNIQUE refuses the same number in another spelling");
    Ok(())
}

async fn rotate_under_load(world: &Arc<World>) -> Result<()> {
    println!("\n4. Rotate both keys of a tenant under load, killing workers on the way");
    let scope = &world.scopes[0];
    let load = Load::start(world);
    let old = world.encryptor.active_key(scope).await?;
    let index_scope = world.index.key_scope(scope)?;
    let old_index = world.encryptor.active_key(&index_scope).await?;
    world.encryptor.rotate_key(scope).await?;
    world.encryptor.rotate_key(&index_scope).await?;
    let mut client = world.client().await?;
    let early = retire_key(&mut client, &world.encryptor, old, &[&reseal(scope)]).await;
    ensure(early.is_err_and(|e| e.kind() == ErrorKind::Conflict), "a key in use was destroyed")?;
    holds("the old key cannot be retired while it seals rows");
    for millis in [2, 5, 9] {
        let (mut one, mut two) = (world.client().await?, world.client().await?);
        let (reseal, reindex) = (reseal(scope).batch_size(5), reindex(world, scope).batch_size(5));
        let work = async {
            tokio::join!(reseal.run(&mut one, &world.encryptor), reindex.run(&mut two, &world.encryptor))
        };
        drop(tokio::time::timeout(Duration::from_millis(millis), work).await);
    }
    let bar = ProgressBar::new(0);
    let job = reseal(scope).batch_size(10).progress({
        let bar = bar.clone();
        move |progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        }
    });
    let last = job.run(&mut client, &world.encryptor).await?;
    bar.finish_and_clear();
    reindex(world, scope).run(&mut client, &world.encryptor).await?;
    let (reads, writes) = load.stop().await?;
    ensure(reads > 0 && writes > 0, "there was no load")?;
    // Whatever the load wrote last, too.
    job.run(&mut client, &world.encryptor).await?;
    let tokens = reindex(world, scope);
    tokens.run(&mut client, &world.encryptor).await?;
    ensure(tokens.remaining(&mut client, &world.encryptor).await? == 0, "rows are left without a new token")?;
    retire_key(&mut client, &world.encryptor, old, &[&job]).await?;
    client.execute("UPDATE customers SET ssn_odd = NULL WHERE tenant = $1", &[&scope.as_str()]).await?;
    world.encryptor.destroy_key(old_index).await?;
    let found = world.find(&client, scope, &ssn(42)).await?;
    ensure(found == [42], "the search does not find its customer under the new key")?;
    ensure(world.count_open(&client, scope).await? == PER_TENANT, "a row is lost")?;
    holds(format!(
        "three pairs of workers killed, {last} rows left for the last one; {reads} reads and {writes} writes"
    ));
    holds("every row opens, the search finds, and both old keys are destroyed");
    Ok(())
}

async fn shred(world: &World) -> Result<()> {
    println!("\n5. Shred a tenant");
    let client = world.client().await?;
    let (gone, stays) = (&world.scopes[0], &world.scopes[1]);
    world.encryptor.destroy_scope(gone).await?;
    world.encryptor.destroy_scope(&world.index.key_scope(gone)?).await?;
    ensure(world.count_open(&client, gone).await? == 0, "a shredded value opened")?;
    ensure(world.find(&client, gone, &ssn(42)).await.is_err(), "a shredded tenant can be searched")?;
    ensure(world.count_open(&client, stays).await? == PER_TENANT, "the other tenant lost a row")?;
    holds("no value of the tenant opens and no token can be made; the other tenant is as before");
    Ok(())
}

fn migration(scope: &Scope) -> Result<Migration> {
    let (named, sealed) = (scope.clone(), SSN);
    Ok(Migration::new(("public", "customers"), "id", "ssn", "ssn_sealed", scope.clone())?
        .only("tenant", scope.as_str())
        .context(move |row| sealed.context(&named, row))
        .batch_size(20))
}

fn reseal(scope: &Scope) -> Reseal {
    let named = scope.clone();
    Reseal::new(("public", "customers"), "id", "ssn_sealed", scope.clone())
        .context(move |row| SSN.context(&named, row))
}

fn reindex(world: &World, scope: &Scope) -> Reindex {
    let columns = ["ssn_odd", "ssn_even"];
    Reindex::unique(("public", "customers"), "id", "ssn_sealed", columns, &world.index, scope.clone())
        .only("tenant", scope.as_str())
}

/// Asserts a fact of the story.
fn ensure(fact: bool, otherwise: impl Into<String>) -> Result<()> {
    if fact { Ok(()) } else { Err(otherwise.into().into()) }
}

fn holds(line: impl std::fmt::Display) {
    println!("   ✓ {line}");
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("   {line}\n")).collect()
}
