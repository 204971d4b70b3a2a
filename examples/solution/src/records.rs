//! What of the clinic's data is sealed, and how it is searched: generated from the policy's critical columns.

use zk_crypto::{BlindIndex, Column, Error, IndexSpec, Normalizer};

pub const EMAIL: Column<String> = Column::new("public.patients", "email");
pub const DIAGNOSIS: Column<String> = Column::new("public.patients", "diagnosis");
pub const DRUG: Column<String> = Column::new("public.prescriptions", "drug");
pub const RECIPIENT: Column<String> = Column::new("public.invoices", "recipient");

/// Patients are found by their e-mail address, of which a clinic has one patient.
pub fn emails() -> Result<BlindIndex, Error> {
    IndexSpec::unique("public.patients", "email").normalize(Normalizer::Email).plan()
}
