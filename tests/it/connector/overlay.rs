//! The overlay while it changes: taken up once it is settled, as a whole or not at all.

use std::{fs, path::Path};

use rollcall::connector::{Catalog, Overlay, Problem};

use super::{connectors, copy_dir};

fn scim(dir: &Path) {
    copy_dir(&connectors().join("scim"), &dir.join("scim"));
}

/// What the first look finds that finds anything; two looks are enough for that.
fn settled(overlay: &mut Overlay) -> Option<Result<Catalog, Vec<Problem>>> {
    assert!(overlay.look().is_none(), "a change is not taken up while it may go on");
    overlay.look()
}

fn title(catalog: &Catalog) -> String {
    catalog.get("scim").unwrap().file.title.clone()
}

/// The head file with another title, of the same length.
fn retitle(dir: &Path, title: &str) {
    let head = dir.join("scim/connector.yaml");
    let text = fs::read_to_string(&head).unwrap();
    let line = text.lines().find(|line| line.starts_with("title:")).unwrap().to_owned();
    fs::write(&head, text.replace(&line, &format!("title: {title}"))).unwrap();
}

#[test]
fn a_change_is_taken_up_once_it_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    scim(dir.path());
    let mut overlay = Overlay::watch(dir.path());
    assert!(overlay.look().is_none() && overlay.look().is_none(), "nothing has changed");
    retitle(dir.path(), "Alpha");
    assert!(overlay.look().is_none());
    retitle(dir.path(), "Gamma");
    assert_eq!(title(&settled(&mut overlay).unwrap().unwrap()), "Gamma");
    assert!(overlay.look().is_none() && overlay.look().is_none(), "once");
    // The same size, and the time of the file set back to what it was.
    let head = dir.path().join("scim/connector.yaml");
    let before = fs::metadata(&head).unwrap().modified().unwrap();
    retitle(dir.path(), "Delta");
    fs::File::options().write(true).open(&head).unwrap().set_modified(before).unwrap();
    assert_eq!(title(&settled(&mut overlay).unwrap().unwrap()), "Delta");
}

#[test]
fn a_mistake_anywhere_takes_nothing_up_and_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    scim(dir.path());
    let mut overlay = Overlay::watch(dir.path());
    let users = dir.path().join("scim/users.yaml");
    let good = fs::read_to_string(&users).unwrap();
    fs::write(&users, "resource: user\nlist: [\n").unwrap();
    copy_dir(&connectors().join("scim"), &dir.path().join("another"));
    let problems = settled(&mut overlay).unwrap().unwrap_err();
    assert!(problems.iter().any(|p| p.file == "scim/users.yaml" && p.line == 2), "{problems:?}");
    assert!(problems.iter().any(|p| p.file == "another/connector.yaml"), "every mistake is told: {problems:?}");
    assert!(problems.windows(2).all(|pair| pair[0] != pair[1]));
    assert!(overlay.look().is_none() && overlay.look().is_none(), "once");
    fs::write(&users, good).unwrap();
    fs::remove_dir_all(dir.path().join("another")).unwrap();
    assert!(settled(&mut overlay).unwrap().is_ok());
}

#[test]
fn folders_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut overlay = Overlay::watch(dir.path());
    let folder = dir.path().join("acme");
    copy_dir(&connectors().join("_template"), &folder);
    let head = folder.join("connector.yaml");
    fs::write(&head, fs::read_to_string(&head).unwrap().replace("connector: my-vendor ", "connector: acme ")).unwrap();
    assert!(settled(&mut overlay).unwrap().unwrap().get("acme").is_some());
    fs::remove_dir_all(&folder).unwrap();
    let catalog = settled(&mut overlay).unwrap().unwrap();
    assert!(catalog.get("acme").is_none() && catalog.get("scim").is_some());
    fs::remove_dir(dir.path()).unwrap();
    let problems = settled(&mut overlay).unwrap().unwrap_err();
    assert!(problems[0].message.contains("cannot be read"), "{problems:?}");
    fs::create_dir(dir.path()).unwrap();
    assert!(settled(&mut overlay).unwrap().is_ok());
}
