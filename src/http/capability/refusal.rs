//! Refusals of what an account cannot do.

use super::{Verb, proxy_verbs, verbs};
use crate::{
    connector::{LinkMethod, ResourceDef},
    error::{Code, Error},
    http::problem::READ_ONLY,
    model::Resource,
    service::{
        Linked,
        directory::{offered, offered_by_vendor_name},
    },
};

/// Refuses what the account's way of linking does not offer, naming the way that does.
pub fn require(linked: &Linked, resource: Resource, verb: Verb) -> Result<(), Error> {
    offered(linked, resource)?;
    require_of(linked, resource, verb, verbs)
}

/// The same for `/proxy/{name}`.
pub fn require_proxy(linked: &Linked, name: &str, verb: Verb) -> Result<Resource, Error> {
    let resource = offered_by_vendor_name(linked, name)?.resource;
    require_of(linked, resource, verb, proxy_verbs).map(|()| resource)
}

fn require_of(
    linked: &Linked,
    resource: Resource,
    verb: Verb,
    verbs: fn(&LinkMethod, Resource) -> Vec<Verb>,
) -> Result<(), Error> {
    let (connector, method) = (&linked.access.connector, &linked.access.method);
    if verbs(method, resource).contains(&verb) {
        return Ok(());
    }
    let able = connector.methods.iter().find(|other| verbs(other, resource).contains(&verb));
    let hint = able.map_or_else(String::new, |other| format!(" An account linked by `{}` can.", other.name));
    let (title, name, verb_word) = (&connector.file.title, resource.plural(), verb.word());
    let def = method.resources.get(&resource);
    let why = def.and_then(|def| def.reason(verb_word)).map_or_else(String::new, |reason| format!(" {reason}"));
    let detail = format!("{title}, linked by `{}`, has `{name}` but cannot {verb_word} them.{why}{hint}", method.name);
    let allow = allowed(&verbs(method, resource), matches!(verb, Verb::List | Verb::Other("create")));
    Err(Error::new(Code::MethodNotSupported, detail).allow(allow))
}

/// The resource that has a method of the vendor's own of this name, or why it cannot be called. `_` for the name of the resource
/// means the only one that has it.
pub fn require_method(linked: &Linked, name: &str, method: &str) -> Result<Resource, Error> {
    if name != "_" {
        let def = offered_by_vendor_name(linked, name)?;
        return require_own(linked, def, method, proxy_verbs).map(|()| def.resource);
    }
    let known = linked.access.method.resources.values().filter(|def| def.methods.offered.contains_key(method));
    let known: Vec<&ResourceDef> = known.collect();
    match known.as_slice() {
        [one] => Ok(one.resource),
        several => {
            let names: Vec<String> = several.iter().map(|def| format!("`/proxy/{}/{method}`", def.proxy_name)).collect();
            let word: String = method.chars().take(64).collect();
            let detail = match names.is_empty() {
                true => format!("No resource of this account has a method `{word}`; see `/capabilities`."),
                false => format!("Several resources have a method `{word}`: {}.", names.join(", ")),
            };
            Err(Error::new(Code::MethodNotSupported, detail).allow(""))
        }
    }
}

/// The same for `/unified/{model}/{resource}`.
pub fn require_unified_method(linked: &Linked, resource: Resource, method: &str) -> Result<(), Error> {
    require_own(linked, offered(linked, resource)?, method, verbs)
}

fn require_own(
    linked: &Linked,
    def: &ResourceDef,
    method: &str,
    verbs: fn(&LinkMethod, Resource) -> Vec<Verb>,
) -> Result<(), Error> {
    if def.methods.offered.contains_key(method) {
        return Ok(());
    }
    let (connector, link) = (&linked.access.connector, &linked.access.method);
    let word: String = method.chars().take(64).collect();
    let has_it = |other: &&std::sync::Arc<LinkMethod>| {
        other.resources.get(&def.resource).is_some_and(|def| def.methods.offered.contains_key(method))
    };
    let hint = connector.methods.iter().find(has_it).map(|other| format!(" An account linked by `{}` has it.", other.name));
    let known: Vec<String> = def.methods.offered.keys().map(|name| format!("`{name}`")).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let why =
        def.reason(method).map_or_else(|| format!(" Its methods of the vendor's own: {known}."), |reason| format!(" {reason}"));
    let (title, plural) = (&connector.file.title, def.resource.plural());
    let detail =
        format!("{title}, linked by `{}`, offers no method `{word}` of `{plural}`.{why}{}", link.name, hint.unwrap_or_default());
    Err(Error::new(Code::MethodNotSupported, detail).allow(allowed(&verbs(link, def.resource), false)))
}

/// The methods that `/proxy/{name}` (the whole list) or a path behind it answers.
pub fn allowed_at_proxy(linked: &Linked, name: &str, behind: Option<&str>) -> Result<String, Error> {
    let def = offered_by_vendor_name(linked, name)?;
    let mut allow = allowed(&proxy_verbs(&linked.access.method, def.resource), behind.is_none());
    if behind.is_some_and(|method| def.methods.offered.contains_key(method)) {
        allow = if allow.is_empty() { "POST".to_owned() } else { format!("{allow}, POST") };
    }
    Ok(allow)
}

/// The methods that `/unified/{model}/{resource}` (the whole list) or a record behind it answers for this account.
pub fn allowed_at(linked: &Linked, resource: Resource, of_list: bool) -> String {
    allowed(&verbs(&linked.access.method, resource), of_list)
}

/// The methods that the path answers for this resource: that of the whole list, or that of one record.
fn allowed(offered: &[Verb], of_list: bool) -> String {
    let methods: Vec<&str> = offered
        .iter()
        .filter_map(|offered| match offered {
            Verb::List if of_list => Some(READ_ONLY),
            Verb::Get if !of_list => Some(READ_ONLY),
            Verb::Other("create") if of_list => Some("POST"),
            Verb::Other("update") if !of_list => Some("PATCH"),
            Verb::Other("delete") if !of_list => Some("DELETE"),
            _ => None,
        })
        .collect();
    methods.join(", ")
}
