//! What somebody has who has the data and not the keys: a dump, the disk, the server's log; or who can write rows.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use memchr::memmem;
use tokio_postgres::Client;

use super::processes::Solution;
use super::table::{Table, ensure};
use super::users::Clinic;
use crate::Result;

/// What only sealed columns hold: of every address, diagnosis and prescription of the drive, in every spelling used.
const SEALED: [&str; 5] = ["Mail.example", "mail.example", "MAIL.EXAMPLE", "melancholia", "aspirin"];
/// What a column holds that is not sealed: the search has to find it.
const PLAIN: &str = "Patient 0";

pub async fn look(solution: &Solution, clinic: &Clinic, table: &mut Table) -> Result<()> {
    let administrator = solution.world.database.connect().await?;
    let cluster = solution.world.database.cluster().clone();
    let nothing = "nothing found";
    table.refused("plaintext in a stolen dump", search(&dump(&administrator).await?)?, nothing)?;
    table.refused("plaintext in the server's log", search(cluster.log().as_bytes())?, nothing)?;
    administrator.batch_execute("CHECKPOINT").await?;
    let folder = cluster.socket_folder().join("data");
    let disk = tokio::task::spawn_blocking(move || read_all(&folder)).await??;
    table.refused("plaintext on a stolen disk", search(&disk)?, nothing)?;
    moved(&administrator, clinic, table).await
}

fn search(data: &[u8]) -> Result<&'static str> {
    ensure(memmem::find(data, PLAIN.as_bytes()).is_some(), "the search does not find what is there")?;
    let found = SEALED.iter().any(|text| memmem::find(data, text.as_bytes()).is_some());
    Ok(if found { "found" } else { "nothing found" })
}

/// All tables, as `COPY` writes them: those of the clinic and those of these crates.
async fn dump(administrator: &Client) -> Result<Vec<u8>> {
    let tables = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
                  WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    let mut dump = Vec::new();
    for row in administrator.query(tables, &[]).await? {
        let copy = format!("COPY (SELECT * FROM {}) TO STDOUT (FORMAT binary)", row.get::<_, String>(0));
        let mut rows = std::pin::pin!(administrator.copy_out(&copy).await?);
        while let Some(part) = rows.try_next().await? {
            dump.extend_from_slice(&part);
        }
    }
    Ok(dump)
}

/// Every file of a folder and the folders in it.
fn read_all(folder: &Path) -> Result<Vec<u8>> {
    let (mut found, mut open) = (Vec::new(), vec![PathBuf::from(folder)]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if let Ok(mut bytes) = std::fs::read(&path) {
                // A file that has gone meanwhile holds nothing.
                found.append(&mut bytes);
            }
        }
    }
    Ok(found)
}

/// Who can write rows gives one patient the sealed address of another: it does not open there.
async fn moved(administrator: &Client, clinic: &Clinic, table: &mut Table) -> Result<()> {
    let desk = clinic.visitor(0, "receptionist")?;
    let mut ours = clinic.patients.iter().filter(|patient| patient.tenant == desk.user.tenant);
    let (Some(one), Some(other)) = (ours.next(), ours.next()) else {
        return Err("there are no patients".into());
    };
    let email = "SELECT email FROM patients WHERE id = $1";
    let [own, others] = [
        administrator.query_one(email, &[&one.id]).await?.get::<_, Vec<u8>>(0),
        administrator.query_one(email, &[&other.id]).await?.get::<_, Vec<u8>>(0),
    ];
    let set = "UPDATE patients SET email = $2 WHERE id = $1";
    administrator.execute(set, &[&one.id, &others]).await?;
    let (status, _) = desk.get(&format!("/patients/{}", one.id)).await?;
    administrator.execute(set, &[&one.id, &own]).await?;
    table.refused("a sealed value is moved to another row", status.as_str(), "500")?;
    let (_, answer) = desk.get(&format!("/patients/{}", one.id)).await?;
    ensure(answer == one.as_answered(), format!("in its own place it does not open: {answer}"))
}
