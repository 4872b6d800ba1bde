//! One request of the unified side: guarded, bounded in time and size, without redirects, cookies, automatic decompression
//! or any proxy but the operator's. What an answer means is not judged here.

mod custom;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use thread_local::ThreadLocal;
use url::Url;

pub use custom::{CustomAnswer, CustomCall};

use super::{
    Access, CallOf, EgressProxy, Failure, Guard, Trust, classify, decode,
    egress::{CONNECT_TIMEOUT, DialError, Names, Way},
    egress_proxy,
    load::Lane,
    meters::Meters,
    query::Query,
    rate::{self, Reading},
    tls,
};
use crate::{
    model::{Secret, Trace, VendorLimit},
    store::Store,
};

const US: HeaderValue = HeaderValue::from_static(concat!("rollcall/", env!("CARGO_PKG_VERSION")));
/// Codings that `decode` reads.
const ENCODINGS: HeaderValue = HeaderValue::from_static("gzip, br");
/// How long a connection may wait; the client looks this often, so that it may be twice as long. Its buffers hold the
/// credential it sent last, which a minute without calls must not outlast.
const IDLE: Duration = Duration::from_secs(25);
/// Connections kept per host.
const IDLE_PER_HOST: usize = 16;
/// Header fields an answer may have, and hyper's own bound on their bytes stands beside it.
const MAX_HEADERS: usize = 256;
/// The room made at once for a body of a declared length; a longer one grows into it.
const AT_ONCE: usize = 1 << 20;
/// The largest answer of a token endpoint: whoever links an account says where that is.
const TOKEN_ANSWER: usize = 256 * 1024;

/// A request below an account's base address. The credential is put in by the sender.
#[derive(Clone)]
pub struct HttpCall {
    /// The method.
    pub method: Method,
    /// Below the base, with a leading slash, already encoded.
    pub path: String,
    /// The query.
    pub query: Query,
    /// Headers beyond those of the connector; they win over the connector's content types.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Option<Bytes>,
    /// The whole request; the link method's limit when left out.
    pub timeout: Option<Duration>,
}

impl HttpCall {
    /// A GET of a path.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), query: Query::default(), headers: Vec::new(), body: None, timeout: None }
    }
}

/// A whole answer, decoded.
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The headers as sent.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Bytes,
}

/// A request as it goes out.
struct Outgoing {
    method: Method,
    headers: HeaderMap,
    body: Option<Bytes>,
    /// The largest answer that is read.
    most: usize,
}

/// The clients of one trust, for each worker: the runtime that opened a connection drives it, so that another worker's would
/// stand still whenever that one does.
#[derive(Default)]
pub(super) struct Clients(ThreadLocal<WorkersClients>);

/// Each made when it is needed: a pool must not be shared between policies, and http needs no roots.
#[derive(Default)]
struct WorkersClients {
    public: OnceLock<reqwest::Client>,
    named: OnceLock<reqwest::Client>,
    plain: OnceLock<reqwest::Client>,
    proxied: OnceLock<reqwest::Client>,
}

/// Sends requests.
pub(super) struct Sender {
    guard: Arc<Guard>,
    clients: Clients,
    store: Arc<dyn Store>,
    meters: Meters,
}

impl Sender {
    pub(super) fn new(guard: Arc<Guard>, store: Arc<dyn Store>) -> Self {
        Self { guard, clients: Clients::default(), store, meters: Meters::new("unified") }
    }

    /// Sends one request when the account has room for it and reads the whole answer.
    pub(super) async fn send(&self, access: &Access, call: HttpCall) -> Result<HttpAnswer, Failure> {
        let url = address(access, &call, true)?;
        self.exchange_at(access, url, call).await
    }

    /// Like [`Sender::send`], to an address that `page` checked against the account's origins.
    pub(super) async fn send_to(&self, access: &Access, mut url: Url, call: HttpCall) -> Result<HttpAnswer, Failure> {
        if !access.query.is_empty() {
            let mut text = url.query().map(|query| format!("{query}&")).unwrap_or_default();
            text.push_str(&Query::default().with(injected(access)));
            url.set_query(Some(&text));
        }
        self.exchange_at(access, url, call).await
    }

    /// Once more with another token where the credential has one and the vendor refuses it.
    async fn exchange_at(&self, access: &Access, url: Url, call: HttpCall) -> Result<HttpAnswer, Failure> {
        let access = access.latest();
        if access.renewal.is_none() {
            return self.exchange_once(access, url, call).await;
        }
        let first = self.exchange_once(access, url.clone(), call.clone());
        let again = |renewed: Arc<Access>| Some(async move { self.exchange_once(&renewed, url, call).await });
        access.exchange(CallOf::Connector, classify::refuses_credential, first, again).await
    }

    async fn exchange_once(&self, access: &Access, url: Url, call: HttpCall) -> Result<HttpAnswer, Failure> {
        self.guard.clear(&url).map_err(refused)?;
        let limit = call.timeout.unwrap_or(access.method.limits.timeout);
        let load = self.guard.load.of(access);
        load.look()?;
        let _turn = load.enter(Lane::Calls).await?;
        let under_way = load.within_quota(Some(&*self.store)).await?;
        load.admit()?;
        let mut timed = self.meters.start(access);
        let headers = headers(access, &call);
        let outgoing = Outgoing { method: call.method, headers, body: call.body, most: access.method.limits.max_body };
        let exchange = self.exchange(access.trust.as_ref(), url, outgoing);
        let late = |_| Err(Failure::TimedOut(limit.as_secs().max(1)));
        let answer = tokio::time::timeout(limit, exchange).await.unwrap_or_else(late);
        drop(under_way);
        match &answer {
            Ok(answer) => {
                timed.answered(answer.status);
                load.answered(answer.status, answer.headers.contains_key(header::RETRY_AFTER));
                self.learn(access, answer).await;
            }
            Err(failure) => {
                timed.failed(failure);
                load.ended(failure);
            }
        }
        answer
    }

    async fn learn(&self, access: &Access, answer: &HttpAnswer) {
        let words = &access.method.limits.rate;
        if rate::speaks(&answer.headers, words) {
            let reading = rate::read(answer.status, &answer.headers, words);
            let said = VendorLimit { limit: reading.limit, remaining: reading.remaining, reset: reading.reset_after };
            if said != VendorLimit::default() {
                Trace::limited(said);
            }
            self.guard.load.of(access).learn(&*self.store, &reading).await;
        }
    }

    /// The vendor asked, in words of its own, to be left alone for so many seconds.
    pub(super) async fn slow_down(&self, access: &Access, seconds: u64) {
        let reading = Reading { retry_after: Some(seconds), ..Reading::default() };
        self.guard.load.of(access).learn(&*self.store, &reading).await;
    }

    /// Asks a token endpoint, within `limit`; no credential but that in the form or its headers goes along.
    pub(super) async fn token(
        &self,
        access: &Access,
        url: Url,
        mut headers: HeaderMap,
        form: Bytes,
        limit: Duration,
    ) -> Result<HttpAnswer, Failure> {
        self.guard.clear(&url).map_err(refused)?;
        // A certificate that the customer trusts is the API's; another host has one of its own.
        let trust = access.trust.as_ref().filter(|_| url.origin() == access.base.origin());
        headers.values_mut().for_each(|value| value.set_sensitive(true));
        headers.insert(header::ACCEPT_ENCODING, ENCODINGS);
        headers.insert(header::USER_AGENT, US);
        let most = TOKEN_ANSWER.min(access.method.limits.max_body);
        let exchange = self.exchange(trust, url, Outgoing { method: Method::POST, headers, body: Some(form), most });
        let late = |_| Err(Failure::TimedOut(limit.as_secs()));
        let answer = Box::pin(tokio::time::timeout(limit, exchange)).await.unwrap_or_else(late);
        answer.map_err(|failure| match failure {
            Failure::BadAnswer(why) => Failure::BadAnswer(format!("the token endpoint: {why}")),
            failure => failure,
        })
    }

    async fn exchange(&self, trust: Option<&Trust>, url: Url, outgoing: Outgoing) -> Result<HttpAnswer, Failure> {
        let proxy = self.proxy_before(&url).await?;
        let client = self.client(trust, proxy, &url)?;
        let failure = |error| failure(error, trust);
        let is_head = outgoing.method == Method::HEAD;
        let mut request = client.request(outgoing.method, url).headers(outgoing.headers);
        if let Some(body) = outgoing.body {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(failure)?;
        let max = outgoing.most;
        if response.content_length().is_some_and(|length| length > max as u64) && !is_head {
            return Err(Failure::BadAnswer(format!("the answer is larger than {max} bytes")));
        }
        let declared = response.content_length().unwrap_or_default() as usize;
        let mut body = BytesMut::with_capacity(declared.min(AT_ONCE));
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            if body.len() + chunk.len() > max {
                return Err(Failure::BadAnswer(format!("the answer is larger than {max} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let body = decode::decode(&headers, body.freeze(), max)?;
        decode::check_values(&body)?;
        Ok(HttpAnswer { status, headers, body })
    }

    /// Counts a first try, of which a tenth pays for a retry.
    pub(super) fn begin(&self, access: &Access) {
        self.guard.load.of(access).begin();
    }

    /// Whether one more try may be paid from what requests to the account's host saved up.
    pub(super) fn may_retry(&self, access: &Access) -> bool {
        self.guard.load.of(access).may_retry()
    }

    /// The proxy to ask, once the host's own addresses have passed: the proxy resolves the name for itself.
    async fn proxy_before(&self, url: &Url) -> Result<Option<&EgressProxy>, Failure> {
        let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(0));
        let proxy = self.guard.proxy_before(host, port);
        if proxy.is_some() {
            self.guard.resolve(host, port).await.map_err(refused)?;
        }
        Ok(proxy)
    }

    fn client<'a>(
        &'a self,
        trust: Option<&'a Trust>,
        proxy: Option<&EgressProxy>,
        url: &Url,
    ) -> Result<&'a reqwest::Client, Failure> {
        let clients = trust.map_or(&self.clients, |trust| &trust.clients).0.get_or_default();
        let named = self.guard.names(url);
        let cell = match (proxy, url.scheme(), named) {
            (Some(_), ..) => &clients.proxied,
            (None, "http", _) => &clients.plain,
            (None, _, true) => &clients.named,
            (None, _, false) => &clients.public,
        };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let config = match trust {
            Some(trust) => (*trust.config).clone(),
            None if proxy.is_none() && url.scheme() == "http" => tls::without_roots()?,
            None => (*tls::shared()?).clone(),
        };
        let way = if proxy.is_some() { Way::Proxied } else { Way::Direct { named } };
        let client = build(config, Names { guard: self.guard.clone(), way }, proxy)?;
        Ok(cell.get_or_init(|| client))
    }
}

fn build(config: rustls::ClientConfig, names: Names, proxy: Option<&EgressProxy>) -> Result<reqwest::Client, Failure> {
    let broken = |_| Failure::Unreachable("the http client cannot be set up".into());
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .dns_resolver(Arc::new(names))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .http1_only()
        .http1_max_headers(MAX_HEADERS)
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST);
    let builder = match proxy {
        Some(proxy) => builder.proxy(proxy.for_reqwest().map_err(broken)?),
        None => builder,
    };
    builder.build().map_err(broken)
}

fn injected(access: &Access) -> impl Iterator<Item = (&str, &Secret)> + Clone {
    access.query.iter().map(|(name, value)| (name.as_str(), value))
}

/// Base + path + query (and the credential's parameters, if wanted), asserted to stay below the base.
pub(super) fn address(access: &Access, call: &HttpCall, with_credential: bool) -> Result<Url, Failure> {
    let base = access.base.as_str().trim_end_matches('/');
    let mut text = format!("{base}{}", call.path);
    let query = call.query.with(injected(access).filter(|_| with_credential));
    if !query.is_empty() {
        text.push('?');
        text.push_str(&query);
    }
    let url = Url::parse(&text).map_err(|_| Failure::Egress("the request's path is not a path".into()))?;
    let path_kept = url.path() == format!("{}{}", access.base.path().trim_end_matches('/'), call.path);
    if !call.path.starts_with('/') || !path_kept || url.origin() != access.base.origin() || url.fragment().is_some() {
        return Err(Failure::Egress("the request's path would leave the vendor's base address".into()));
    }
    Ok(url)
}

/// The connector's headers, then the call's; of two with one name the call's wins, except that it never replaces a
/// credential.
fn headers(access: &Access, call: &HttpCall) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(access.headers.len() + call.headers.len() + 2);
    map.insert(header::ACCEPT_ENCODING, ENCODINGS);
    map.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    map.insert(header::USER_AGENT, US);
    for (name, value) in &access.headers {
        map.insert(name.clone(), value.clone());
    }
    for (name, value) in &call.headers {
        if !map.get(name).is_some_and(HeaderValue::is_sensitive) {
            map.insert(name.clone(), value.clone());
        }
    }
    map
}

fn refused(error: DialError) -> Failure {
    match error {
        DialError::Refused(text) => Failure::Egress(text),
        DialError::Unreachable(text) => Failure::Unreachable(text),
    }
}

/// What a transport error was, without the address it happened at.
fn failure(error: reqwest::Error, trust: Option<&Trust>) -> Failure {
    let (timed_out, connecting) = (error.is_timeout(), error.is_connect());
    let error = error.without_url();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = next {
        match known(cause, trust) {
            // Only while a connection is made nothing has left.
            Some(Failure::Unreachable(text)) if !connecting => return Failure::Broken(text),
            Some(known) => return known,
            None => {}
        }
        next = cause.source();
    }
    match (timed_out, connecting) {
        (true, _) => Failure::Unreachable(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())),
        (false, true) => Failure::Unreachable("no connection could be made".into()),
        (false, false) => Failure::Cut,
    }
}

fn known(cause: &(dyn std::error::Error + 'static), trust: Option<&Trust>) -> Option<Failure> {
    if let Some(words) = egress_proxy::words(cause) {
        return Some(Failure::Unreachable(words.into()));
    }
    if let Some(error) = cause.downcast_ref::<DialError>() {
        return Some(refused(error.clone()));
    }
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(tls::failure(error, trust));
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return match () {
            _ if error.is_parse() => Some(Failure::BadAnswer("the answer is not HTTP, or its headers are too large".into())),
            _ if error.is_incomplete_message() => Some(Failure::Cut),
            _ => None,
        };
    }
    let io = cause.downcast_ref::<std::io::Error>()?;
    // What an io error carries is not its source.
    match io.get_ref() {
        None => Some(Failure::Unreachable(format!("the connection failed: {}", io.kind()))),
        Some(inner) if inner.to_string().starts_with("tls") => Some(Failure::Unreachable(format!("TLS: {inner}"))),
        Some(inner) => known(inner, trust),
    }
}
