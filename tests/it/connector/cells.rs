//! Every cell of resource × method × connector × way to link is built, or says why not, with its source.

use std::collections::BTreeSet;

use rollcall::{
    connector::Catalog,
    http::{
        capability::{AccountCapability, Verb, document, verbs},
        query::CapabilityQuery,
    },
    model::{AccountId, AccountStatus, EnvironmentId, Resource},
};

/// What Truto documents over all its connectors (<https://www.truto.one/docs/api-reference/unified-user-directory-api.md>), with
/// every change of organizations and workspaces and the making of role assignments. `groups/remove-user` is `delete` of members.
fn methods(resource: Resource) -> &'static [&'static str] {
    match resource {
        Resource::User => &["list", "get", "create", "update", "delete", "downgrade"],
        Resource::Group | Resource::Role | Resource::Organization | Resource::Workspace => {
            &["list", "get", "create", "update", "delete"]
        }
        Resource::GroupMember => &["list", "create", "delete"],
        Resource::RoleAssignment => &["list", "get", "create", "delete"],
        Resource::License | Resource::Activity => &["list", "get"],
        Resource::Me => &["list"],
    }
}

/// Whether a sentence names where it comes from.
fn has_source(text: &str) -> bool {
    text.contains("https://")
}

#[test]
fn every_cell_is_built_or_says_why_not() {
    let catalog = Catalog::load(None).unwrap();
    let (mut built, mut none) = (0, 0);
    for connector in catalog.all() {
        for method in &connector.methods {
            let account = AccountCapability {
                id: AccountId::generate(),
                status: AccountStatus::Active,
                authentication_method: method.name.clone(),
                is_blocked: false,
                facts: Default::default(),
            };
            let query = CapabilityQuery { proxy: true, unified: true, ..CapabilityQuery::default() };
            let offer = document(connector, EnvironmentId::generate(), Some(account), &query);
            for resource in Resource::ALL {
                let place = format!("{} {} {}", connector.slug, method.name, resource.plural());
                let def = method.resources.get(resource).unwrap_or_else(|| panic!("{place}: nothing is said"));
                let shown: Vec<_> = verbs(method, *resource).into_iter().map(Verb::word).collect();
                for name in methods(*resource) {
                    let has = shown.contains(name) || def.methods.offered.contains_key(*name);
                    match def.reason(name) {
                        Some(reason) => {
                            assert!(!has, "{place} {name}: built, and refused with {reason:?}");
                            assert!(has_source(reason), "{place} {name}: no source in {reason:?}");
                            none += 1;
                        }
                        None => {
                            assert!(has, "{place} {name}: neither built nor refused");
                            built += 1;
                        }
                    }
                }
                let known: BTreeSet<&str> = methods(*resource).iter().copied().collect();
                assert!(shown.iter().all(|name| known.contains(name)), "{place}: {shown:?}");
                for (name, reason) in &def.methods.none {
                    assert!(has_source(reason), "{place} {name}: no source in {reason:?}");
                }
                if let Some(needs) = &def.needs {
                    assert!(has_source(&needs.because), "{place}: {}", needs.because);
                    let shown = offer.unified.iter().find(|shown| shown.resource == resource.plural()).unwrap();
                    assert_eq!(shown.needs.as_deref(), Some(needs.because.as_str()));
                }
            }
        }
    }
    assert!(built >= 79 && none >= 111, "{built} built, {none} none");
}
