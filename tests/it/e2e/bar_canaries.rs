//! Planted secrets, and the search for them in every form they could have left in.

use std::path::Path;

use base64::{Engine, engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD}};

/// One planted secret in all its forms.
pub struct Canary {
    pub name: &'static str,
    pub text: String,
    forms: Vec<(&'static str, String)>,
}

impl Canary {
    pub fn new(name: &'static str, text: impl Into<String>) -> Canary {
        let text = text.into();
        let bytes = text.as_bytes();
        assert!(bytes.len() >= 12, "{name} is too short to be looked for");
        let mut forms = vec![("raw", text.clone()), ("reversed", text.chars().rev().collect())];
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        forms.push(("HEX", hex.to_uppercase()));
        forms.push(("hex", hex));
        for offset in 0..3 {
            // Within a longer text the first and last digits depend on the neighbours.
            let mut padded = vec![b'x'; offset];
            padded.extend_from_slice(bytes);
            let whole = padded.len() / 3 * 4;
            let from = [0, 2, 3][offset];
            forms.push(("base64", STANDARD_NO_PAD.encode(&padded)[from..whole].to_owned()));
            forms.push(("base64url", URL_SAFE_NO_PAD.encode(&padded)[from..whole].to_owned()));
        }
        let percent = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string();
        forms.push(("percent", percent.to_lowercase()));
        forms.push(("percent", percent));
        forms.push(("form", url::form_urlencoded::byte_serialize(bytes).collect()));
        let json = serde_json::to_string(&text).unwrap();
        forms.push(("json", json[1..json.len() - 1].to_owned()));
            forms.sort_by(|a, b| a.1.cmp(&b.1));
        forms.dedup_by(|a, b| a.1 == b.1);
        Canary { name, text, forms }
    }

}

/// Several planted secrets, looked for together.
pub struct Canaries {
    list: Vec<Canary>,
    any: regex::bytes::Regex,
}

impl Canaries {
    pub fn new(list: Vec<Canary>) -> Canaries {
        let forms = list.iter().flat_map(|canary| &canary.forms).map(|(_, form)| regex::escape(form));
        let any = regex::bytes::RegexBuilder::new(&forms.collect::<Vec<_>>().join("|")).size_limit(1 << 28).build().unwrap();
        Canaries { list, any }
    }

    /// Every hit, once for each secret and form, with where it was.
    pub fn hits(&self, place: &str, content: &[u8]) -> Vec<String> {
        let mut hits = std::collections::BTreeSet::new();
        for hit in self.any.find_iter(content) {
            for canary in &self.list {
                for (name, _) in canary.forms.iter().filter(|(_, form)| form.as_bytes() == hit.as_bytes()) {
                    let around = &content[hit.start().saturating_sub(80)..(hit.end() + 20).min(content.len())];
                    let around = String::from_utf8_lossy(around).into_owned();
                    if hits.len() < 10 {
                        hits.insert(format!("{place}: {} ({name}): {around}", canary.name));
                    }
                }
            }
        }
        hits.into_iter().collect()
    }
}

/// Whether the bytes occur.
pub fn occurs(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}

/// Every file below a folder, with its content.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default())),
        }
    }
    found
}

#[test]
fn the_search_finds_every_form() {
    let text = "cnry/7Hq+2\"x\\Zk=9";
    let canaries = Canaries::new(vec![Canary::new("one", text)]);
    assert!(canaries.hits("", b"nothing of the kind").is_empty());
    let encode = |prefix: &str| STANDARD_NO_PAD.encode(format!("{prefix}{text}:and more"));
    let forms = [
        text.to_owned(),
        text.chars().rev().collect(),
        encode(""),
        encode("a"),
        encode("ab"),
        encode("abc"),
        serde_json::to_string(text).unwrap(),
        url::form_urlencoded::byte_serialize(text.as_bytes()).collect(),
        text.bytes().map(|b| format!("{b:02x}")).collect(),
    ];
    for content in forms {
        assert_eq!(canaries.hits("", format!("before {content} after").as_bytes()).len(), 1, "{content}");
    }
}
