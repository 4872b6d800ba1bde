//! What fields and resources are called on a page, and what a browser can check of a field while it is typed.

use super::escape;
use crate::{
    connector::{FieldFile, FieldKind, LinkMethod},
    model::Resource,
};

/// What the linked account lets be read, in words.
pub(super) fn resources(method: &LinkMethod) -> Vec<&'static str> {
    let offered =
        |resource: &&Resource| method.resources.get(*resource).is_some_and(|def| def.none.is_none() && def.list.is_some());
    Resource::ALL.iter().filter(offered).map(|resource| name(*resource)).collect()
}

fn name(resource: Resource) -> &'static str {
    match resource {
        Resource::User => "users",
        Resource::Group => "groups",
        Resource::GroupMember => "members of groups",
        Resource::Role => "roles",
        Resource::Organization => "organizations",
        Resource::Workspace => "workspaces",
        Resource::Me => "the user of this credential",
        Resource::RoleAssignment => "who holds which role",
        Resource::License => "licences",
        Resource::Activity => "events",
    }
}

/// As a sentence among others, whoever wrote it: vendors often leave out its capital letter or its full stop.
pub(super) fn sentence(text: &str) -> String {
    let text = text.trim();
    let word = text.split(' ').next().unwrap_or_default().trim_end_matches(',');
    let mut letters = text.chars();
    let mut sentence = match letters.next().filter(|_| word.chars().all(char::is_lowercase)) {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => text.to_owned(),
    };
    if !sentence.trim_end_matches(['"', '”', '’', '\'', ')']).ends_with(['.', '!', '?', '…']) && !sentence.is_empty() {
        sentence.push('.');
    }
    sentence
}

/// Only for a server of the customer's own; filled in by few.
pub(super) fn is_about_trust(field: &FieldFile) -> bool {
    matches!(field.kind, FieldKind::Certificates | FieldKind::Fingerprint)
}

/// The attributes of a field's input: what it takes, and in which words a browser refuses anything else.
pub(super) fn attributes(field: &FieldFile) -> String {
    let (kind, pattern, takes) = match field.kind {
        FieldKind::Secret => ("password", None, ""),
        FieldKind::Origin | FieldKind::BaseUrl | FieldKind::Endpoint => {
            ("url", Some(r"\s*[Hh][Tt][Tt][Pp][Ss]?:\/\/[^\s@]+\s*"), "An address that begins with https://")
        }
        FieldKind::Integer => ("text\" inputmode=\"numeric", Some(r"\s*[0-9]+\s*"), "A whole number, digits only"),
        FieldKind::Uuid => (
            "text",
            Some(r"\s*\{?[0-9A-Fa-f]{8}\-?([0-9A-Fa-f]{4}\-?){3}[0-9A-Fa-f]{12}\}?\s*"),
            "A UUID, for example 4f2c0d2e-8a53-4d0e-9d61-7e0c0a11c0de",
        ),
        FieldKind::HeaderName => ("text", Some(r"\s*[A-Za-z0-9_.\-]+\s*"), "The name of a header, for example X-Api-Key"),
        FieldKind::Fingerprint => ("text", Some(r".*[0-9A-Fa-f:]{64,95}\s*"), "64 hexadecimal digits, with or without colons"),
        FieldKind::Text | FieldKind::Choice | FieldKind::Certificates | FieldKind::PrivateKey => ("text", None, ""),
    };
    let mut attributes = format!(" type=\"{kind}\" autocomplete=\"off\" autocapitalize=\"none\" spellcheck=\"false\"");
    if let Some(pattern) = pattern {
        attributes.push_str(&format!(" pattern=\"{}\" data-takes=\"{}\"", escape(pattern), escape(takes)));
    }
    if let Some(length) = field.length {
        attributes.push_str(&format!(" minlength=\"{length}\" data-takes=\"Exactly {length} characters\""));
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn whatever_a_vendor_says_is_a_sentence() {
        for (said, shown) in [
            ("invalid api key", "Invalid api key."),
            ("Already one.", "Already one."),
            ("why not?", "Why not?"),
            ("no, never (really)", "No, never (really)."),
            ("no (really!)", "No (really!)"),
            ("base_url: gives no address", "base_url: gives no address."),
            ("iPhone is lost", "iPhone is lost."),
            ("übel", "Übel."),
            ("", ""),
        ] {
            assert_eq!(sentence(said), shown);
        }
    }
}
