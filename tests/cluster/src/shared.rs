//! Databases of a test's own in the Postgres that all tests share.

use std::fs::File;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Database, Script};

/// The folder of the Postgres that `deploy/test.sh` started for all tests, or of one that this process has started.
static SHARED: LazyLock<(PathBuf, Option<Script>)> =
    LazyLock::new(|| match std::env::var_os("TRAINYARD_TEST_POSTGRES") {
        Some(folder) => (folder.into(), None),
        None => {
            let script = Script::start(None);
            (script.folder.clone(), Some(script))
        }
    });

/// How many databases this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// The database `name`, which is made when it is first asked for.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn named_database(name: &str) -> Database {
    make(name, "template0")
        .or_else(|said| {
            if said.contains("already exists") {
                Ok(database(name))
            } else {
                Err(said)
            }
        })
        .unwrap()
}

/// A new, empty database.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn empty_database() -> Database {
    new_database("template0")
}

/// A new database with all migrations. `migrate` applies them to the database at a URL, once for all tests.
///
/// # Panics
/// When it cannot be made.
pub async fn migrated_database(migrate: impl AsyncFnOnce(String)) -> Database {
    let admin = database("postgres");
    // One test makes the template, and others wait for it. Postgres also refuses to copy what is being copied.
    let lock = File::open(&admin.folder).unwrap();
    lock.lock().unwrap();
    if admin.sql("select count(*) from pg_database where datname = 'migrated'") == "0" {
        migrate(make("migrating", "template0").unwrap().url()).await;
        let _ = admin.sql("alter database migrating rename to migrated");
    }
    new_database("migrated")
}

fn new_database(template: &str) -> Database {
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    make(&format!("test_{}_{number}", std::process::id()), template).unwrap()
}

fn make(name: &str, template: &str) -> Result<Database, String> {
    let create = format!("create database \"{name}\" template {template} strategy file_copy");
    let _ = database("postgres").try_sql(&create)?;
    Ok(database(name))
}

fn database(name: &str) -> Database {
    Database {
        folder: SHARED.0.clone(),
        name: name.to_owned(),
    }
}
