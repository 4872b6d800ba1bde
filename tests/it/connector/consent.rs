//! Whoever registers an OAuth app reads where vendors send browsers back to, and which scopes are asked for: in the README and
//! in the connector's guide, as the connector files have it.

use std::{fs, path::Path};

use rollcall::connector::{Catalog, Connector, LinkMethod};

/// The README's line for one way to link.
fn line(connector: &Connector, method: &LinkMethod) -> String {
    let slug = &connector.slug;
    let whose = if method.needs_oauth_app() { "yours" } else { "the customer's own" };
    let scope = method.token.as_ref().and_then(|token| token.scope.as_ref());
    let scopes = match (scope, scope.and_then(|scope| method.field(scope.names().next()?))) {
        (_, Some(field)) => format!("filled in as *{}*", field.title),
        (Some(scope), None) => format!("`{}`", scope.text()),
        (None, None) => "none".to_owned(),
    };
    format!("| `{slug}`, `{}` | {whose} | `<public url>/connect/{slug}/callback` | {scopes} |", method.name)
}

#[test]
fn the_readme_and_the_guides_say_what_to_register() {
    let catalog = Catalog::load(None).unwrap();
    let mut expected = Vec::new();
    for connector in catalog.all() {
        for method in connector.methods.iter().filter(|method| method.needs_browser() || method.needs_oauth_app()) {
            expected.push(line(connector, method));
            let address = format!("/connect/{}/callback", connector.slug);
            assert!(connector.guide.contains(&address), "the guide of {} does not say {address}", connector.slug);
        }
    }
    assert!(!expected.is_empty());
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let table = readme.split("| connector, way | whose OAuth app | redirect address | scopes |\n").nth(1).expect("the table");
    let listed: Vec<&str> = table.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
    assert_eq!(listed, expected, "README.md lists what the connector files declare");
}
