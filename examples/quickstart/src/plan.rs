//! `quickstart plan FILE`: what a policy would change on the database that the environment names.

use zk_creds::postgres::Login;
use zk_policy::{Document, check, pg};

use crate::Result;

pub async fn run(file: &str) -> Result<()> {
    let source = std::fs::read_to_string(file).map_err(|e| format!("{file} cannot be read: {e}"))?;
    let drawn = |mistakes: zk_policy::Diagnostics| {
        let count = mistakes.len();
        anstream::eprint!("{}", mistakes.render(file, &source, zk_policy::Colour::Always));
        format!("{file} has {count} mistake(s); nothing was planned")
    };
    let document = Document::parse(&source).map_err(drawn)?;
    let mut client = Login::from_environment()?.connect().await?;
    let policy = check(&document, &pg::read_schema(&mut client).await?).map_err(drawn)?;
    anstream::print!("{}", pg::plan(&mut client, &policy).await?);
    Ok(())
}
