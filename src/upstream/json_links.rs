//! Rewrites the links of a JSON body while it streams by. Everything but the texts at the declared paths stays as it is, byte
//! for byte, and nothing is kept but the text that is being read.

use std::{borrow::Cow, mem, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

use super::{
    Access, Failure,
    headers::{may_be_json, says_json},
    links::Place,
    passthrough::Cut,
};
use crate::connector::{LinkPath, LinkStep};

/// The longest link that is rewritten, as it is written.
const LONGEST: usize = 64 * 1024;

/// Headers that speak of the bytes of a body.
const OF_BYTES: [&str; 5] = ["content-length", "content-md5", "content-digest", "digest", "repr-digest"];

/// A JSON body on its way.
pub struct JsonLinks {
    origin: Option<Arc<str>>,
    access: Arc<Access>,
    /// Containers around the current byte, as deep as any path reads.
    frames: Vec<Frame>,
    /// Containers deeper than that.
    deeper: usize,
    text: Text,
}

/// A container, and which paths lead into it.
struct Frame {
    paths: Paths,
    /// The paths that lead to the member being read; those of an element follow from its index.
    child: Paths,
    /// `None` in an object.
    index: Option<usize>,
    /// A text is the name of a member.
    names: bool,
}

/// A set of declared paths, one bit for each.
type Paths = u64;

/// What of a text is kept while it is read.
enum Text {
    /// No text is being read.
    Outside,
    /// A text that nobody declared.
    Passing { escaped: bool },
    /// A name of a member, copied; too long to be a declared one when `None`.
    Name { escaped: bool, raw: Option<Vec<u8>> },
    /// A link, held back.
    Link { escaped: bool, raw: Vec<u8> },
}

/// Prepares the headers of an answer and gives the rewriter of its body; `None` where the body passes as it is. A body that
/// cannot be read although it was asked for plainly is an error: its links would lead clients past us.
pub fn rewriter(place: &Place<'_>, status: StatusCode, headers: &mut HeaderMap) -> Result<Option<Box<JsonLinks>>, Failure> {
    let is_whole = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT);
    if place.access.method.proxy.links.is_empty() || !is_whole || !may_be_json(headers) {
        return Ok(None);
    }
    let is_empty = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
    if is_empty {
        return Ok(None);
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        if !says_json(headers) {
            return Ok(None);
        }
        return Err(Failure::BadAnswer(
            "the answer is compressed, though it was asked for plainly because its links are read".into(),
        ));
    }
    forget_bytes(headers);
    Ok(Some(Box::new(JsonLinks::new(place))))
}

/// Takes out what a changed body makes untrue, before it or behind it.
pub fn forget_bytes(headers: &mut HeaderMap) {
    for name in OF_BYTES {
        headers.remove(name);
    }
}

impl JsonLinks {
    /// Before the first byte of an answer from this place; only absolute links are rewritten, so that its path is none of it.
    pub fn new(place: &Place<'_>) -> Self {
        let (origin, access) = (place.origin.cloned(), Arc::clone(place.access));
        Self { origin, access, frames: Vec::new(), deeper: 0, text: Text::Outside }
    }

    fn place(&self) -> Place<'_> {
        Place { origin: self.origin.as_ref(), access: &self.access, path: "" }
    }

    /// The next bytes as they go on; may be fewer or none while a link is held back.
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes, Cut> {
        let mut out = Vec::new();
        // Where in the chunk that begins which `out` does not hold yet.
        let mut from = 0;
        for (at, byte) in chunk.iter().copied().enumerate() {
            match &mut self.text {
                Text::Outside => {
                    if self.structure(byte) {
                        out.extend_from_slice(&chunk[from..at]);
                        from = at + 1;
                    }
                }
                Text::Passing { escaped } => {
                    if ends(escaped, byte) {
                        self.text = Text::Outside;
                    }
                }
                Text::Name { escaped, raw } => {
                    if ends(escaped, byte) {
                        let raw = raw.take();
                        self.text = Text::Outside;
                        self.named(raw.as_deref());
                    } else if let Some(raw) = raw {
                        raw.push(byte);
                        if raw.len() > LONGEST {
                            self.text = Text::Name { escaped: *escaped, raw: None };
                        }
                    }
                }
                Text::Link { escaped, raw } => {
                    raw.push(byte);
                    if ends(escaped, byte) {
                        let raw = mem::take(raw);
                        self.text = Text::Outside;
                        out.extend_from_slice(&self.moved(raw));
                    } else if raw.len() > LONGEST {
                        return Err(Cut::of("a link in the vendor's answer is too long"));
                    }
                    from = at + 1;
                }
            }
        }
        if from == 0 {
            return Ok(chunk);
        }
        out.extend_from_slice(&chunk[from..]);
        Ok(out.into())
    }

    /// What is left when the body ends within a link.
    pub fn end(&mut self) -> Bytes {
        match mem::replace(&mut self.text, Text::Outside) {
            Text::Link { raw, .. } => raw.into(),
            _ => Bytes::new(),
        }
    }

    /// A byte outside of texts; true where a link begins with it.
    fn structure(&mut self, byte: u8) -> bool {
        match byte {
            b'"' => return self.text_begins(),
            b'{' | b'[' => self.container_begins(byte == b'['),
            b'}' | b']' if self.deeper > 0 => self.deeper -= 1,
            b'}' | b']' => {
                self.frames.pop();
            }
            b',' if self.deeper == 0 => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.names = frame.index.is_none();
                    frame.index = frame.index.map(|index| index + 1);
                }
            }
            b':' if self.deeper == 0 => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.names = false;
                }
            }
            _ => {}
        }
        false
    }

    fn text_begins(&mut self) -> bool {
        let within = self.frames.last().filter(|_| self.deeper == 0);
        let is_name = within.is_some_and(|frame| frame.names);
        let is_link = within.is_some() && !is_name && self.ends_here(self.value_paths());
        self.text = match (is_name, is_link) {
            (true, _) => Text::Name { escaped: false, raw: Some(Vec::new()) },
            (_, true) => Text::Link { escaped: false, raw: vec![b'"'] },
            _ => Text::Passing { escaped: false },
        };
        is_link
    }

    fn container_begins(&mut self, is_list: bool) {
        let paths = if self.frames.is_empty() && self.deeper == 0 { Paths::MAX } else { self.value_paths() };
        // Nothing below can be a link.
        if self.deeper > 0 || paths == 0 {
            self.deeper += 1;
            return;
        }
        self.frames.push(Frame { paths, child: 0, index: is_list.then_some(0), names: !is_list });
    }

    /// The paths that lead to the value that begins here.
    fn value_paths(&self) -> Paths {
        let Some(frame) = self.frames.last() else { return 0 };
        match frame.index {
            None => frame.child,
            Some(index) => self.follow(frame.paths, |step| match step {
                LinkStep::Elements => true,
                LinkStep::Element(wanted) => *wanted == index,
                LinkStep::Member(_) => false,
            }),
        }
    }

    /// A member's name was read.
    fn named(&mut self, raw: Option<&[u8]>) {
        let Some(frame) = self.frames.last() else { return };
        let name = raw.and_then(plain);
        let child = self.follow(frame.paths, |step| match step {
            LinkStep::Member(wanted) => name.as_deref() == Some(wanted.as_str()),
            LinkStep::Elements | LinkStep::Element(_) => false,
        });
        if let Some(frame) = self.frames.last_mut() {
            frame.child = child;
        }
    }

    fn declared(&self) -> &[LinkPath] {
        &self.access.method.proxy.links
    }

    /// Those of the paths whose step in the innermost container is as it must be.
    fn follow(&self, paths: Paths, fits: impl Fn(&LinkStep) -> bool) -> Paths {
        let depth = self.frames.len() - 1;
        let each = self.declared().iter().enumerate().filter(|(at, _)| paths & (1 << at) != 0);
        let fit = each.filter(|(_, path)| path.0.get(depth).is_some_and(&fits));
        fit.fold(0, |all, (at, _)| all | 1 << at)
    }

    /// Whether one of the paths ends at a value of the innermost container.
    fn ends_here(&self, paths: Paths) -> bool {
        let depth = self.frames.len();
        self.declared().iter().enumerate().any(|(at, path)| paths & (1 << at) != 0 && path.0.len() == depth)
    }

    /// A link with its quotes, rewritten or as it was.
    fn moved(&self, raw: Vec<u8>) -> Vec<u8> {
        let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
        let moved = match plain(inner) {
            Some(text) => self.place().body_link(&text),
            // Another reader may make an address of it.
            None => Some(self.place().nowhere()),
        };
        moved.and_then(|text| serde_json::to_vec(&text).ok()).unwrap_or(raw)
    }
}

/// Whether a byte ends the text it stands in.
fn ends(escaped: &mut bool, byte: u8) -> bool {
    let was_escaped = mem::replace(escaped, false);
    if was_escaped {
        return false;
    }
    *escaped = byte == b'\\';
    byte == b'"'
}

/// The text that these bytes between quotes mean; `None` when they mean none.
fn plain(raw: &[u8]) -> Option<Cow<'_, str>> {
    if !raw.contains(&b'\\') {
        return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
    }
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).ok().map(Cow::Owned)
}
