//! All connectors: those compiled in, overlaid by whole folders of `ROLLCALL_CONNECTORS_DIR` at run time.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rust_embed::RustEmbed;

use super::{
    Connector,
    compile::{compile, tidy},
    folder::{self, Folder, HEAD, Parsed},
};
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

impl fmt::Display for Problem {
    /// `file:line:column: message`, without a place where it concerns a folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}:{}: {}", self.file, self.column, self.message),
        }
    }
}

/// The connectors of this process.
#[derive(Debug)]
pub struct Catalog {
    connectors: BTreeMap<Slug, Arc<Connector>>,
    problems: Vec<Problem>,
}

/// The folders of the repository, compiled in.
#[derive(RustEmbed)]
#[folder = "connectors/"]
struct Embedded;

impl Catalog {
    /// The compiled-in set, overlaid by `overlay`. A broken overlay folder keeps the compiled-in connector of that name and
    /// leaves its mistakes in [`Catalog::problems`]; a broken compiled-in folder is an error.
    pub fn load(overlay: Option<&Path>) -> Result<Catalog, Vec<Problem>> {
        let embedded = parse_all(&embedded());
        let mut catalog = compile_all(&embedded, &[]);
        if !catalog.problems.is_empty() {
            return Err(catalog.problems);
        }
        let Some(dir) = overlay else { return Ok(catalog) };
        let over = match read_dir(dir) {
            Ok(folders) => compile_all(&parse_all(&folders), &embedded),
            Err(problem) => Catalog { connectors: BTreeMap::new(), problems: vec![problem] },
        };
        catalog.connectors.extend(over.connectors);
        catalog.problems = over.problems;
        Ok(catalog)
    }

    /// The connector of one folder, of the files it would have; `like` finds nothing.
    pub fn of_files(name: &str, files: BTreeMap<String, Vec<u8>>) -> Catalog {
        compile_all(&parse_all(&[Folder { name: name.to_owned(), files }]), &[])
    }

    /// The connectors of a folder of folders, or of one connector's own folder, for `rollcall check`; `like` also finds the
    /// compiled-in ones.
    pub fn load_dir(dir: &Path) -> Catalog {
        match read_dir(dir) {
            Ok(folders) => {
                let folders = parse_all(&folders);
                let leans = folders.iter().any(|parsed| parsed.leans());
                compile_all(&folders, &if leans { parse_all(&embedded()) } else { Vec::new() })
            }
            Err(problem) => Catalog { connectors: BTreeMap::new(), problems: vec![problem] },
        }
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

fn parse_all(folders: &[Folder]) -> Vec<Arc<Parsed>> {
    folders.iter().map(|folder| Arc::new(folder::parse(folder))).collect()
}

/// Compiles each; `others` are only leaned on.
fn compile_all(folders: &[Arc<Parsed>], others: &[Arc<Parsed>]) -> Catalog {
    let like = |slug: &str| folders.iter().chain(others).find(|parsed| parsed.name == slug).cloned();
    let mut catalog = Catalog { connectors: BTreeMap::new(), problems: Vec::new() };
    for parsed in folders {
        match compile(parsed, &like) {
            Ok(connector) => {
                catalog.connectors.insert(connector.slug.clone(), Arc::new(connector));
            }
            Err(problems) => catalog.problems.extend(problems),
        }
    }
    catalog.problems = tidy(catalog.problems);
    catalog
}

fn embedded() -> Vec<Folder> {
    let mut folders: BTreeMap<String, Folder> = BTreeMap::new();
    for path in Embedded::iter() {
        let Some((name, file)) = path.split_once('/').filter(|(name, file)| !name.starts_with('_') && !file.contains('/')) else {
            continue;
        };
        let Some(data) = Embedded::get(&path) else { continue };
        let folder = folders.entry(name.to_owned()).or_insert_with(|| Folder { name: name.to_owned(), files: BTreeMap::new() });
        folder.files.insert(file.to_owned(), data.data.into_owned());
    }
    folders.into_values().collect()
}

/// Folders beginning with `_` or `.` are not connectors.
fn read_dir(dir: &Path) -> Result<Vec<Folder>, Problem> {
    let unreadable = |error: io::Error| Problem {
        file: dir.display().to_string(),
        line: 0,
        column: 1,
        message: format!("the folder cannot be read: {error}"),
        hint: Some("a folder of connector folders, or one connector's folder".to_owned()),
    };
    if dir.join(HEAD).is_file() {
        let whole = dir.canonicalize().map_err(unreadable)?;
        let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(vec![read_folder(name, &whole).map_err(unreadable)?]);
    }
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).map_err(unreadable)?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut folders = Vec::new();
    for path in paths.into_iter().filter(|path| path.is_dir()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(['_', '.']) {
            folders.push(read_folder(name, &path).map_err(unreadable)?);
        }
    }
    Ok(folders)
}

/// The files that stand directly in the folder; fixtures are read by the contract suite only.
fn read_folder(name: String, dir: &Path) -> io::Result<Folder> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(file, fs::read(&path)?);
        }
    }
    Ok(Folder { name, files })
}
