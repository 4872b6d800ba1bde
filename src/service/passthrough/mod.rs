//! The transparent proxy: what may pass, where it goes, what is held meanwhile.

pub mod arguments;
mod custom;
mod method_config;

use std::{cell::Cell, rc::Rc, sync::Arc};

use bytes::Bytes;

pub use custom::{CustomAsk, CustomReply};
pub(super) use custom::{not_confirmed, taken};

use super::{Linked, accounts::Accounts, cut_short, members::Members};
use crate::{
    connector::{Deny, PathPattern, Proxy, Words},
    error::{Code, Error, Result},
    model::Tasks,
    upstream::{Failure, Upstream, transport::keeper_commander::submitted_request_id},
};

/// The link field that limits an account to one company.
pub(super) const COMPANY: &str = "company_id";
/// Names the company a command shall run in; removed before the request goes on.
pub const COMPANY_HEADER: &str = "rollcall-company";

/// What the proxy rules need to see before a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing: stream it.
    Nothing,
    /// The whole body, at most so many bytes.
    Body(usize),
}

/// How far an exclusive call came.
#[derive(Clone, Copy)]
enum Reached {
    Nothing,
    Call,
    Answer,
}

/// The transparent proxy.
pub struct Passthrough {
    /// For 401s, which cast doubt on the account.
    pub accounts: Arc<Accounts>,
    /// For the service lock of exclusive transports.
    pub upstream: Arc<Upstream>,
    /// Runs what is left to do after an answer.
    pub tasks: Tasks,
}

impl Passthrough {
    /// Whether a call with this body is made while nobody else uses the service.
    pub fn is_exclusive(&self, linked: &Linked, body: &Bytes) -> bool {
        linked.access.method.proxy.exclusive && !body.is_empty()
    }

    /// Makes a call while nobody else uses the service, within the company of the account or, if that has none, the one the
    /// caller names. The call gives its value and the vendor's whole answer. It is finished even if the caller leaves,
    /// because it holds the service's lock and must give it back. A failure within is one of a call that had begun.
    pub async fn exclusively<T: 'static>(
        &self,
        linked: &Linked,
        asked: Option<&str>,
        call: impl Future<Output = Result<(T, Bytes), Failure>> + 'static,
    ) -> Result<std::result::Result<(T, Bytes), Failure>> {
        let company = company_within(linked, asked)?.map(str::to_owned);
        let reached = Rc::new(Cell::new(Reached::Nothing));
        let reach = Rc::clone(&reached);
        let queued = async move {
            reach.set(Reached::Call);
            let (head, body) = call.await?;
            reach.set(Reached::Answer);
            let id = submitted_request_id(&body);
            Ok(((head, body), id))
        };
        let (upstream, access, tasks) = (Arc::clone(&self.upstream), Arc::clone(&linked.access), self.tasks.clone());
        let work = async move {
            match upstream.exclusively(&access, company.as_deref(), Box::pin(queued)).await {
                Ok(around) => {
                    if let Some(tail) = around.tail {
                        tasks.spawn(tail);
                    }
                    Ok(Ok(around.value))
                }
                Err(failure) => match reached.get() {
                    Reached::Nothing => Err(failure),
                    Reached::Call => Ok(Err(failure)),
                    Reached::Answer => Ok(Err(Failure::Broken(failure.to_string()))),
                },
            }
        };
        Ok(self.tasks.finish_here(Box::pin(work)).await.ok_or_else(cut_short)??)
    }

    /// First look, by method and path: refuses what never passes and says whether the body must be read.
    pub fn admit(&self, linked: &Linked, method: &http::Method, raw_path: &str) -> Result<Look> {
        let proxy = &linked.access.method.proxy;
        if let Some(methods) = proxy.methods.as_ref().filter(|methods| !methods.contains(method)) {
            let allow = methods.iter().map(http::Method::as_str).collect::<Vec<_>>().join(", ");
            return Err(denied(&format!("The method {method} does not pass; allowed: {allow}.")));
        }
        if let Some(allow) = proxy.allow.as_ref().filter(|allow| !allow.iter().any(|pattern| pattern.matches_raw(raw_path))) {
            let known = allow.iter().map(PathPattern::text).collect::<Vec<_>>().join(", ");
            return Err(Error::new(Code::OutsideDirectoryLayer, format!("Only these paths pass: {known}.")));
        }
        if let Some(deny) = proxy.deny.iter().find(|deny| deny.body.is_empty() && deny.path.matches_decoded(raw_path)) {
            return Err(denied(deny.because.as_deref().unwrap_or("The connector refuses this path.")));
        }
        Ok(look(proxy, raw_path))
    }

    /// Second look, at a body that was read.
    pub fn admit_body(&self, linked: &Linked, raw_path: &str, headers: &http::HeaderMap, body: &Bytes) -> Result<()> {
        let proxy = &linked.access.method.proxy;
        if body.is_empty() {
            return Ok(());
        }
        if headers.contains_key(http::header::CONTENT_ENCODING) {
            return Err(
                Error::new(Code::InvalidBody, "A body that is looked at must not be compressed.").field("content-encoding")
            );
        }
        for deny in proxy.deny.iter().filter(|deny| !deny.body.is_empty() && deny.path.matches_decoded(raw_path)) {
            refuse_denied(deny, body)?;
        }
        match words_for(proxy, raw_path) {
            Some(words) => words.check(body),
            None => Ok(()),
        }
    }
}

/// The company of the account or, if that has none, the one the caller names.
fn company_within<'c>(linked: &'c Linked, asked: Option<&'c str>) -> Result<Option<&'c str>> {
    let own = linked.account.fields.get(COMPANY).map(String::as_str);
    match (own, asked) {
        (Some(own), Some(asked)) if own != asked => {
            let detail = format!("This account is linked for the company {own} alone.");
            Err(Error::new(Code::InvalidParameter, detail).field(COMPANY_HEADER))
        }
        _ => Ok(own.or(asked)),
    }
}

fn look(proxy: &Proxy, raw_path: &str) -> Look {
    let denied_by_body = proxy.deny.iter().any(|deny| !deny.body.is_empty() && deny.path.matches_decoded(raw_path));
    match words_for(proxy, raw_path) {
        Some(words) => Look::Body(words.max_body),
        None if denied_by_body => Look::Body(64 * 1024),
        None => Look::Nothing,
    }
}

fn words_for<'p>(proxy: &'p Proxy, raw_path: &str) -> Option<&'p Words> {
    proxy.words.as_ref().filter(|words| words.paths.iter().any(|pattern| pattern.matches_decoded(raw_path)))
}

fn refuse_denied(deny: &Deny, body: &Bytes) -> Result<()> {
    for (member, starts) in &deny.body {
        let text = read_member(body, member)?.unwrap_or_default();
        if text.trim_start().starts_with(starts.as_str()) {
            return Err(denied(deny.because.as_deref().unwrap_or("The connector refuses this call.")));
        }
    }
    Ok(())
}

fn denied(detail: &str) -> Error {
    Error::new(Code::DeniedByConnector, detail)
}

impl Words {
    /// The first word must be one of the allowed: plain letters, digits and dashes, nothing that a shell-like parser could
    /// read otherwise.
    fn check(&self, body: &Bytes) -> Result<()> {
        let outside = || {
            let detail = format!("Only these commands pass: {}.", self.allow.join(", "));
            Error::new(Code::OutsideDirectoryLayer, detail).field(&self.member)
        };
        let text = read_member(body, &self.member)?.ok_or_else(outside)?;
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        let ends_plainly = rest.is_empty() || rest.starts_with(' ');
        let is_one_line = !text.chars().any(char::is_control);
        if !(ends_plainly && is_one_line && self.allow.iter().any(|allowed| allowed == word)) {
            return Err(outside());
        }
        if self.deny_arguments.is_empty() { Ok(()) } else { self.check_arguments(rest) }
    }

    fn check_arguments(&self, text: &str) -> Result<()> {
        let refused = |detail: &str| denied(detail).field(&self.member);
        let plain = || {
            refused(
                "The command is not written plainly: it holds `${`, `&` before a letter or `#`, a backslash before a quote or a \
                 blank, a quote without its end, or an option with quotes or backslashes.",
            )
        };
        for argument in arguments::split(text).ok_or_else(plain)? {
            let Some(option) = argument.option().map_err(|arguments::NotPlain| plain())? else { continue };
            if self.deny_arguments.iter().any(|denied| denied.is_meant_by(option)) {
                let shown: String = option.chars().take(64).collect();
                return Err(refused(&format!("The option `{shown}` does not pass.")));
            }
        }
        Ok(())
    }
}

/// A text member of a JSON object. A body that is not one object, or names the member twice, is refused: two parsers could
/// read it differently.
fn read_member(body: &Bytes, member: &str) -> Result<Option<String>> {
    let read: Members<'_> = serde_json::from_slice(body)
        .map_err(|_| Error::new(Code::InvalidBody, "The body must be one JSON object.").field(member))?;
    let mut found = read.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case(member));
    let Some((name, value)) = found.next() else { return Ok(None) };
    if found.next().is_some() || name != member {
        return Err(Error::new(Code::InvalidBody, format!("The body must name `{member}` once.")).field(member));
    }
    match serde_json::from_str(value.get()) {
        Ok(serde_json::Value::String(text)) => Ok(Some(text)),
        _ => Err(Error::new(Code::InvalidBody, format!("`{member}` must be a text.")).field(member)),
    }
}

/// A JSON object without some of its members; nothing when none is left. Values stay as they were written.
pub(super) fn raw_without(body: &Bytes, names: &[&str]) -> Result<Bytes> {
    let object = serde_json::from_slice::<Members<'_>>(body);
    without(&object.map_err(|_| Error::new(Code::InvalidBody, "The body must be one JSON object."))?, names)
}

fn without(object: &Members<'_>, names: &[&str]) -> Result<Bytes> {
    let kept = object.without(names);
    if kept.0.is_empty() {
        return Ok(Bytes::new());
    }
    serde_json::to_vec(&kept).map(Bytes::from).map_err(Error::internal)
}

impl PathPattern {
    /// As written.
    pub fn text(&self) -> String {
        format!("/{}", self.0.join("/"))
    }

    /// Matches the path exactly as it came: an encoded spelling does not match, so allow-lists stay tight.
    pub fn matches_raw(&self, raw_path: &str) -> bool {
        self.matches(&raw_path.trim_start_matches('/').split('/').collect::<Vec<_>>())
    }

    /// Matches the decoded path, whatever the case: a refusal cannot be escaped by another spelling.
    pub fn matches_decoded(&self, raw_path: &str) -> bool {
        let lower = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().to_lowercase();
        let segments: Vec<String> = raw_path.split('/').filter(|s| !s.is_empty()).map(lower).collect();
        let pattern = PathPattern(self.0.iter().map(|s| s.to_lowercase()).collect());
        pattern.matches(&segments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn matches(&self, segments: &[&str]) -> bool {
        match self.0.split_last() {
            Some((last, fixed)) if last == "**" => {
                segments.len() >= fixed.len()
                    && fixed.iter().zip(segments).all(|(pattern, segment)| pattern == "*" || pattern == segment)
            }
            _ => {
                self.0.len() == segments.len()
                    && self.0.iter().zip(segments).all(|(pattern, segment)| pattern == "*" || pattern == segment)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::Argument;

    fn pattern(text: &str) -> PathPattern {
        PathPattern(text.trim_start_matches('/').split('/').map(str::to_owned).collect())
    }

    fn words() -> Words {
        Words {
            paths: Vec::new(),
            member: "command".into(),
            allow: vec!["whoami".into(), "msp-info".into()],
            deny_arguments: vec![Argument::Long("output".into()), Argument::Short('o')],
            max_body: 1024,
        }
    }

    #[test]
    fn allow_is_literal_and_deny_is_not() {
        assert!(pattern("/api/v2/**").matches_raw("/api/v2/status/1"));
        assert!(!pattern("/api/v2/**").matches_raw("/api/%762/status/1"));
        assert!(!pattern("/api/v2/**").matches_raw("/api//v2/status"));
        assert!(pattern("/ExecOffboardUser").matches_decoded("/%45xecoffboarduser"));
        assert!(pattern("/a/*/c").matches_raw("/a/b/c"));
        assert!(!pattern("/a/*/c").matches_raw("/a/b/d"));
    }

    #[test]
    fn denied_options_do_not_pass_in_any_spelling() {
        let check = |line: &str| {
            words().check(&Bytes::from(serde_json::json!({ "command": line }).to_string())).map_err(|error| error.code())
        };
        for line in [
            "msp-info --output x",
            "msp-info --output=x",
            "msp-info --o x",
            "msp-info --outp=x",
            "msp-info -- --output x",
            "msp-info -o x",
            "msp-info -ox",
            "msp-info -vox",
            "msp-info -o=x",
            "msp-info '--output' x",
            r#"msp-info "--output=x""#,
            r#"msp-info --out"put" x"#,
            "msp-info --out'put'=x",
            "msp-info ''--output x",
            "msp-info '-'o x",
            r"msp-info \--output x",
            r"msp-info --ou\tput x",
            r"msp-info -\o x",
            r"msp-info a\ --output x",
            r#"msp-info "a\" --output "x"#,
            "msp-info 'a",
            "msp-info a\\",
            "msp-info ${x}",
            "msp-info &#45;-output x",
            "msp-info &#x2d;o x",
            "msp-info &hyphen;-output",
            "msp-info a&Tab;--output",
            "msp-info a&quot --output",
        ] {
            assert_eq!(check(line), Err(Code::DeniedByConnector), "{line}");
        }
        for line in [
            "msp-info",
            "msp-info -v --format json",
            "msp-info  --format=json  -p",
            "msp-info --name='Jane -o Doe' a@b.example",
            "msp-info --name 'output --out' \"it's\" R & D",
            "msp-info --node 'Root\\Sub' --limit -1 --created '>=2026-01-01'",
            "msp-info 'O'\"'\"'Neil' --outputs",
            "msp-info - output o",
        ] {
            assert_eq!(check(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn only_plain_first_words_pass() {
        let check = |body: &str| words().check(&Bytes::copy_from_slice(body.as_bytes())).map_err(|e| e.code());
        assert_eq!(check(r#"{"command":"msp-info --format json"}"#), Ok(()));
        assert_eq!(check(r#"{"command":"whoami"}"#), Ok(()));
        for body in [
            r#"{"command":"get abc"}"#,
            r#"{"command":" msp-info"}"#,
            r#"{"command":"msp-info\nget abc"}"#,
            r#"{"command":"'msp-info'"}"#,
            r#"{"command":"msp-info\u00a0x"}"#,
            r#"{"command":"msp-infox"}"#,
            r#"{"command":""}"#,
            r#"{}"#,
        ] {
            assert_eq!(check(body), Err(Code::OutsideDirectoryLayer), "{body}");
        }
        for body in [
            r#"{"command":"whoami","command":"get abc"}"#,
            r#"{"command":"whoami","Command":"get abc"}"#,
            r#"{"command":["whoami"]}"#,
            r#"["whoami"]"#,
            "command=whoami",
        ] {
            assert_eq!(check(body), Err(Code::InvalidBody), "{body}");
        }
    }
}
