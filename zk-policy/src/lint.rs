//! What a live database does that weakens or slows a policy, as data: each finding with a code, a reason and a fix.

use std::fmt;

use serde::{Serialize, Serializer};

/// Writes the registry once: the variants, their documentation, number, severity and title cannot part.
macro_rules! registry {
    ($($number:literal $code:ident $severity:ident $title:literal;)+) => {
        /// The registry of lints: 1xx row-level security and policies, 2xx roles, 3xx privileges, 4xx views, partitions
        /// and functions, 5xx keys and the tenant column, 6xx indexes under row-level security, 7xx the server and its
        /// settings. A code is never reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum LintCode {
            $(#[doc = concat!("L", $number, ": ", $title, ".")] $code,)+
        }

        impl LintCode {
            /// All lints, by number.
            pub const ALL: &[Self] = &[$(Self::$code),+];

            /// The number shown to people, such as the 101 of `L101`.
            #[must_use]
            pub fn number(self) -> u16 {
                match self { $(Self::$code => $number,)+ }
            }

            /// How bad it is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$code => Severity::$severity,)+ }
            }

            /// What it is about, in a few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$code => $title,)+ }
            }
        }
    };
}

registry! {
    101 RowSecurityOff Error "row-level security is off";
    102 NotForced Error "the owner of a table is not bound by its policies";
    103 ForeignPermissive Error "a permissive policy that is not part of the policy";
    104 RestrictiveOnly Warning "policies restrict, and none permits";
    105 VolatilePolicy Warning "a policy calls a volatile function";
    106 CastOnTenant Warning "a policy converts the tenant column before it compares";
    107 SubqueryOnly Warning "a sub-query is the only test of a policy";
    108 RoleBranch Warning "a policy asks for the role inside an OR";
    109 BareSetting Warning "a policy reads a setting without treating the empty text as absent";
    110 SelfReference Error "a policy reads the table that it guards";
    111 WritableLookup Error "a table that decides who sees what can be written by those it decides about";
    112 SoftDelete Warning "a permitted update can make a row invisible to its author, and then fails";

    201 ServiceBypasses Error "who acts as a role of the policy can get around the policy";
    202 LoginBypasses Warning "a login can get around the policy";
    203 ServiceInherits Warning "a login has the rights of a role without entering it";

    301 PublicGrant Error "everybody holds a privilege on a table";
    302 ForeignGrant Warning "a role outside the policy holds a privilege on a table";
    303 BeyondRows Error "a privilege that row-level security does not limit";
    304 TableGrant Error "a privilege on a whole table where columns are listed";
    305 DefaultPrivilege Warning "tables created later are open to somebody";
    306 GrantOption Error "a privilege may be handed on";
    307 SchemaCreate Error "objects can be created beside the tables";
    308 SequenceGrant Warning "a sequence tells, or lets change, how many rows all tenants add";
    309 MaskKeyOpen Error "a role can read or write the keys of masks or claims";
    310 ComputedFromHidden Error "a column that a role reads is computed from one that it must not see";

    401 ViewBypasses Error "a view shows a table past its policies";
    402 ViewOwnerRights Warning "a view reads a table with its owner's rights";
    403 MaterialisedView Error "a materialised view holds rows without policies";
    404 UncoveredChild Error "a partition or child table is not covered";
    405 UncoveredParent Error "rows can be read through a parent table without policies";
    406 DefinerBypasses Error "a function runs with rights that get around the policy";
    407 DefinerSearchPath Error "a function with its owner's rights trusts its caller's search path";
    408 DefinerPublic Warning "everybody may call a function that has its owner's rights";
    409 FalseLeakproof Warning "a function is trusted not to leak";

    501 UniqueAcrossTenants Warning "a unique key spans tenants";
    502 ExclusionAcrossTenants Warning "an exclusion constraint spans tenants";
    503 ReferenceAcrossTenants Error "a foreign key can point into another tenant";
    504 CascadeBypasses Warning "a cascade deletes rows that the role may not delete";
    505 TriggerWritesTenant Warning "a trigger can change the tenant of a row";
    506 RewriteRule Error "a rule rewrites statements with its owner's rights";
    507 GeneratedTenant Warning "the tenant of a row is computed from its other columns";
    508 NullableTenant Error "the tenant column may be NULL";
    509 TenantUnindexed Warning "no index leads with the tenant column";
    510 TenantCollation Error "tenants that differ can compare as equal";

    601 LeakyOperator Warning "an index that row-level security keeps from being used";
    602 LeakyExpression Warning "an index on an expression that row-level security keeps from being used";
    603 PatternIndex Warning "an index for LIKE that row-level security keeps from being used";
    604 CrossTypeOperator Note "an index is used only by values of exactly its own type";

    701 ServerVulnerable Error "the server has a known hole in row-level security";
    702 ClaimPreset Error "a claim is set for sessions that did not state it";
}

impl fmt::Display for LintCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", self.number())
    }
}

impl Serialize for LintCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "a reviewer must treat every case")]
pub enum Severity {
    /// Nothing is wrong in the database; whoever writes queries should know.
    Note,
    /// It tells that hidden rows exist, opens something with one more step, fails at run time, or is slow.
    Warning,
    /// Rows or columns are open to somebody for whom the policy does not open them.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing that weakens or slows a policy in a live database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Which lint.
    pub code: LintCode,
    /// How bad it is: the severity of the code.
    pub severity: Severity,
    /// The object, with its kind: `view public.totals`.
    pub object: String,
    /// What it makes possible or prevents, for this object.
    pub reason: String,
    /// What to do about it.
    pub fix: Fix,
}

/// What to do about a finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "a fix is either for the server or for a person")]
pub enum Fix {
    /// Statements that remove the finding. They are a proposal: what else uses the object is for a person to know.
    Sql(String),
    /// What a person has to do, where it depends on more than the catalog.
    Words(String),
}

impl fmt::Display for Finding {
    /// Writes three lines: code, severity and object; the reason; the fix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, severity, object, reason, fix } = self;
        writeln!(f, "{severity}[{code}] {object}: {}", code.title())?;
        writeln!(f, "  {reason}")?;
        match fix {
            Fix::Sql(sql) => write!(f, "  fix: {sql}"),
            Fix::Words(words) => write!(f, "  fix: {words}"),
        }
    }
}

#[cfg(feature = "postgres")]
impl Finding {
    pub(crate) fn new(
        code: LintCode,
        object: impl Into<String>,
        reason: impl Into<String>,
        fix: Fix,
    ) -> Self {
        Self { code, severity: code.severity(), object: object.into(), reason: reason.into(), fix }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_and_so_are_unique() {
        assert!(LintCode::ALL.is_sorted_by(|a, b| a.number() < b.number()));
    }
}
