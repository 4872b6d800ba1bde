//! What a vendor writes back of a credential is taken out of everything that is shown, in every form it was sent in.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use memchr::memmem;

use super::{Access, query};
use crate::model::Secret;

/// Shorter texts would tear holes into answers that hold nothing secret.
const SHORTEST: usize = 4;
/// What stands in their place; shorter than they are.
const MARK: &[u8] = b"***";

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
            self.add(&escaped(json, |code| format!("\\u{code:04X}")));
            self.add(&escaped(json, |code| format!("\\u{code:04x}")));
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

/// What encoders that mind HTML make of JSON text.
fn escaped(json: &str, escape: impl Fn(u32) -> String) -> String {
    let is_escaped = |character: &char| matches!(character, '<' | '>' | '&' | '\'' | '+' | '`');
    json.chars().map(|character| if is_escaped(&character) { escape(character.into()) } else { character.into() }).collect()
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
        let looked_at = &text[..text.len().min(most.saturating_add(longest))];
        // Marked in one text, copied once: each form is looked for in time that grows with the text alone, whatever stands in it,
        // and forms that lie across each other are hidden both.
        let mut hidden = vec![false; looked_at.len()];
        for form in &self.0 {
            let form = form.expose().as_bytes();
            memmem::find_iter(looked_at, form).for_each(|at| hidden[at..at + form.len()].fill(true));
        }
        let kept = looked_at.len().min(most);
        let (mut start, mut at) = (Vec::with_capacity(kept), 0);
        for run in hidden[..kept].chunk_by(|a, b| a == b) {
            start.extend_from_slice(if run[0] { MARK } else { &looked_at[at..at + run.len()] });
            at += run.len();
        }
        start.truncate(most);
        start
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Of these and nothing else.
    fn of(forms: &[&str]) -> Redaction {
        let mut forms = forms.to_vec();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Redaction(forms.into_iter().map(|form| Secret::new(form.to_owned())).collect())
    }

    fn shown(forms: &[&str], text: &str, most: usize) -> String {
        String::from_utf8(of(forms).start(text.as_bytes(), most)).unwrap()
    }

    #[test]
    fn what_encoders_write_otherwise_is_found() {
        let mut forms = Forms(Vec::new());
        forms.add_secret(&Secret::new("ab+c/d<e&f".to_owned()));
        let redaction = Redaction(forms.0);
        for echo in
            ["ab+c/d<e&f", r"ab\u002Bc/d\u003Ce\u0026f", r"ab\u002bc/d\u003ce\u0026f", r"ab+c\/d<e&f", "ab%2Bc%2Fd%3Ce%26f"]
        {
            let shown = String::from_utf8(redaction.start(format!("<{echo}>").as_bytes(), 1000)).unwrap();
            assert_eq!(shown, "<***>", "{echo}");
        }
    }

    #[test]
    fn nothing_of_a_form_is_left() {
        let secrets = ["alpha-beta", "beta-gamma", "beta", "1234"];
        for (text, rest) in [
            ("no secret", "no secret"),
            ("1234", "***"),
            ("<1234><beta>", "<***><***>"),
            ("<alpha-beta-gamma>", "<***>"),
            ("<alpha-beta,beta-gamma>", "<***,***>"),
            ("<12341234>", "<***>"),
            ("<al1234pha-beta>", "<al***pha-***>"),
            ("", ""),
        ] {
            assert_eq!(shown(&secrets, text, text.len()), rest, "{text}");
        }
        assert_eq!(shown(&[], "1234", 9), "1234");
    }

    #[test]
    fn what_begins_before_the_cut_is_hidden_whole() {
        let text = "0123456789-secret-0123456789";
        for most in 0..=text.len() {
            let start = shown(&["-secret-"], text, most);
            let whole = ["0123456789", "***", "0123456789"].concat();
            assert!(start.len() <= most && whole.starts_with(&start), "{most}: {start}");
            assert_eq!(start.contains('*'), most > 10, "{most}: {start}");
        }
    }

    #[test]
    fn echoes_without_end_take_time_by_their_length_alone() {
        let (long, echo) = (format!("{}b", "a".repeat(8_000)), "a".repeat(2 << 20));
        for (forms, text, rest) in
            [(&["aaaa", "aaaaaaaa"][..], echo.as_str(), "***".to_owned()), (&[long.as_str()], &echo, echo.clone())]
        {
            let began = Instant::now();
            assert!(shown(forms, text, text.len()) == rest);
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        }
    }
}
