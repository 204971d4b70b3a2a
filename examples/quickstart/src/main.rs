//! The whole story on a real PostgreSQL: guard, seal, issue, attack, rotate, revoke.
//!
//! `quickstart` tells it from beginning to end on a private server. `quickstart service NAME` is what it starts for each
//! service, with nothing but an environment. `quickstart plan FILE` shows what a policy would change on the database in
//! the environment.

mod attacks;
mod guard;
mod keys;
mod narrate;
mod plan;
mod rotation;
mod service;
mod services;
mod world;

use std::process::ExitCode;

/// Any error, shown with everything behind it.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [] => story().await,
        ["service", name] => service::run(name).await,
        ["plan", file] => plan::run(file).await,
        _ => Err("usage: quickstart | quickstart plan FILE | quickstart service NAME".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            narrate::error(error.as_ref());
            ExitCode::from(1)
        }
    }
}

async fn story() -> Result<()> {
    let mut world = world::World::create().await?;
    let policy = guard::check_plan_apply(&mut world).await?;
    let keys = keys::create(&world).await?;
    let mut deployment = services::Deployment::issue(&mut world, &keys).await?;
    let billing = deployment.start_services().await?;
    attacks::try_everything(&world, &keys, &deployment).await?;
    rotation::rotate_credentials(&mut world, &mut deployment).await?;
    rotation::rotate_key_encryption_key(&world, &keys).await?;
    rotation::rotate_data_key(&keys, &deployment).await?;
    services::revoke_while_it_works(&mut world, &deployment, billing).await?;
    guard::plan_again(&mut world, &policy).await?;
    guard::change_one_rule(&mut world).await?;
    narrate::step("Who may do what");
    anstream::println!("{}", narrate::indented(&policy.access_matrix().to_string()));
    narrate::end();
    Ok(())
}
