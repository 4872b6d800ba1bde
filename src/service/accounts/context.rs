//! What a caller may keep beside a link method's fields: labels of its own, in the clear. A misspelt field or a secret under
//! another name must not be taken for one.

use serde_json::{Map, Value};
use url::Url;

use super::{credential::field_problems, field_text};
use crate::{
    connector::{FieldProblem, LinkMethod},
    error::Result as Outcome,
    model::distance,
};

/// Words that a name of a secret has or ends with.
const SECRETS: &[&str] = &[
    "key",
    "keys",
    "token",
    "tokens",
    "secret",
    "secrets",
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "passcode",
    "credential",
    "credentials",
];
/// The same, but too short to be looked for at the end of other words.
const SHORT_SECRETS: &[&str] = &["auth", "authorization", "bearer", "jwt", "otp", "pass", "pin", "pwd", "totp"];

/// Every name in `context` that is no field of the method and no harmless label either.
pub(super) fn check_labels(method: &LinkMethod, context: &Map<String, Value>) -> Result<(), Vec<FieldProblem>> {
    let labels = context.iter().filter(|(name, value)| method.field(name).is_none() && !value.is_null());
    let problems: Vec<_> = labels.filter_map(|(name, value)| check(method, name, value)).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// The same before it is known by which of the methods somebody links: a field's value must be right for one of those that have
/// it, and what is no field of any must be a harmless label beside all.
pub(in crate::service) fn check_preset(
    methods: &[&LinkMethod],
    context: &Map<String, Value>,
    loose: &dyn Fn(&Url) -> bool,
) -> Outcome<()> {
    for (name, value) in context.iter().filter(|(_, value)| !value.is_null()) {
        let of_field: Vec<_> = methods.iter().filter(|method| method.field(name).is_some()).collect();
        let problem = match of_field.is_empty() {
            true => methods.iter().find_map(|method| check(method, name, value)),
            false => {
                let text = field_text(name, value.clone())?.unwrap_or_default();
                let problems: Option<Vec<_>> = of_field.iter().map(|method| method.check_field(name, &text, loose)).collect();
                problems.and_then(|problems| problems.into_iter().next())
            }
        };
        if let Some(problem) = problem {
            return Err(field_problems(vec![problem]));
        }
    }
    Ok(())
}

fn check(method: &LinkMethod, name: &str, value: &Value) -> Option<FieldProblem> {
    let problem = |field: String, message: String| Some(FieldProblem { field, message });
    if let Some(near) = near_field(method, name) {
        return problem(shown(name), format!("is no field of `{}`; did you mean `{near}`?", method.name));
    }
    let secret = secret_within(name, value)?;
    let fields: Vec<_> = method.fields.iter().map(|field| field.name.as_str()).collect();
    let message = format!(
        "looks like a secret, but is no field of `{}`, and what is no field is kept readable. Its fields: {}.",
        method.name,
        fields.join(", ")
    );
    problem(secret, message)
}

/// The field that a name equals but for case and punctuation, or but for a slip of the finger or two.
fn near_field<'m>(method: &'m LinkMethod, name: &str) -> Option<&'m str> {
    let given = plain(name);
    let near = |field: &str| {
        let field = plain(field);
        distance(&given, &field) <= (field.len() / 4).max(1)
    };
    method.fields.iter().map(|field| field.name.as_str()).find(|field| near(field))
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The first name of a secret, at any depth, with the names above it.
fn secret_within(name: &str, value: &Value) -> Option<String> {
    if names_secret(name) && !value.is_null() {
        return Some(shown(name));
    }
    let inner = match value {
        Value::Object(members) => members.iter().find_map(|(inner, value)| secret_within(inner, value)),
        Value::Array(items) => items.iter().find_map(|item| secret_within("", item)),
        _ => None,
    }?;
    Some(if name.is_empty() { inner } else { format!("{}.{inner}", shown(name)) })
}

fn names_secret(name: &str) -> bool {
    words(name).iter().any(|word| SHORT_SECRETS.contains(&word.as_str()) || SECRETS.iter().any(|secret| word.ends_with(secret)))
}

/// `apiKey`, `api-key` and `API_KEY` are two words each.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase();
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words
}

fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_told_from_labels() {
        for name in [
            "apikey",
            "apiKey",
            "API_KEY",
            "x-api-key",
            "webhook_secret",
            "clientSecret",
            "Password",
            "refresh_token",
            "pin",
            "user.pwd",
            "credentials",
            "signingkeys",
            "passphrase",
            "Authorization",
        ] {
            assert!(names_secret(name), "{name}");
        }
        for name in ["shipping", "opinion", "crm_id", "plan", "keyboard", "passenger", "author", "tier", "notes", "", "ключ"]
        {
            assert!(!names_secret(name), "{name}");
        }
    }

    #[test]
    fn a_secret_is_found_at_any_depth() {
        let within = |text: &str| secret_within("crm", &serde_json::from_str(text).unwrap());
        assert_eq!(within(r#"{"links": [{"id": 1}, {"oauth": {"token": "x"}}]}"#).unwrap(), "crm.links.oauth.token");
        assert_eq!(within(r#"{"links": [{"id": 1}], "token": null}"#), None);
    }
}
