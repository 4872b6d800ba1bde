//! The ring of root keys: `{"version": 1, "primary": "k1", "keys": [{"id", "created_at", "key"}]}`, mode 0600.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    cipher::{KEY_LEN, KeyBytes},
    private_file::{FileStamp, MAX_FILE, MISSING, read_private},
};
use crate::model::Secret;

/// Root keys by id; the primary writes, all read.
pub struct KeyRing {
    primary: (String, KeyBytes),
    others: BTreeMap<String, KeyBytes>,
    made: BTreeMap<String, jiff::Timestamp>,
}

/// Why a ring cannot be used; start-up ends with its text.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// Missing, unreadable, wrong form, wrong length, sample key, duplicate id …
    #[error("{0}")]
    Unusable(String),
}

/// The file, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RingFile {
    version: u64,
    pub(super) primary: String,
    pub(super) keys: Vec<KeyFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyFile {
    pub(super) id: String,
    created_at: jiff::Timestamp,
    key: Secret,
}

impl KeyRing {
    /// Reads a ring from a file and refuses what is not safe.
    pub fn load(path: &Path) -> Result<KeyRing, RingError> {
        read(path).and_then(|content| parse(&content)).map_err(|text| unusable(path, &text))
    }

    /// Makes a new ring with one random key and writes it, mode 0600, never over an existing file.
    pub fn create(path: &Path, now: jiff::Timestamp) -> Result<KeyRing, RingError> {
        let file = RingFile { version: 1, primary: "k1".to_owned(), keys: vec![KeyFile::random("k1".to_owned(), now)] };
        let text = file.text();
        write_new(path, text.as_bytes()).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => unusable(path, "exists already and is never overwritten"),
            _ => unusable(path, &format!("cannot be written: {error}")),
        })?;
        parse(text.as_bytes()).map_err(|text| unusable(path, &text))
    }

    /// The ring of the file if the file is not what it was at `last`, which is brought up to date. Each state of a file is
    /// reported once, a bad one as its error; the caller keeps the ring it has. Called every second.
    pub fn reload_if_changed(path: &Path, last: &mut FileStamp) -> Result<Option<KeyRing>, RingError> {
        let Some(read) = last.if_changed(read(path)) else { return Ok(None) };
        read.and_then(|content| parse(&content)).map(Some).map_err(|text| unusable(path, &text))
    }

    /// The id of the key that writes.
    pub fn primary_id(&self) -> &str {
        &self.primary.0
    }

    /// Every key's id, the primary first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.primary_id()).chain(self.others.keys().map(String::as_str))
    }

    /// When the key of this id was made, as the file says.
    pub fn created_at(&self, id: &str) -> Option<jiff::Timestamp> {
        self.made.get(id).copied()
    }

    /// The key that writes, with its id.
    pub(super) fn primary(&self) -> (&str, &KeyBytes) {
        (&self.primary.0, &self.primary.1)
    }

    /// The key of this id.
    pub(super) fn key(&self, id: &str) -> Option<&KeyBytes> {
        if id == self.primary.0 { Some(&self.primary.1) } else { self.others.get(id) }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("ids", &self.ids().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// Whether a text may name a key: stored beside ciphertexts and shown to operators, so short and plain.
pub(super) fn is_key_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

impl RingFile {
    /// Reads the form; whether it is a ring that can be used is for [`parse`] to say.
    pub(super) fn read(content: &[u8]) -> Result<RingFile, String> {
        serde_json::from_slice(content).map_err(|error| explain(content, &error))
    }

    /// The file's text, in memory that is wiped.
    pub(super) fn text(&self) -> Zeroizing<String> {
        // Sized once: growing would leave copies of the keys behind.
        let length =
            128 + self.primary.len() + self.keys.iter().map(|key| 128 + key.id.len() + key.key.expose().len()).sum::<usize>();
        let mut text = Zeroizing::new(String::with_capacity(length));
        let mut write = |part: fmt::Arguments<'_>| text.write_fmt(part).is_ok();
        write(format_args!("{{\n  \"version\": 1,\n  \"primary\": \"{}\",\n  \"keys\": [\n", self.primary));
        for (at, KeyFile { id, created_at, key }) in self.keys.iter().enumerate() {
            let end = if at + 1 < self.keys.len() { "," } else { "" };
            let key = key.expose();
            write(format_args!("    {{ \"id\": \"{id}\", \"created_at\": \"{created_at}\", \"key\": \"{key}\" }}{end}\n"));
        }
        write(format_args!("  ]\n}}\n"));
        text
    }
}

impl KeyFile {
    /// A new random key of this id.
    pub(super) fn random(id: String, now: jiff::Timestamp) -> KeyFile {
        loop {
            let key = KeyBytes::random();
            let text = Secret::new(STANDARD.encode(key.bytes()));
            if sample(key.bytes(), text.expose()).is_none() {
                let created_at = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
                return KeyFile { id, created_at, key: text };
            }
        }
    }
}

pub(super) fn unusable(path: &Path, text: &str) -> RingError {
    RingError::Unusable(format!("the key file {} {text}", path.display()))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    read_private(path).map_err(hinted)
}

/// Whoever lacks the file can do one thing about it.
pub(super) fn hinted(why: String) -> String {
    if why == MISSING { format!("{why}; give the file this store was made with") } else { why }
}

/// The ring of a file's content, if it is one that can be used.
pub(super) fn parse(content: &[u8]) -> Result<KeyRing, String> {
    let file = RingFile::read(content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(format!("would be larger than {MAX_FILE} bytes"));
    }
    if file.version != 1 {
        return Err(format!("has version {}; this program reads version 1", file.version));
    }
    if file.keys.is_empty() {
        return Err("has no keys; it needs at least one".to_owned());
    }
    let (mut keys, mut made) = (BTreeMap::new(), BTreeMap::new());
    for entry in &file.keys {
        if !is_key_id(&entry.id) {
            return Err("has a key whose id is not 1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `-`".to_owned());
        }
        let key = decode(entry).map_err(|text| format!("has a key `{}` {text}", entry.id))?;
        made.insert(entry.id.clone(), entry.created_at);
        if keys.insert(entry.id.clone(), key).is_some() {
            return Err(format!("has the key id `{}` twice", entry.id));
        }
    }
    let primary = keys.remove_entry(&file.primary).ok_or_else(|| {
        let ids: Vec<_> = file.keys.iter().map(|k| k.id.as_str()).collect();
        format!("names a primary key it does not have; its keys are: {}", ids.join(", "))
    })?;
    Ok(KeyRing { primary, others: keys, made })
}

/// Says what is wrong with the form, never with the content's own words: they could be a key.
fn explain(content: &[u8], error: &serde_json::Error) -> String {
    if content.iter().all(u8::is_ascii_whitespace) {
        return "is empty".to_owned();
    }
    let form = r#"{"version": 1, "primary": "k1", "keys": [{"id": "k1", "created_at": "…", "key": "…"}]}"#;
    match error.classify() {
        serde_json::error::Category::Data => {
            format!("is JSON, but not a key ring (line {}); its form is {form}", error.line())
        }
        _ => format!("is not JSON (line {}); its form is {form}", error.line()),
    }
}

fn decode(entry: &KeyFile) -> Result<KeyBytes, String> {
    let text = entry.key.expose();
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    STANDARD.decode_vec(text, &mut bytes).map_err(|_| "that is not base64".to_owned())?;
    let key = KeyBytes::copied(&bytes).ok_or_else(|| format!("of {} bytes; a key has {KEY_LEN}", bytes.len()))?;
    match sample(key.bytes(), text) {
        Some(what) => Err(format!("that {what}; make one with `head -c 32 /dev/urandom | base64`")),
        None => Ok(key),
    }
}

/// Why a key is not a random one; the chance of a random key being called so is below one in a hundred million.
fn sample(key: &[u8; KEY_LEN], text: &str) -> Option<&'static str> {
    const WORDS: [&str; 6] = ["changeme", "replaceme", "example", "password", "01234567", "abcdefgh"];
    let text = Zeroizing::new(text.to_ascii_lowercase());
    let mut seen = [false; 256];
    key.iter().for_each(|b| seen[usize::from(*b)] = true);
    let step = key[1].wrapping_sub(key[0]);
    if key.iter().all(|b| *b == key[0]) {
        Some("is the same byte over and over")
    } else if key.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == step) {
        Some("counts up or down")
    } else if key.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        Some("is text, not random bytes")
    } else if seen.iter().filter(|s| **s).count() < 14 {
        Some("repeats itself")
    } else if WORDS.iter().any(|word| text.contains(word)) {
        Some("is a well-known sample key")
    } else {
        None
    }
}

fn write_new(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text).and_then(|()| file.sync_all()).inspect_err(|_| {
        // Half a ring must not stand in the way of the next try.
        let _ = fs::remove_file(path);
    })?;
    File::open(folder_of(path))?.sync_all()
}

/// The folder a file lies in; a bare name lies in the working folder.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
