//! What a vendor writes back of a credential is taken out of everything that is shown, in every form it was sent in.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use super::{Access, query};
use crate::model::Secret;

/// Shorter texts would tear holes into answers that hold nothing secret.
const SHORTEST: usize = 4;

/// The texts that stand for one account's credential, the longest first.
pub(super) struct Redaction(Vec<Secret>);

/// The same while they are gathered.
struct Forms(Vec<Secret>);

impl Forms {
    fn add(&mut self, text: &str) {
        if text.len() >= SHORTEST {
            self.0.push(Secret::new(text.to_owned()));
        }
    }

    fn add_encoded(&mut self, text: &str) {
        self.add(&STANDARD.encode(text));
        self.add(STANDARD.encode(text).trim_end_matches('='));
        self.add(&URL_SAFE_NO_PAD.encode(text));
    }

    fn add_secret(&mut self, secret: &Secret) {
        let text = secret.expose();
        self.add(text);
        self.add(&query::encode(text));
        self.add(&form_encoded(text));
        self.add_encoded(text);
        if let Ok(json) = serde_json::to_string(text) {
            let json = json.trim_matches('"');
            self.add(json);
            self.add(&json.replace('/', "\\/"));
        }
    }

    fn add_all(&mut self, access: &Access) {
        access.secrets.values().for_each(|secret| self.add_secret(secret));
        for (_, value) in access.headers.iter().filter(|(_, value)| value.is_sensitive()) {
            if let Ok(text) = value.to_str() {
                let text = text.rsplit(' ').next().unwrap_or(text);
                self.add(text);
                self.add(&text.replace('/', "\\/"));
            }
        }
        for (_, value) in &access.query {
            self.add(value.expose());
        }
        if let Some(Ok((id, Some(secret)))) = access.method.token.as_ref().map(|request| access.client(request)) {
            self.add_encoded(&format!("{}:{}", form_encoded(id.expose()), form_encoded(secret.expose())));
        }
    }
}

fn form_encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

impl Redaction {
    /// Of everything the account sends or keeps secret, and was renewed to meanwhile.
    pub(super) fn of(access: &Access) -> Self {
        Self::with(access, &[])
    }

    /// The same and of these, which were sent beside it.
    pub(super) fn with(access: &Access, sent: &[Secret]) -> Self {
        let mut forms = Forms(Vec::new());
        sent.iter().for_each(|secret| forms.add_secret(secret));
        access.successors().for_each(|access| forms.add_all(access));
        let mut forms = forms.0;
        forms.sort_by_key(|form| std::cmp::Reverse(form.expose().len()));
        forms.dedup_by(|a, b| a.expose() == b.expose());
        Self(forms)
    }

    /// Of nothing.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// The first bytes of a text, at most `most`, without the credential. What begins within them is looked at whole.
    pub(super) fn start(&self, text: &[u8], most: usize) -> Vec<u8> {
        let longest = self.0.first().map_or(0, |form| form.expose().len());
        let looked_at = text.len().min(most + longest);
        let mut start = text[..looked_at].to_vec();
        for form in &self.0 {
            replace(&mut start, form.expose().as_bytes());
        }
        // What moved up from beyond `most` may be the front of a form that was cut.
        let gone = looked_at - start.len();
        start.truncate(most.saturating_sub(gone));
        start
    }
}

fn replace(text: &mut Vec<u8>, needle: &[u8]) {
    let mut from = 0;
    while let Some(at) = text[from..].windows(needle.len()).position(|window| window == needle) {
        let at = from + at;
        text.splice(at..at + needle.len(), *b"***");
        from = at + 3;
    }
}
