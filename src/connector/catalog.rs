//! All connectors: those compiled in, overlaid by whole folders of `ROLLCALL_CONNECTORS_DIR` at run time.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::Connector;
use crate::model::Slug;

/// One mistake in a connector file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file, relative to the connectors folder.
    pub file: String,
    /// Line, from 1; 0 when it concerns the folder.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// The connectors of this process.
#[derive(Debug)]
pub struct Catalog {
    connectors: BTreeMap<Slug, Arc<Connector>>,
    problems: Vec<Problem>,
}

impl Catalog {
    /// The compiled-in set, overlaid by `overlay`. A broken overlay folder keeps the compiled-in connector of that name and
    /// leaves its mistakes in [`Catalog::problems`]; a broken compiled-in folder is an error.
    pub fn load(_overlay: Option<&Path>) -> Result<Catalog, Vec<Problem>> {
        todo!()
    }

    /// A connector by slug.
    pub fn get(&self, slug: &str) -> Option<&Arc<Connector>> {
        slug.parse::<Slug>().ok().and_then(|slug| self.connectors.get(&slug))
    }

    /// All, by slug.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Connector>> {
        self.connectors.values()
    }

    /// Mistakes of the overlay.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}
