//! The policy: checked, planned, applied; planned again; changed.

use zk_policy::{Consent, Document, Policy, check, pg};

use crate::world::World;
use crate::{Result, narrate};

pub const POLICY: &str = include_str!("../crm.policy");

pub async fn check_plan_apply(world: &mut World) -> Result<Policy> {
    narrate::step("Check the policy, first with a mistake in it");
    let schema = pg::read_schema(&mut world.deployer).await?;
    let mistaken = POLICY.replace("all except credit_limit", "all except credit_limits");
    let mistakes = check(&Document::parse(&mistaken)?, &schema).err().ok_or("the mistake was not found")?;
    narrate::quote(&mistakes.render("crm.policy", &mistaken, zk_policy::Colour::Never));
    let policy = check(&Document::parse(POLICY)?, &schema)?;
    narrate::holds(format!(
        "corrected: {} roles, {} tables",
        policy.roles().count(),
        policy.tables().count()
    ));

    narrate::step("Plan, then apply what was planned");
    let plan = pg::plan(&mut world.deployer, &policy).await?;
    let (shown, all) = (12, plan.steps.len());
    for step in plan.steps.iter().take(shown) {
        narrate::say(&step.summary);
    }
    narrate::say(format!("… and {} more steps", all.saturating_sub(shown)));
    for access in plan.access() {
        let roles: Vec<&str> = access.roles.iter().map(String::as_str).collect();
        let table = access.table.as_deref().unwrap_or("the database");
        let effect = format!("{:?}", access.effect).to_lowercase();
        narrate::say(format!("{effect} access of {} to {table}", roles.join(", ")));
    }
    let not_yet = plan.clone().accept(Consent::NarrowingOnly);
    narrate::ensure(not_yet.is_err(), "a plan that widens access was accepted as one that does not")?;
    let applied =
        pg::apply(&mut world.deployer, plan.accept(Consent::Widening)?, &pg::ApplyConfig::default()).await?;
    narrate::holds(format!(
        "{} steps applied in one transaction and verified before it committed",
        applied.steps
    ));
    let row = world.deployer.query_one("SELECT count(*) FROM customers", &[]).await?;
    narrate::ensure(row.get::<_, i64>(0) == 0, "the deployer still sees rows")?;
    narrate::holds("the owner of the tables itself now sees no row");
    Ok(policy)
}

pub async fn plan_again(world: &mut World, policy: &Policy) -> Result<()> {
    narrate::step("Plan again");
    let plan = pg::plan(&mut world.deployer, policy).await?;
    narrate::ensure(plan.is_empty() && plan.drift.is_empty(), &plan)?;
    narrate::holds("nothing to do, and nothing has drifted");
    Ok(())
}

pub async fn change_one_rule(world: &mut World) -> Result<()> {
    narrate::step("Change one rule: agents may see open invoices of the whole tenant");
    let rule = "allow agent   select where owner_id = claim.user";
    let changed = POLICY.replace(rule, "allow agent   select where owner_id = claim.user or state = 'open'");
    narrate::ensure(changed != POLICY, "the rule to change is not in the policy")?;
    let policy = check(&Document::parse(&changed)?, &pg::read_schema(&mut world.deployer).await?)?;
    let plan = pg::plan(&mut world.deployer, &policy).await?;
    narrate::quote(&plan.to_string());
    narrate::ensure(plan.steps.len() == 1, "the plan changes more than the rule")?;
    narrate::ensure(plan.widening().count() == 1, "the plan does not say that access widens")?;
    narrate::holds("one step, and it says that access widens; it waits for somebody to accept it");
    Ok(())
}
