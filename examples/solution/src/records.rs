//! What of the clinic's data is sealed, and how it is searched: generated from the policy's critical columns.

use zk_crypto::{BlindIndex, Column, Error, IndexSpec, Normalizer, Reindex, Reseal, Scope};

pub const EMAIL: Column<String> = Column::new("public.patients", "email");
pub const DIAGNOSIS: Column<String> = Column::new("public.patients", "diagnosis");
pub const DRUG: Column<String> = Column::new("public.prescriptions", "drug");
pub const RECIPIENT: Column<String> = Column::new("public.invoices", "recipient");

/// Patients are found by their e-mail address, of which a clinic has one patient.
pub fn emails() -> Result<BlindIndex, Error> {
    IndexSpec::unique("public.patients", "email").normalize(Normalizer::Email).plan()
}

/// The sealed columns, with their tables and what names a row there.
const SEALED: [(&str, &str, Column<String>); 4] = [
    ("patients", "id", EMAIL),
    ("patients", "id", DIAGNOSIS),
    ("prescriptions", "token", DRUG),
    ("invoices", "visit_id", RECIPIENT),
];

/// The jobs that seal a clinic's rows again after its data key was rotated.
pub fn reseals(scope: &Scope) -> [Reseal; 4] {
    SEALED.map(|(table, key, column)| {
        let named = scope.clone();
        let job = Reseal::new(("public", table), key, column.name(), scope.clone());
        job.context(move |row| column.context(&named, row)).batch_size(50)
    })
}

/// The job that gives a clinic's patients tokens under the next key of their index.
pub fn reindex(scope: &Scope) -> Result<Reindex, Error> {
    let columns = ["email_odd", "email_even"];
    let job = Reindex::unique(("public", "patients"), "id", EMAIL.name(), columns, &emails()?, scope.clone());
    Ok(job.batch_size(50))
}
