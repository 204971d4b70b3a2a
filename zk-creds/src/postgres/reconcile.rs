//! Compares leases with roles, both ways, and puts right what differs.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::audit::{self, Action, Entry};
use super::issuer::Issuer;
use super::revoke::Left;
use super::roles::MEMBERSHIPS;
use super::tables::{self, LEASE};
use super::{Reaped, roles};
use crate::credential::Lease;
use crate::error::Error;

/// What one [`Issuer::reconcile`] did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reconciled {
    /// The leases that had ended, as [`Issuer::reap`] tells them.
    pub reaped: Reaped,
    /// The leases whose role was gone. They are revoked now, and their services need new credentials.
    pub lost: Vec<Lease>,
    /// The leases whose role could have logged in for longer than the lease. It no longer can.
    pub fenced: Vec<Lease>,
    /// The roles that were issued from this database for this solution and have no lease. They are gone now.
    pub orphans: Vec<String>,
    /// The orphans that are still there, each with the reason. The next call tries them again.
    pub failed: Vec<(String, Error)>,
}

impl Issuer {
    /// Compares the solution's leases with the server's roles, both ways, and puts right what differs.
    ///
    /// For after a crash, a restored backup, or somebody's handiwork; and on a schedule in place of [`reap`](Self::reap),
    /// which it includes. It may run anywhere, any number of times, in many issuers at once. Roles count as issued when
    /// their comment says so, which only who may create roles can write; those of other databases are left alone.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`](crate::ErrorKind::Denied) when the tables are not the issuer's; those of the connection.
    pub async fn reconcile(&self, client: &mut Client) -> Result<Reconciled, Error> {
        let reaped = self.reap(client).await?;
        let lost = self.end_leases_without_role(client).await?;
        let fenced = self.move_fences(client).await?;
        let (mut orphans, mut failed) = (Vec::new(), Vec::new());
        for login in self.roles_without_lease(client).await? {
            match self.remove_orphan(client, &login).await {
                Ok(true) => orphans.push(login),
                Ok(false) => {}
                Err(error) => failed.push((login, error)),
            }
        }
        Ok(Reconciled { reaped, lost, fenced, orphans, failed })
    }

    async fn end_leases_without_role(&self, client: &mut Client) -> Result<Vec<Lease>, Error> {
        let (transaction, _) = self.begin(client).await?;
        let rows = transaction
            .query_typed(
                &format!(
                    "SELECT {LEASE} FROM zk.leases l WHERE solution = $1 AND state <> 'revoked'
                       AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = l.login)
                     ORDER BY id FOR UPDATE"
                ),
                &[(&self.solution, Type::TEXT)],
            )
            .await?;
        let lost = rows.iter().map(tables::lease).collect::<Result<Vec<_>, _>>()?;
        let now = self.now();
        let script: String = lost.iter().map(|lease| roles::set_revoked(lease.id, now)).collect();
        let record = self.reconciled(&lost)?;
        transaction.commit_with(&(script + &record)).await?;
        Ok(lost)
    }

    /// Sees that no role can log in for longer than its lease says.
    async fn move_fences(&self, client: &mut Client) -> Result<Vec<Lease>, Error> {
        let (transaction, _) = self.begin(client).await?;
        let rows = transaction
            .query_typed(
                &format!(
                    "SELECT {LEASE} FROM zk.leases l WHERE solution = $1 AND state = 'active'
                       AND EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = l.login
                                   AND coalesce(r.rolvaliduntil, 'infinity') > l.expires_at)
                     ORDER BY id FOR UPDATE"
                ),
                &[(&self.solution, Type::TEXT)],
            )
            .await?;
        let fenced = rows.iter().map(tables::lease).collect::<Result<Vec<_>, _>>()?;
        let script: String =
            fenced.iter().map(|lease| roles::valid_until(&lease.login, lease.expires_at)).collect();
        let record = self.reconciled(&fenced)?;
        transaction.commit_with(&(script + &record)).await?;
        Ok(fenced)
    }

    fn reconciled(&self, leases: &[Lease]) -> Result<String, Error> {
        let entry = || Entry::new(&self.solution, self.now(), Action::Reconcile);
        let entries: Vec<Entry> = leases.iter().map(|lease| entry().of(lease)).collect();
        if entries.is_empty() { Ok(String::new()) } else { audit::recording(&entries) }
    }

    async fn roles_without_lease(&self, client: &mut Client) -> Result<Vec<String>, Error> {
        let (transaction, _) = self.begin(client).await?;
        let row = transaction
            .query_typed_one("SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()", &[])
            .await?;
        let mark = roles::mark_prefix(&self.solution, row.try_get(0)?);
        let prefix = roles::solution_prefix(&self.solution);
        let rows = transaction
            .query_typed(
                "SELECT r.rolname::text
                 FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_shdescription d
                   ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_authid'::regclass
                 WHERE starts_with(d.description, $1) AND starts_with(r.rolname::text, $2)
                   AND NOT EXISTS (SELECT FROM zk.leases l WHERE l.solution = $3 AND l.login = r.rolname
                                   AND l.state <> 'revoked' AND $1 || l.id::text = d.description)
                 ORDER BY 1",
                &[(&mark, Type::TEXT), (&prefix, Type::TEXT), (&self.solution, Type::TEXT)],
            )
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Closes a role, ends its sessions and removes it, like a lease's. False when somebody else did.
    async fn remove_orphan(&self, client: &mut Client, login: &str) -> Result<bool, Error> {
        let (transaction, server) = self.begin(client).await?;
        // There is no lease to wait for each other at.
        tables::lock(&transaction).await?;
        let row = transaction
            .query_typed_opt(
                &format!("SELECT {MEMBERSHIPS} FROM pg_catalog.pg_roles l WHERE l.rolname = $1::text::name"),
                &[(&login, Type::TEXT)],
            )
            .await?;
        let Some(row) = row else { return Ok(false) };
        let memberships: Vec<&str> = row.try_get(0)?;
        transaction.commit_with(&roles::disabling(&server, login, &memberships)).await?;
        let (transaction, server) = self.emptied(client, login).await?;
        tables::lock(&transaction).await?;
        let left = Left::look(&transaction, login).await?;
        let removal = self.removing(&transaction, &server, login, left).await?;
        if removal.is_empty() {
            return Ok(false);
        }
        let entry = Entry { login: Some(login.to_owned()), ..self.entry(Action::Reconcile, "") };
        transaction.commit_with(&(removal + &audit::recording(&[entry])?)).await?;
        Ok(true)
    }
}
