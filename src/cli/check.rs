//! `rollcall check [DIR]`.

use std::path::Path;

use super::{Failure, print_data};
use crate::connector::{Catalog, check};

/// Checks a folder of connectors, or the built-in ones.
pub fn check(dir: Option<&Path>, json: bool) -> Result<(), Failure> {
    let loaded = match dir {
        Some(dir) if !dir.is_dir() => return Err(Failure::Usage(format!("{} is not a folder", dir.display()))),
        Some(dir) => Ok(Catalog::load_dir(dir)),
        None => Catalog::load(None),
    };
    let problems = match loaded {
        Ok(catalog) if catalog.problems().is_empty() => {
            eprintln!("{} connectors, no mistakes", catalog.all().count());
            Vec::new()
        }
        Ok(catalog) => catalog.problems().to_vec(),
        Err(problems) => problems,
    };
    if json || !problems.is_empty() {
        print_data(check::report(&problems, json).trim_end())?;
    }
    match problems.len() {
        0 => Ok(()),
        1 => Err(Failure::Failed("1 mistake".to_owned())),
        many => Err(Failure::Failed(format!("{many} mistakes"))),
    }
}
