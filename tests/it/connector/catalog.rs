//! Embedding, the overlay, `like`, and the starter folder.

use std::{fs, path::Path};

use super::{connectors, copy_dir};
use rollcall::{
    connector::{Catalog, check, fixture},
    mapping::{Options, Roots},
    model::Resource,
    service::directory::filter::filterable,
};

fn write(dir: &Path, file: &str, text: &str) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join(file), text).unwrap();
}

/// A folder `acme` made from the starter folder.
fn acme(dir: &Path) -> std::path::PathBuf {
    let folder = dir.join("acme");
    copy_dir(&connectors().join("_template"), &folder);
    let head = folder.join("connector.yaml");
    let text = fs::read_to_string(&head).unwrap().replace("connector: my-vendor ", "connector: acme ");
    fs::write(head, text).unwrap();
    folder
}

#[test]
fn the_embedded_set_loads() {
    let catalog = Catalog::load(None).unwrap_or_else(|problems| panic!("{}", check::report(&problems, false)));
    let scim = catalog.get("scim").unwrap();
    assert_eq!(
        scim.methods.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
        ["bearer", "basic", "header", "oauth2_client_credentials", "oauth2"]
    );
    assert!(scim.guide.contains("SCIM"));
    assert!(scim.icon.as_ref().unwrap().starts_with(b"<svg"));
    assert!(catalog.problems().is_empty());
    assert!(catalog.get("_template").is_none() && catalog.get("template").is_none() && catalog.get("../scim").is_none());
    assert!(catalog.all().all(|connector| !connector.slug.as_str().starts_with('_')));
}

#[test]
fn every_folder_passes_check_with_its_level() {
    let (catalog, problems) = fixture::check_dir(&connectors());
    assert!(problems.is_empty(), "{}", check::report(&problems, false));
    assert!(catalog.get("scim").is_some());
}

#[test]
fn the_starter_folder_passes_when_copied_and_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = acme(dir.path());
    for place in [dir.path(), folder.as_path()] {
        let (catalog, problems) = fixture::check_dir(place);
        assert!(problems.is_empty(), "{}", check::report(&problems, false));
        assert_eq!(catalog.get("acme").unwrap().methods[0].name, "api_key");
    }
}

#[test]
fn an_overlay_replaces_whole_folders_and_adds_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    acme(dir.path());
    copy_dir(&connectors().join("scim"), &dir.path().join("scim"));
    fs::remove_file(dir.path().join("scim/me.yaml")).unwrap();
    let catalog = Catalog::load(Some(dir.path())).unwrap();
    assert!(catalog.problems().is_empty(), "{}", check::report(catalog.problems(), false));
    assert!(catalog.get("acme").is_some());
    assert!(!catalog.get("scim").unwrap().methods[0].resources.contains_key(&Resource::Me));
}

#[test]
fn a_broken_overlay_folder_keeps_the_compiled_in_one_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    acme(dir.path());
    copy_dir(&connectors().join("scim"), &dir.path().join("scim"));
    fs::write(dir.path().join("scim/users.yaml"), "resource: user\nlist: [\n").unwrap();
    let catalog = Catalog::load(Some(dir.path())).unwrap();
    assert!(catalog.get("scim").unwrap().methods[0].resources.contains_key(&Resource::User));
    assert!(catalog.get("acme").is_some(), "the other folders of the overlay hold");
    assert_eq!(catalog.problems().len(), 1);
    assert_eq!(catalog.problems()[0].file, "scim/users.yaml");
    assert_eq!(catalog.problems()[0].line, 2);
}

#[test]
fn a_missing_overlay_is_a_problem_not_an_end() {
    let catalog = Catalog::load(Some(Path::new("no/such/folder"))).unwrap();
    assert!(catalog.get("scim").is_some());
    assert_eq!(catalog.problems().len(), 1);
}

/// A vendor that speaks SCIM with a resource of its own on top.
fn scim_like(dir: &Path) {
    let folder = dir.join("acme");
    copy_dir(&connectors().join("_template"), &folder);
    fs::remove_dir_all(folder.join("fixtures")).unwrap();
    fs::remove_file(folder.join("groups.yaml")).unwrap();
    fs::remove_file(folder.join("users.yaml")).unwrap();
    write(
        &folder,
        "connector.yaml",
        "connector: acme\nformat: 1\ntitle: Acme\ncategory: directory\nlevel: beta\ntransport: scim\nhosts: { api: \"{url}\" }\n\
         base: \"{url}/scim/v2\"\nlink:\n  - method: token\n    like: scim\n    fields:\n      - { name: url, title: Address, kind: origin }\n      \
         - { name: token, title: Token, kind: secret }\n    auth: { bearer: { token: \"{token}\" } }\n",
    );
}

#[test]
fn like_takes_the_resources_and_own_files_merge_per_target() {
    let dir = tempfile::tempdir().unwrap();
    scim_like(dir.path());
    write(
        &dir.path().join("acme"),
        "users.token.yaml",
        "resource: user\nmap:\n  type: { const: person }\n  title: acmeTitle\noptional: [acmeTitle]\n",
    );
    let (catalog, problems) = fixture::check_dir(dir.path());
    assert!(problems.is_empty(), "{}", check::report(&problems, false));
    let method = &catalog.get("acme").unwrap().methods[0];
    assert_eq!(method.resources.len(), Resource::ALL.len());
    let mut out = Vec::new();
    let record = br#"{"id":"7","userName":"u","title":"old","acmeTitle":"new","userType":"x","active":true}"#;
    let user = &method.resources[&Resource::User];
    user.table.apply(record, Roots::default(), Options::default(), &mut out).unwrap();
    let user: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&user["title"], &user["type"], &user["username"]), (&"new".into(), &"person".into(), &"u".into()));
}

#[test]
fn a_resource_can_be_taken_back_from_like() {
    let dir = tempfile::tempdir().unwrap();
    scim_like(dir.path());
    write(
        &dir.path().join("acme"),
        "groups.yaml",
        "resource: group\nnone: \"The vendor's SCIM has no groups, its documents say.\"\n",
    );
    let catalog = Catalog::load_dir(dir.path());
    assert!(catalog.problems().is_empty(), "{}", check::report(catalog.problems(), false));
    let group = &catalog.get("acme").unwrap().methods[0].resources[&Resource::Group];
    assert!(group.none.is_some() && group.list.is_none());
}

#[test]
fn a_level_needs_its_fixtures() {
    let dir = tempfile::tempdir().unwrap();
    let folder = acme(dir.path());
    fs::remove_dir_all(folder.join("fixtures")).unwrap();
    let (_, problems) = fixture::check_dir(dir.path());
    assert_eq!(problems.len(), 1, "{}", check::report(&problems, false));
    assert!(problems[0].message.starts_with("no fixture of `api_key` hits "), "{}", problems[0].message);
    let head = folder.join("connector.yaml");
    let text = fs::read_to_string(&head).unwrap();
    fs::write(&head, text.replace("level: beta ", "level: draft ")).unwrap();
    assert!(fixture::check_dir(dir.path()).1.is_empty(), "a draft needs to load, no more");
    copy_dir(&connectors().join("_template/fixtures"), &folder.join("fixtures"));
    fs::write(&head, text.replace("level: beta ", "level: stable ")).unwrap();
    let (_, problems) = fixture::check_dir(dir.path());
    assert!(problems.iter().any(|p| p.message.contains("was not recorded")), "{}", check::report(&problems, false));
}

#[test]
fn resources_say_what_there_is_and_who_filters() {
    let catalog = Catalog::load(None).unwrap();
    let bearer = catalog.get("scim").unwrap().method("bearer").unwrap();
    let (users, roles) = (&bearer.resources[&Resource::User], &bearer.resources[&Resource::Role]);
    let verbs = |resource: Resource| {
        let def = &bearer.resources[&resource];
        (def.list.is_some(), def.get.is_some(), def.writes.iter().flat_map(|writes| writes.offered()).collect::<Vec<_>>())
    };
    assert_eq!(verbs(Resource::User), (true, true, vec!["create", "update", "delete"]));
    assert_eq!((verbs(Resource::GroupMember).0, verbs(Resource::GroupMember).2), (true, vec!["create", "delete"]));
    assert_eq!(verbs(Resource::Me), (false, false, vec![]));
    assert!(bearer.resources[&Resource::Me].none.as_ref().unwrap().contains("RFC 7644"));
    assert!(roles.none.is_some() && filterable(roles).is_empty());
    let by = |name: &str| {
        let found: Vec<_> = filterable(users).into_iter().filter(|filter| filter.name == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        (found[0].evaluated_by(), users.filters.get(name).and_then(|filter| filter.needs.as_deref()))
    };
    assert_eq!(by("emails[email]"), ("vendor", Some("filter")));
    assert_eq!(by("status"), ("gateway", None));
    let filled: Vec<_> = users.filled().map(|field| field.name).collect();
    assert!(filled.contains(&"organizations") && !filled.contains(&"licenses"), "{filled:?}");
    assert_eq!(
        bearer.fields.iter().map(|f| (f.name.as_str(), f.required)).collect::<Vec<_>>(),
        [("base_url", true), ("token", true), ("ca_certificate", false), ("certificate_sha256", false)]
    );
}

#[test]
fn reports_are_text_for_people_and_json_for_tools() {
    let catalog = Catalog::load(Some(Path::new("no/such/folder"))).unwrap();
    let text = check::report(catalog.problems(), false);
    assert!(text.starts_with("no/such/folder: the folder cannot be read"), "{text}");
    assert!(text.contains("\n    hint: "), "{text}");
    let json: serde_json::Value = serde_json::from_str(&check::report(catalog.problems(), true)).unwrap();
    assert_eq!(json[0]["file"], "no/such/folder");
    assert_eq!(json[0]["line"], 0);
}

/// The files of the starter folder with bytes changed, cut, doubled: a mistake or a connector, never an end of the process.
#[test]
fn damaged_files_are_mistakes_and_nothing_worse() {
    use proptest::{prelude::*, test_runner::TestRunner};
    let cases = if crate::support::long() { 4096 } else { 128 };
    let dir = tempfile::tempdir().unwrap();
    let folder = acme(dir.path());
    let files = ["connector.yaml", "users.yaml", "groups.yaml"];
    let originals: Vec<Vec<u8>> = files.iter().map(|file| fs::read(folder.join(file)).unwrap()).collect();
    let mut runner = TestRunner::new(ProptestConfig { cases, ..ProptestConfig::default() });
    let damage =
        (0..files.len(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[\\PC\n\t{}\\[\\]:&*!|>'\"%@`-]{0,6}");
    let result = runner.run(&damage, |(file, from, to, text)| {
        let original = &originals[file];
        let (from, to) = (from.index(original.len()), to.index(original.len()));
        let to = if to < from || to > from + 40 { from } else { to };
        let damaged = [&original[..from], text.as_bytes(), &original[to..]].concat();
        fs::write(folder.join(files[file]), damaged).unwrap();
        let catalog = Catalog::load_dir(dir.path());
        prop_assert_eq!(catalog.get("acme").is_none(), !catalog.problems().is_empty());
        prop_assert!(catalog.problems().iter().all(|p| p.column >= 1 && !p.message.is_empty()));
        fs::write(folder.join(files[file]), original).unwrap();
        Ok(())
    });
    result.unwrap();
}
