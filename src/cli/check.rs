//! `rollcall check [DIR]`.

use std::path::PathBuf;

use super::{Failure, print_data, settings};
use crate::{
    config::{GlobalArgs, Purpose},
    connector::{Catalog, check},
};

/// Checks a folder of connectors, the overlay of the settings, or the built-in ones.
pub fn check(dir: Option<PathBuf>, global: &GlobalArgs) -> Result<(), Failure> {
    let dir = match dir {
        Some(dir) if !dir.is_dir() => return Err(Failure::Usage(format!("{} is not a folder", dir.display()))),
        Some(dir) => Some(dir),
        None => settings(global, Purpose::Tool)?.connectors_dir,
    };
    let (count, problems) = match &dir {
        Some(dir) => {
            let (catalog, problems) = check::check_dir(dir);
            (catalog.all().count(), problems)
        }
        None => Catalog::load(None).map_or_else(|problems| (0, problems), |catalog| (catalog.all().count(), Vec::new())),
    };
    if global.json || !problems.is_empty() {
        print_data(check::report(&problems, global.json).trim_end())?;
    }
    match (problems.len(), count, dir) {
        (0, 0, Some(dir)) => {
            let dir = dir.display();
            Err(Failure::Failed(format!("{dir} holds no connector: a connector is a folder with a `connector.yaml`")))
        }
        (0, count, _) => {
            eprintln!("{}, no mistakes", counted(count, "connector"));
            Ok(())
        }
        (count, ..) => Err(Failure::Failed(counted(count, "mistake"))),
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
