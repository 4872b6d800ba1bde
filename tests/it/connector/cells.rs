//! Every cell of resource × method × connector × way to link is built, or says that the vendor has none, with its source.

use std::collections::BTreeSet;

use rollcall::{
    connector::{Catalog, capabilities},
    model::Resource,
};

/// Methods that the unified directory of this gateway knows, by resource.
fn methods(resource: Resource) -> &'static [&'static str] {
    match resource {
        Resource::User | Resource::Group => &["list", "get", "create", "update", "delete"],
        Resource::GroupMember => &["list", "create", "delete"],
        Resource::RoleAssignment => &["list", "get", "create", "delete"],
        Resource::Role | Resource::Organization | Resource::Workspace | Resource::License => &["list", "get"],
        Resource::Me | Resource::Activity => &["list"],
    }
}

/// Whether a sentence names where it comes from.
fn has_source(text: &str) -> bool {
    text.contains("https://") || text.contains("RFC ")
}

#[test]
fn every_cell_is_built_or_says_that_the_vendor_has_none() {
    let catalog = Catalog::load(None).unwrap();
    let (mut built, mut none) = (0, 0);
    for connector in catalog.all() {
        for method in &connector.methods {
            for resource in Resource::ALL {
                let place = format!("{} {} {}", connector.slug, method.name, resource.plural());
                let def = method.resources.get(resource).unwrap_or_else(|| panic!("{place}: nothing is said"));
                if let Some(reason) = &def.none {
                    assert!(has_source(reason), "{place}: no source in {reason:?}");
                    none += 1;
                    continue;
                }
                let shown = capabilities(connector);
                let shown = shown.methods.iter().find(|m| m.method == method.name).unwrap();
                let shown = shown.resources.iter().find(|r| r.resource == resource.plural()).unwrap();
                for name in methods(*resource) {
                    let reason = def.writes.as_ref().and_then(|writes| writes.none.get(name));
                    let has = shown.methods.iter().any(|known| known == name);
                    assert!(has || reason.is_some_and(|reason| has_source(reason)), "{place} {name}: neither built nor refused");
                    built += usize::from(has);
                }
                let known: BTreeSet<&str> = methods(*resource).iter().copied().collect();
                assert!(shown.methods.iter().all(|name| known.contains(name.as_str())), "{place}: {:?}", shown.methods);
                if let Some(needs) = &def.needs {
                    assert!(has_source(&needs.because), "{place}: {}", needs.because);
                    assert_eq!(shown.needs.as_deref(), Some(needs.because.as_str()));
                }
            }
        }
    }
    assert!(built > 40 && none > 20, "{built} built, {none} none");
}
