//! Compiles where and how requests are sent: the access keys of a link method over those of the whole connector.

use std::{collections::BTreeMap, time::Duration};

use http::HeaderName;

use super::{
    ACCESS_TOKEN, Auth, Deny, DownloadHost, ErrorRule, Limits, LinkPath, LinkStep, MAX_LINKS, Proxy, RateWords, Template,
    TestRequest, TextTest, TokenRequest, Transport, Words,
    compile::Scope,
    file::{self, AuthFile, DenyRule, FieldKind, Meaning},
    kind,
    rate::RateFile,
    resource, units,
    yaml::Place,
};
use crate::mapping::{OneOrMany, Path, PlainStep};

/// The compiled access keys.
pub(super) struct Access {
    pub(super) hosts: BTreeMap<String, Template>,
    pub(super) base: Vec<Template>,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) auth: Auth,
    pub(super) token: Option<TokenRequest>,
    pub(super) limits: Limits,
    pub(super) errors: Vec<ErrorRule>,
    pub(super) proxy: Proxy,
    pub(super) test: Option<TestRequest>,
}

/// Compiles them; problems go to the scope.
pub(super) struct AccessCompiler<'s, 'a, 'p> {
    pub(super) scope: &'s mut Scope<'a>,
    pub(super) link: Place<'p>,
    pub(super) top: Place<'p>,
}

impl<'p> AccessCompiler<'_, '_, 'p> {
    /// A link entry's key wins whole over the top's.
    pub(super) fn compile(mut self, own: &file::Access, top: &file::Access) -> Option<Access> {
        let hosts = own.hosts.as_ref().or(top.hosts.as_ref());
        let base = own.base.as_ref().or(top.base.as_ref());
        let (Some(hosts), Some(base)) = (hosts, base) else {
            for (key, missing) in [("hosts", hosts.is_none()), ("base", base.is_none())] {
                if missing {
                    let message = format!("the method `{}` has no `{key}`", self.scope.link.method);
                    let hint = "it stands at the top for all methods, or in the link entry".to_owned();
                    self.scope.problems.push(self.link.problem(message, hint));
                }
            }
            return None;
        };
        let hosts = self.hosts(hosts);
        let base = self.base(base, &hosts);
        let token = own.token.as_ref().or(top.token.as_ref());
        let auth = self.auth(own.auth.as_ref().or(top.auth.as_ref()));
        self.check_token(&auth, token.is_some());
        let test = own.test.as_ref().or(top.test.as_ref());
        Some(Access {
            base,
            headers: self.headers(own.headers.as_ref().or(top.headers.as_ref())),
            auth,
            token: self.token(token, &hosts),
            limits: self.limits(own.limits.as_ref().or(top.limits.as_ref())),
            errors: self.errors(own.errors.as_deref().or(top.errors.as_deref()).unwrap_or_default()),
            proxy: self.proxy(own.proxy.as_ref().or(top.proxy.as_ref())),
            test: self.test(test),
            hosts,
        })
    }

    pub(super) fn place(&self, key: &str) -> Place<'p> {
        if self.link.has(key) { self.link.key(key) } else { self.top.key(key) }
    }

    fn hosts(&mut self, hosts: &BTreeMap<String, String>) -> BTreeMap<String, Template> {
        let mut compiled = BTreeMap::new();
        for (name, text) in hosts {
            let place = self.place("hosts").key(name);
            self.check_address(place, text, true);
            if let Some(template) = self.scope.template(place, text, &[], false) {
                compiled.insert(name.clone(), template);
            }
        }
        compiled
    }

    fn base(&mut self, base: &OneOrMany<String>, hosts: &BTreeMap<String, Template>) -> Vec<Template> {
        let mut compiled = Vec::new();
        for (i, text) in base.as_slice().iter().enumerate() {
            compiled.extend(self.covered(self.place("base").index(i), text, hosts, false));
        }
        compiled
    }

    /// An address at one of the hosts; `is_whole` when nothing is put behind it.
    pub(super) fn covered(
        &mut self,
        place: Place<'_>,
        text: &str,
        hosts: &BTreeMap<String, Template>,
        is_whole: bool,
    ) -> Option<Template> {
        self.check_address(place, text, is_whole);
        let covered = hosts.values().any(|host| origin_text(&host.text()) == origin_text(text));
        if !covered {
            let message = format!("`hosts` does not cover `{text}`");
            let hint = format!("add `{}` to `hosts`: nothing else is ever called", origin_text(text));
            self.scope.problems.push(place.problem(message, hint));
        }
        self.scope.template(place, text, &[], false)
    }

    /// An address is https or on this machine, or begins with a field that is an address.
    fn check_address(&mut self, place: Place<'_>, text: &str, is_whole: bool) {
        let first = text.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(name, _)| name);
        let field = first.and_then(|name| self.scope.link.fields.iter().find(|field| field.name == name));
        let good = match field {
            Some(field) => field.kind.is_address() && (is_whole || field.kind != FieldKind::Endpoint),
            None => (text.starts_with("https://") || is_here(text)) && (is_whole || !text.ends_with('/')) || first.is_some(),
        };
        if !good {
            let hint =
                "`https://host`, or a field of kind `origin` or `base_url` at its beginning; no slash at the end".to_owned();
            self.scope.problems.push(place.problem(format!("`{text}` is not an address"), hint));
        }
    }

    fn headers(&mut self, headers: Option<&BTreeMap<String, String>>) -> Vec<(HeaderName, Template)> {
        let mut compiled = Vec::new();
        for (name, text) in headers.into_iter().flatten() {
            let place = self.place("headers").name(name);
            let template = self.scope.template(place, text, &[], true);
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(header) if header == http::header::ACCEPT || kind::may_set(header.as_str()) => {
                    compiled.extend(template.map(|template| (header, template)));
                }
                _ => self.scope.problems.push(place.problem(format!("the header `{name}` may not be set"), None)),
            }
        }
        compiled
    }

    fn auth(&mut self, auth: Option<&AuthFile>) -> Auth {
        let place = self.place("auth");
        let mut template = |place: Place<'_>, text: &str| self.scope.template(place, text, &[ACCESS_TOKEN], true);
        let compiled = match auth {
            None | Some(AuthFile::None {}) => Some(Auth::None),
            Some(AuthFile::Bearer { token }) => template(place.key("bearer").key("token"), token).map(Auth::Bearer),
            Some(AuthFile::Basic { username, password }) => {
                let place = place.key("basic");
                template(place.key("username"), username)
                    .zip(template(place.key("password"), password))
                    .map(|(username, password)| Auth::Basic { username, password })
            }
            Some(AuthFile::Headers { headers }) => {
                let place = place.key("headers").key("headers");
                let pair =
                    |(name, value): (&String, &String)| template(place.name(name), name).zip(template(place.key(name), value));
                Some(Auth::Headers(headers.iter().filter_map(pair).collect()))
            }
            Some(AuthFile::Query { query }) => {
                let place = place.key("query").key("query");
                let pair = |(name, value): (&String, &String)| Some((name.clone(), template(place.key(name), value)?));
                Some(Auth::Query(query.iter().filter_map(pair).collect()))
            }
        };
        compiled.unwrap_or(Auth::None)
    }

    fn limits(&mut self, limits: Option<&file::LimitsFile>) -> Limits {
        let place = self.place("limits");
        let none = file::LimitsFile::default();
        let limits = limits.unwrap_or(&none);
        let timeout = limits.timeout.as_deref().map(|text| self.duration(place.key("timeout"), text));
        let max_body = limits.max_body.as_deref().map(|text| self.size(place.key("max_body"), text));
        let concurrency = limits.concurrency.unwrap_or(8);
        if !(1..=64).contains(&concurrency) {
            self.scope
                .problems
                .push(place.key("concurrency").problem("`concurrency` is out of range", "from 1 to 64".to_owned()));
        }
        let mut compiled = Limits {
            concurrency: concurrency as usize,
            timeout: timeout.unwrap_or(Duration::from_secs(120)),
            max_body: max_body.unwrap_or(16 << 20),
            retry_on: Vec::new(),
            retry_wait: Vec::new(),
            tries: 1,
            rate: limits.rate.as_ref().map(|rate| self.rate(place.key("rate"), rate)).unwrap_or_default(),
        };
        if let Some(retry) = &limits.retry {
            let place = place.key("retry");
            if !(1..=3).contains(&retry.tries) {
                self.scope.problems.push(place.key("tries").problem("`tries` is out of range", "from 1 to 3".to_owned()));
            }
            for (i, name) in retry.wait.iter().enumerate() {
                match HeaderName::from_bytes(name.as_bytes()) {
                    Ok(header) => compiled.retry_wait.push(header),
                    Err(_) => {
                        self.scope.problems.push(place.key("wait").index(i).problem(format!("`{name}` is not a header"), None))
                    }
                }
            }
            compiled.retry_on.clone_from(&retry.on);
            compiled.tries = retry.tries;
        }
        compiled
    }

    fn rate(&mut self, place: Place<'_>, rate: &RateFile) -> RateWords {
        let mut header = |key: &'static str, name: Option<&str>| {
            let name = name?;
            let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
            if parsed.is_none() {
                self.scope.problems.push(place.key(key).problem(format!("`{name}` is not a header"), None));
            }
            parsed
        };
        RateWords {
            limit: header("limit", rate.limit.as_deref()),
            remaining: header("remaining", rate.remaining.as_deref()),
            reset: header("reset", rate.reset.as_deref()),
            unit: rate.unit,
            hold: rate.hold_passthrough,
        }
    }

    fn errors(&mut self, rules: &[file::ErrorRule]) -> Vec<ErrorRule> {
        let place = self.place("errors");
        rules.iter().enumerate().filter_map(|(i, rule)| self.error_rule(place.index(i), rule)).collect()
    }

    fn error_rule(&mut self, place: Place<'_>, rule: &file::ErrorRule) -> Option<ErrorRule> {
        let when = place.key("when");
        let path = match rule.when.path.as_deref() {
            Some(text) => Some(resource::path(self.scope, when.key("path"), text)?),
            None => None,
        };
        let tests = [rule.when.equals.as_deref(), rule.when.starts.as_deref(), rule.when.contains.as_deref()];
        let given = tests.iter().flatten().count();
        if given > 1 || (given == 1 && path.is_none()) {
            let hint = "`path` with at most one of `equals`, `starts`, `contains`".to_owned();
            self.scope.problems.push(when.problem("this condition cannot be read", hint));
            return None;
        }
        if rule.when.status.is_none() && path.is_none() {
            self.scope.problems.push(when.problem("this condition always holds", "give `status` or `path`".to_owned()));
            return None;
        }
        let waits = matches!(rule.is, Meaning::NotReady | Meaning::RateLimited);
        if rule.wait.is_some() && !waits {
            self.scope.problems.push(place.key("wait").problem("`wait` belongs to `not_ready` and `rate_limited`", None));
        }
        let text = match tests {
            [Some(text), ..] => TextTest::Equals(text.to_owned()),
            [_, Some(text), _] => TextTest::Starts(text.to_owned()),
            [.., Some(text)] => TextTest::Contains(text.to_owned()),
            _ => TextTest::Present,
        };
        let status = rule.when.status.as_ref().map(|s| s.as_slice().to_vec()).unwrap_or_default();
        let wait = rule.wait.as_deref().map(|text| self.duration(place.key("wait"), text));
        Some(ErrorRule { status, path, text, meaning: rule.is, wait, message: rule.message.clone() })
    }

    fn proxy(&mut self, proxy: Option<&file::ProxyFile>) -> Proxy {
        let place = self.place("proxy");
        let none = file::ProxyFile::default();
        let proxy = proxy.unwrap_or(&none);
        let methods = proxy
            .methods
            .as_ref()
            .map(|names| self.each(place.key("methods"), names, |name| units::method(name).map_err(|message| (message, None))));
        let allow = proxy.allow.as_ref().map(|patterns| self.patterns(place.key("allow"), patterns));
        let deny = proxy.deny.iter().enumerate().filter_map(|(i, rule)| self.deny(place.key("deny").index(i), rule)).collect();
        let words = proxy.words.as_ref().map(|words| Words {
            paths: self.patterns(place.key("words").key("paths"), &words.paths),
            member: words.member.clone(),
            allow: words.allow.clone(),
            deny_arguments: self.arguments(place.key("words").key("deny_arguments"), &words.deny_arguments),
            max_body: self.size(place.key("words").key("max_body"), &words.max_body),
        });
        Proxy {
            methods,
            allow,
            deny,
            words,
            encoded_slashes: proxy.encoded_slashes,
            links: self.links(place.key("links"), &proxy.links),
            downloads: self.downloads(place.key("downloads"), &proxy.downloads),
            exclusive: proxy.exclusive,
        }
    }

    fn links(&mut self, place: Place<'_>, texts: &[String]) -> Vec<LinkPath> {
        if texts.len() > MAX_LINKS {
            self.scope.problems.push(place.problem("too many `links`", format!("at most {MAX_LINKS}")));
        }
        let mut links = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            let place = place.index(i);
            let Some(path) = resource::path(self.scope, place, text) else { continue };
            match link_path(&path) {
                Some(link) => links.push(link),
                None => {
                    let hint = "members and elements of the answer only, for example `next`, `items[*].href`".to_owned();
                    self.scope.problems.push(place.problem(format!("`{text}` is not the place of a link"), hint));
                }
            }
        }
        links
    }

    fn downloads(&mut self, place: Place<'_>, texts: &[String]) -> Vec<DownloadHost> {
        let hint = "for example `files.example.com`, `files.example.com:8443` or `*.example.com`";
        let wrong = |text: &str| (format!("`{text}` is not a host for downloads"), Some(hint.to_owned()));
        self.each(place, texts, |text| units::download_host(text).ok_or_else(|| wrong(text)))
    }

    fn deny(&mut self, place: Place<'_>, rule: &DenyRule) -> Option<Deny> {
        let one = |this: &mut Self, place: Place<'_>, text: &String| this.patterns(place, std::slice::from_ref(text)).pop();
        match rule {
            DenyRule::Path(text) => Some(Deny { path: one(self, place, text)?, body: Vec::new(), because: None }),
            DenyRule::Body { path, body, because } => {
                let body = body.iter().map(|(member, rule)| (member.clone(), rule.starts.clone())).collect();
                Some(Deny { path: one(self, place.key("path"), path)?, body, because: because.clone() })
            }
        }
    }

    fn arguments(&mut self, place: Place<'_>, texts: &[String]) -> Vec<super::Argument> {
        let wrong = |text: &str, hint: &str| (format!("`{text}` is not an option"), Some(hint.to_owned()));
        self.each(place, texts, |text| units::argument(text).map_err(|hint| wrong(text, hint)))
    }

    fn patterns(&mut self, place: Place<'_>, texts: &[String]) -> Vec<super::PathPattern> {
        let wrong = |text: &str, hint: &str| (format!("`{text}` is not a path pattern"), Some(hint.to_owned()));
        self.each(place, texts, |text| units::pattern(text).map_err(|hint| wrong(text, hint)))
    }

    /// What the texts of a list are read as; for each that cannot be read, its message and hint become a problem.
    fn each<T>(
        &mut self,
        place: Place<'_>,
        texts: &[String],
        read: impl Fn(&str) -> Result<T, (String, Option<String>)>,
    ) -> Vec<T> {
        let mut all = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            match read(text) {
                Ok(one) => all.push(one),
                Err((message, hint)) => self.scope.problems.push(place.index(i).problem(message, hint)),
            }
        }
        all
    }

    fn test(&mut self, test: Option<&file::TestFile>) -> Option<TestRequest> {
        let place = self.place("test");
        let request = test.and_then(|test| Some((test.request.as_deref()?, test)));
        if request.is_none() && self.scope.transport == Transport::Rest {
            let message = format!("the method `{}` has no `test`, so no credential could be verified", self.scope.link.method);
            self.scope.problems.push(self.link.problem(message, "for example `test: { request: GET /me }`".to_owned()));
        }
        let test = test?;
        let request = request.and_then(|(text, test)| resource::request(self.scope, place, text, &test.query, &[]));
        let expect = test.expect.iter().enumerate();
        let expect: Vec<Path> =
            expect.filter_map(|(i, text)| resource::path(self.scope, place.key("expect").index(i), text)).collect();
        let visible = test.visible.as_ref().and_then(|visible| self.visible(place.key("visible"), visible));
        Some(TestRequest { request, expect, visible })
    }

    fn visible(&mut self, place: Place<'_>, visible: &file::VisibleFile) -> Option<(Path, String)> {
        if self.scope.transport != Transport::Rest {
            let hint = "only `rest` is tested by a request of its own".to_owned();
            self.scope.problems.push(place.problem("this transport has a test of its own, which nothing is looked for in", hint));
        }
        if visible.otherwise.trim().is_empty() {
            let hint = "say what whoever links has to do, for example `Grant Customer Access, then make a new key.`".to_owned();
            self.scope.problems.push(place.key("else").problem("`else` says nothing", hint));
        }
        let path = resource::path(self.scope, place.key("path"), &visible.path)?;
        Some((path, visible.otherwise.clone()))
    }

    pub(super) fn duration(&mut self, place: Place<'_>, text: &str) -> Duration {
        units::duration(text).unwrap_or_else(|hint| {
            self.scope.problems.push(place.problem(format!("`{text}` is not a duration"), hint.to_owned()));
            Duration::from_secs(1)
        })
    }

    fn size(&mut self, place: Place<'_>, text: &str) -> usize {
        units::size(text).unwrap_or_else(|hint| {
            self.scope.problems.push(place.problem(format!("`{text}` is not a size"), hint.to_owned()));
            1
        })
    }
}

/// A path in a form that can be followed in a stream: no conditions, no other root, and at least one step.
fn link_path(path: &Path) -> Option<LinkPath> {
    let steps: Vec<LinkStep> = path
        .plain_steps()?
        .map(|step| match step {
            PlainStep::Member(name) => LinkStep::Member(name.to_owned()),
            PlainStep::Element(index) => LinkStep::Element(index),
            PlainStep::Elements => LinkStep::Elements,
        })
        .collect();
    (!steps.is_empty()).then_some(LinkPath(steps))
}

/// A stand-in for the vendor, on this machine. It is called where the operator lists it.
fn is_here(text: &str) -> bool {
    ["http://127.0.0.1:", "http://localhost:"].iter().any(|front| text.starts_with(front))
}

/// The part of an address that says which host: `https://{region}` of `https://{region}/api`, `{url}` of `{url}/api`.
pub(super) fn origin_text(text: &str) -> &str {
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text[start..].find('/').map_or(text.len(), |at| start + at);
    &text[..end]
}
