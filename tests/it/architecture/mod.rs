//! The house rules, read off the sources: directions, outside crates, sizes, vendors' names, words that must not stay.

mod paths;
mod rules;
mod supply;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use rules::Rules;

/// Files below a folder whose names end so, in a fixed order; folders that are not ours are left out by name.
pub(crate) fn files(folder: &str, endings: &[&str]) -> Vec<(String, PathBuf)> {
    const NOT_OURS: [&str; 4] = ["node_modules", "__pycache__", ".peers", "target"];
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if !path.is_dir() {
                found.push(path);
            } else if !NOT_OURS.contains(&path.file_name().unwrap().to_str().unwrap()) {
                walk(&path, found);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join(folder), &mut found);
    found.sort();
    let relative = |p: &Path| p.strip_prefix(root).unwrap().to_str().expect("file names are UTF-8").to_owned();
    found.into_iter().map(|p| (relative(&p), p)).filter(|(name, _)| endings.iter().any(|e| name.ends_with(e))).collect()
}

/// The names a vendor's folder has; the fixed ones keep the rule alive before all folders exist.
fn slugs() -> BTreeSet<String> {
    let mut slugs: BTreeSet<String> =
        ["keeper", "powerdmarc", "cipp", "gradient", "connectwise-psa", "autotask", "halopsa"].map(String::from).into();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors");
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() && !["scim", "_schema", "_template"].contains(&name.as_str()) {
            slugs.insert(name);
        }
    }
    slugs
}

/// The names crates have in code, from the manifest, so that a new one must be given its rooms.
fn dependencies() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    manifest["dependencies"].as_table().unwrap().keys().map(|name| name.replace('-', "_")).collect()
}

fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "{} broken house rules:\n{}", violations.len(), violations.join("\n"));
}

fn sources() -> Vec<(String, String)> {
    let found = files("src", &[".rs"]);
    assert!(found.len() > 20, "the sources were not found");
    found.into_iter().map(|(name, path)| (name, fs::read_to_string(path).expect("sources are UTF-8"))).collect()
}

#[test]
fn rooms_import_only_from_rooms_below() {
    let rules = Rules::new(dependencies(), slugs());
    assert_none(sources().iter().flat_map(|(name, text)| rules.directions(name, text)).collect());
}

#[test]
fn outside_crates_stay_in_their_rooms() {
    let rules = Rules::new(dependencies(), slugs());
    assert_none(
        rules.unknown_crates().into_iter().chain(sources().iter().flat_map(|(name, text)| rules.crates(name, text))).collect(),
    );
}

#[test]
fn files_stay_short() {
    assert_none(sources().iter().flat_map(|(name, text)| rules::length(name, text)).collect());
}

#[test]
fn vendors_are_data() {
    let rules = Rules::new(dependencies(), slugs());
    let found = files("src", &[".rs", ".md", ".html", ".js", ".css", ".toml", ".json", ".yaml"]);
    assert_none(found.iter().flat_map(|(name, path)| rules.vendors(name, &fs::read_to_string(path).unwrap())).collect());
}

#[test]
fn nothing_is_left_for_later() {
    let endings = [".rs", ".py", ".js", ".mjs", ".ts", ".sh", ".toml", ".md", ".yaml", "/run"];
    let found = files("src", &endings).into_iter().chain(files("tests", &endings));
    assert_none(
        found.flat_map(|(name, path)| rules::leftovers(&name, &String::from_utf8_lossy(&fs::read(path).unwrap()))).collect(),
    );
}

/// The modules a source file is within, and is.
fn module(name: &str) -> Vec<&str> {
    let name = name.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    name.split('/').collect()
}

/// Whether there are these modules and, in one file of the last of them, what follows them; a type may stand without its module.
fn is_there(sources: &[(String, String)], path: &str) -> bool {
    let parts: Vec<&str> = path.split("::").collect();
    let least = usize::from(!path.starts_with(|first: char| first.is_uppercase()));
    (least..=parts.len()).any(|modules| {
        let (modules, items) = parts.split_at(modules);
        let is_within = |name: &str| modules.is_empty() || module(name).windows(modules.len()).any(|part| part == modules);
        let names = |text: &str| items.iter().all(|item| text.contains(&format!(" {item}")));
        sources.iter().any(|(name, text)| is_within(name) && names(text))
    })
}

#[test]
fn the_guide_to_the_house_names_what_is_there() {
    let (guide, sources) = (fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/README.md")).unwrap(), sources());
    let named: BTreeSet<&str> =
        guide.split('`').skip(1).step_by(2).filter(|text| text.contains("::") && !text.contains('<')).collect();
    assert!(named.len() > 30, "{named:?}");
    let gone: Vec<_> = named.into_iter().filter(|path| !is_there(&sources, path)).collect();
    assert!(gone.is_empty(), "src/README.md names what there is not: {gone:?}");
    assert!(is_there(&sources, "store::repo") && !is_there(&sources, "store::attic") && !is_there(&sources, "repo::Attic"));
}
