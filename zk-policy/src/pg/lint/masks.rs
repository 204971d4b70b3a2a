//! Who can read the keys of masks that hash, and of claims that are signed.

use tokio_postgres::Transaction;

use super::super::Error;
use crate::lint::{Finding, Fix, LintCode};
use crate::plan::role_mark;
use crate::sql;

/// Nobody should but the owners of views that mask, of whatever policy, and those only the keys of masks.
pub(super) async fn find(transaction: &Transaction<'_>) -> Result<Vec<Finding>, Error> {
    let rows = transaction
        .query(
            "SELECT DISTINCT coalesce(g.rolname::text, 'public'), c.relname::text
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             CROSS JOIN LATERAL (
               SELECT a.grantee, a.privilege_type FROM aclexplode(c.relacl) a
               UNION ALL
               SELECT a.grantee, a.privilege_type FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) a
               WHERE t.attrelid = c.oid) AS held
             LEFT JOIN pg_roles g ON g.oid = held.grantee
             WHERE n.nspname = 'zk' AND c.relname IN ('mask_keys', 'claim_keys') AND held.grantee <> c.relowner
               AND NOT coalesce(c.relname = 'mask_keys' AND held.privilege_type = 'SELECT' AND g.rolname::text LIKE '%\\_view'
                                AND starts_with(shobj_description(g.oid, 'pg_authid'), $1), false)",
            &[&role_mark("")],
        )
        .await?;
    let finding = |role: String, table: String| {
        Finding::new(
            LintCode::MaskKeyOpen,
            format!("table zk.{table}"),
            format!(
                "{role} holds a privilege on it: whoever reads a key can sign claims or try values until a hash agrees, and \
                     whoever writes one knows it"
            ),
            Fix::Sql(format!("REVOKE ALL ON zk.{table} FROM {};", sql::role(&role))),
        )
    };
    rows.iter().map(|row| Ok(finding(row.try_get(0)?, row.try_get(1)?))).collect()
}
