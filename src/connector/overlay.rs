//! The overlay at run time: its folder is looked at again and again, and a change is compiled as a whole or not at all.

use std::{
    fs::{self, DirEntry},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Catalog, Problem};

/// The overlay's folder and what was read of it last.
pub struct Overlay {
    dir: PathBuf,
    loaded: Footprint,
    seen: Footprint,
}

impl Overlay {
    /// Begins with the folder as it is now; to be called before the catalog of the start is loaded.
    pub fn watch(dir: &Path) -> Overlay {
        let now = Footprint::of(dir);
        Overlay { dir: dir.to_owned(), loaded: now.clone(), seen: now }
    }

    /// The catalog with a change of the folder, or every mistake in it; `None` when there is nothing new. A change counts
    /// once it is the same in two looks: an editor or a copy may be at work.
    pub fn look(&mut self) -> Option<Result<Catalog, Vec<Problem>>> {
        let now = Footprint::of(&self.dir);
        let settled = now == self.seen;
        self.seen = now;
        if !settled || self.seen == self.loaded {
            return None;
        }
        self.loaded = self.seen.clone();
        Some(match Catalog::load(Some(&self.dir)) {
            Ok(catalog) if catalog.problems().is_empty() => Ok(catalog),
            Ok(catalog) => Err(catalog.problems().to_vec()),
            Err(problems) => Err(problems),
        })
    }
}

/// Names, sizes, times and identities of everything that could be part of a connector.
#[derive(Clone, PartialEq, Eq)]
struct Footprint(Vec<(PathBuf, Option<[i128; 4]>)>);

impl Footprint {
    /// Of the folder, its folders, and the files in either.
    fn of(dir: &Path) -> Footprint {
        let mut found = vec![(dir.to_owned(), mark(dir))];
        for entry in entries(dir) {
            let path = entry.path();
            found.extend(entries(&path).map(|file| file.path()).map(|file| (file.clone(), mark(&file))));
            found.push((path.clone(), mark(&path)));
        }
        found.sort();
        Footprint(found)
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

/// The change time catches what keeps size and modification time, such as a copy that sets them.
fn mark(path: &Path) -> Option<[i128; 4]> {
    let metadata = fs::metadata(path).ok()?;
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Some([
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        metadata.len().into(),
        metadata.ino().into(),
    ])
}
