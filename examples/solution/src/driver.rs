//! The drive: deploys the clinic, uses it while everything rotates, attacks it, and says what held.

mod attacks;
mod identities;
mod intruders;
mod load;
mod measure;
mod outside;
mod processes;
mod report;
mod rotation;
mod table;
mod users;
mod world;

use testkit::ClusterConfig;
use tokio::signal::unix::{SignalKind, signal};

use self::load::Load;
use self::processes::Solution;
use self::table::Table;
use self::users::{Clinic, PATIENTS};
use self::world::World;
use crate::Result;
use crate::service::Ages;

/// How long the login of a service lives, and how far it can be renewed: seconds, so that the drive sees both.
const LIFETIMES: (u64, u64) = (8, 12);

/// At least so many requests while everything rotates.
const REQUESTS: u64 = 2000;

#[derive(Clone, Copy)]
pub enum What {
    Story,
    Serve,
    Measure,
}

/// Whatever happens, everything that was started is stopped on the way out: all of it belongs to values that are dropped.
pub async fn run(what: What) -> Result<()> {
    let (mut interrupted, mut terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let run = async {
        match what {
            What::Story => story(false).await,
            What::Serve => story(true).await,
            What::Measure => measure::run().await,
        }
    };
    tokio::select! {
        done = run => done,
        _ = interrupted.recv() => match what {
            // That is how it is ended.
            What::Serve => Ok(()),
            What::Story | What::Measure => Err("interrupted; everything was stopped".into()),
        },
        _ = terminated.recv() => Err("told to end; everything was stopped".into()),
    }
}

async fn story(serve: bool) -> Result<()> {
    let mut table = Table::start();
    let world = World::create(ClusterConfig::default(), LIFETIMES, Ages::short()).await?;
    let mut solution = Solution::start(world).await?;
    let clinic = match drive(&mut solution, &mut table).await {
        Ok(clinic) => clinic,
        Err(error) => {
            // What the services said is worth reading only now.
            solution.print_logs();
            return Err(error);
        }
    };
    table.print();
    if serve {
        solution.leave_running(&clinic).await?;
    }
    Ok(())
}

async fn drive(solution: &mut Solution, table: &mut Table) -> Result<Clinic> {
    let clinic = Clinic::open(solution, PATIENTS).await?;
    let load = Load::start(&clinic)?;
    load.reach(REQUESTS / 10).await?;
    rotation::rotate_everything(solution, &clinic, table).await?;
    load.reach(REQUESTS).await?;
    load.stop().await?.check(table)?;
    report::run(solution, table).await?;
    attacks::try_everything(solution, &clinic, table).await?;
    outside::look(solution, &clinic, table).await?;
    solution.at_the_end(table).await?;
    Ok(clinic)
}
