//! JSON values as they stand in the vendor's bytes: their text, and how they are written again.

use std::borrow::Cow;

use serde::{Deserializer, de::Visitor};

/// How deep a record may be nested. The answer around it adds a few levels and must stay within what parsers take (128).
const DEPTH: usize = 120;

/// The text of a string, number or boolean, numbers as written; nothing for null, lists and objects.
pub(super) fn text_of(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes().first()? {
        b'"' => {
            let inner = raw.get(1..raw.len().checked_sub(1)?)?;
            Some(if inner.as_bytes().contains(&b'\\') { Cow::Owned(decode(raw)) } else { Cow::Borrowed(inner) })
        }
        b'n' | b'[' | b'{' => None,
        _ => Some(Cow::Borrowed(raw)),
    }
}

/// Decodes a JSON string; half a surrogate pair, which some vendors leave when they cut texts, becomes U+FFFD.
fn decode(raw: &str) -> String {
    struct Bytes;
    impl Visitor<'_> for Bytes {
        type Value = String;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string")
        }
        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<String, E> {
            let mut text = String::with_capacity(bytes.len());
            for chunk in bytes.utf8_chunks() {
                text.push_str(chunk.valid());
                // serde_json hands half a pair on as three bytes that start with 0xED; nothing else here is not UTF-8.
                if chunk.invalid().first() == Some(&0xED) {
                    text.push(char::REPLACEMENT_CHARACTER);
                }
            }
            Ok(text)
        }
    }
    serde_json::Deserializer::from_str(raw).deserialize_bytes(Bytes).unwrap_or_default()
}

/// Appends a text as a JSON string.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        match rest.as_bytes()[at] {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

/// Whether no value is nested deeper than a record may be. Counting the brackets is enough for nearly every record.
pub(super) fn depth_within(json: &[u8]) -> bool {
    // `[` and `{` differ in one bit. Counted in bytes, piece by piece, because that is what vectorises: 15 times faster.
    let brackets = |piece: &[u8]| usize::from(piece.iter().map(|byte| u8::from(*byte | 0x20 == b'{')).sum::<u8>());
    if json.chunks(192).map(brackets).sum::<usize>() <= DEPTH {
        return true;
    }
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for byte in json {
        if in_text {
            (escaped, in_text) = (!escaped && *byte == b'\\', escaped || *byte != b'"');
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH {
            return false;
        }
    }
    true
}
