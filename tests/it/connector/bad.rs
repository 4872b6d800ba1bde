//! The texts of `rollcall check`: a small bad folder and what is said about it, for each kind of mistake.

use std::fs;

use rollcall::connector::{Catalog, check};

use super::{assert_file, connectors, copy_dir};

/// `bad/<case>/` holds the files that differ from the starter folder, `expected.txt` what is said. A file `remove` names
/// files of the starter folder to leave out, one a line.
#[test]
fn every_kind_of_mistake_is_named_in_its_place() {
    let cases = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/connector/bad");
    let mut seen = 0;
    for case in fs::read_dir(&cases).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("my-vendor");
        copy_dir(&connectors().join("_template"), &folder);
        for entry in fs::read_dir(&case).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
            match name.as_str() {
                "expected.txt" => {}
                "remove" => {
                    fs::read_to_string(&entry).unwrap().lines().for_each(|line| fs::remove_file(folder.join(line)).unwrap())
                }
                _ => fs::copy(&entry, folder.join(&name)).map(drop).unwrap(),
            }
        }
        let catalog = Catalog::load_dir(dir.path());
        let text = check::report(catalog.problems(), false);
        assert!(!text.is_empty(), "{}: no mistake was found", case.display());
        assert!(catalog.get("my-vendor").is_none(), "{}: a broken folder was loaded", case.display());
        assert_file(&case.join("expected.txt"), &text);
        seen += 1;
    }
    assert!(seen >= 25, "only {seen} cases");
}
