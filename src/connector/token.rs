//! How an access token is got: the token endpoint a connector file declares, checked and compiled.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderName, header};

use super::{
    Auth, LinkMethod, Template,
    access::{AccessCompiler, origin_text},
    file::{AssertionFile, AuthorizeFile, BodyForm, ClientAuth, FieldFile, FieldKind, Grant, LoginFile, SignedBy, TokenFile},
    kind, resource,
    yaml::Place,
};
use crate::mapping::Path;

/// The name by which `auth` sends the token.
pub const ACCESS_TOKEN: &str = "access_token";
/// The id of the OAuth app that the operator registered, in templates of `token`.
pub const APP_ID: &str = "oauth_client_id";
/// Its secret.
pub const APP_SECRET: &str = "oauth_client_secret";

/// Names of templates of `token` that are no fields.
const APP: &[&str] = &[APP_ID, APP_SECRET];
/// Parameters that the protocol sets itself.
const OWN_PARAMETERS: &[&str] =
    &["response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method"];
/// Claims that stand in every assertion.
const OWN_CLAIMS: &[&str] = &["iss", "sub", "aud", "iat", "nbf", "exp", "jti"];
/// The longest life of an assertion; servers refuse longer ones.
const LONGEST_ASSERTION: Duration = Duration::from_secs(3600);
const USUAL_ASSERTION: Duration = Duration::from_secs(300);

/// A token endpoint, compiled.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// What it gives a token for.
    pub grant: Grant,
    /// Its address.
    pub url: Template,
    /// The client's id; none for a login of the vendor's own.
    pub client_id: Option<Template>,
    /// The client's secret, where the client shows one.
    pub client_secret: Option<Template>,
    /// The scopes asked for.
    pub scope: Option<Template>,
    /// How the client shows who it is.
    pub client: ClientAuth,
    /// Where the customer agrees.
    pub authorize: Option<Authorize>,
    /// What is signed.
    pub assertion: Option<Assertion>,
    /// What is sent to a login of the vendor's own.
    pub login: Option<Login>,
    /// Where the answer has what.
    pub answer: TokenAnswer,
    /// How long a token lives that does not say so.
    pub life: Option<Duration>,
    /// Words that end a grant beside `invalid_grant`.
    pub ends: Vec<String>,
    /// Where tokens are revoked.
    pub revoke: Option<Template>,
}

impl TokenRequest {
    /// Whether the client is an OAuth app that the operator registered with the vendor.
    pub fn needs_app(&self) -> bool {
        self.client_id.iter().chain(&self.client_secret).flat_map(Template::names).any(|name| APP.contains(&name))
    }

    /// Whether a customer's browser must go to the vendor for it.
    pub fn needs_browser(&self) -> bool {
        self.grant == Grant::AuthorizationCode
    }

    /// Whether anything of the operator's app goes out with it.
    fn shows_app(&self) -> bool {
        let signed = self.assertion.iter().flat_map(|signed| {
            let named = [&signed.key_id, &signed.thumbprint, &signed.issuer, &signed.subject, &signed.audience];
            named.into_iter().flatten().chain([&signed.key])
        });
        self.needs_app() || signed.flat_map(Template::names).any(|name| APP.contains(&name))
    }

    /// Whether a field says where the operator's app is shown, or whom it signs for.
    pub(super) fn leads_app(&self, field: &str) -> bool {
        let audience = self.assertion.as_ref().and_then(|signed| signed.audience.as_ref());
        let mut shown = [&self.url].into_iter().chain(&self.revoke).chain(audience);
        self.shows_app() && shown.any(|template| template.names().any(|name| name == field))
    }

    /// Every address in it.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Template> {
        [&self.url].into_iter().chain(self.authorize.as_ref().map(|authorize| &authorize.url)).chain(&self.revoke)
    }
}

impl LinkMethod {
    /// Whether a customer's browser must go to the vendor to link by it.
    pub fn needs_browser(&self) -> bool {
        self.token.as_ref().is_some_and(TokenRequest::needs_browser)
    }

    /// Whether the operator must have registered an OAuth app with the vendor.
    pub fn needs_oauth_app(&self) -> bool {
        self.token.as_ref().is_some_and(TokenRequest::needs_app)
    }
}

/// Where a customer's browser is sent.
#[derive(Clone, Debug)]
pub struct Authorize {
    /// The authorization endpoint.
    pub url: Template,
    /// Parameters beyond those of the protocol.
    pub query: Vec<(String, Template)>,
    /// The server's issuer identifier.
    pub issuer: Option<Template>,
    /// What stands between two scopes.
    pub separator: String,
}

/// A JWT that is signed for the token endpoint.
#[derive(Clone, Debug)]
pub struct Assertion {
    /// The private key.
    pub key: Template,
    /// How it signs.
    pub algorithm: SignedBy,
    /// `kid`.
    pub key_id: Option<Template>,
    /// The fingerprint of the key's certificate.
    pub thumbprint: Option<Template>,
    /// `iss`; the client's id when left out.
    pub issuer: Option<Template>,
    /// `sub`; `iss` when left out.
    pub subject: Option<Template>,
    /// `aud`; the endpoint's address when left out.
    pub audience: Option<Template>,
    /// Further claims.
    pub claims: Vec<(String, Template)>,
    /// How long it may be used.
    pub life: Duration,
}

/// A login of the vendor's own.
#[derive(Clone, Debug)]
pub struct Login {
    /// Members of the body.
    pub body: Vec<(String, Template)>,
    /// How they are written.
    pub form: BodyForm,
    /// Headers.
    pub headers: Vec<(HeaderName, Template)>,
}

/// Where an endpoint's answer has what; where RFC 6749 says when none.
#[derive(Clone, Debug, Default)]
pub struct TokenAnswer {
    /// The access token.
    pub access_token: Option<Path>,
    /// The refresh token.
    pub refresh_token: Option<Path>,
    /// Seconds the access token lives.
    pub expires_in: Option<Path>,
    /// The word for a failure.
    pub error: Option<Path>,
}

impl TokenAnswer {
    /// Whether the answer is another than the standard's.
    pub fn is_own(&self) -> bool {
        [&self.access_token, &self.refresh_token, &self.expires_in, &self.error].iter().any(|path| path.is_some())
    }
}

impl AccessCompiler<'_, '_, '_> {
    /// The endpoint, if the method has one.
    pub(super) fn token(&mut self, token: Option<&TokenFile>, hosts: &BTreeMap<String, Template>) -> Option<TokenRequest> {
        let file = token?;
        let place = self.place("token");
        self.check_grant(place, file);
        let url = self.covered(place.key("url"), &file.url, hosts, true)?;
        let client = self.client(place, file);
        let scope = file.scope.as_deref().and_then(|scope| self.scope.template(place.key("scope"), scope, &[], false));
        let authorize = file.authorize.as_ref().and_then(|authorize| self.authorize(place.key("authorize"), authorize, hosts));
        let assertion = file.assertion.as_ref().and_then(|assertion| self.assertion(place.key("assertion"), assertion));
        let login = file.login.as_ref().map(|login| self.login(place.key("login"), login));
        let revoke = file.revoke.as_ref().and_then(|url| self.covered(place.key("revoke"), url, hosts, true));
        let (client_id, client_secret) = client;
        let request = TokenRequest {
            grant: file.grant,
            url,
            client_id,
            client_secret,
            scope,
            client: file.client,
            authorize,
            assertion,
            login,
            answer: self.token_answer(place, file),
            life: file.life.as_deref().map(|text| self.duration(place.key("life"), text)),
            ends: file.ends.clone(),
            revoke,
        };
        self.check_app(place, file, &request);
        Some(request)
    }

    /// The operator's app is shown at hosts that the connector names: whoever links an account could name one of their own.
    fn check_app(&mut self, place: Place<'_>, file: &TokenFile, request: &TokenRequest) {
        let audience = file.assertion.as_ref().and_then(|assertion| assertion.audience.as_ref());
        let shown = [
            (place.key("url"), Some(&file.url)),
            (place.key("revoke"), file.revoke.as_ref()),
            (place.key("assertion").key("audience"), audience),
        ];
        for (place, text) in shown {
            let Some(text) = text.filter(|text| request.shows_app() && is_free(text, &self.scope.link.fields)) else { continue };
            let message = format!(
                "whoever links an account decides which host `{text}` is at, and the operator's OAuth app is shown there"
            );
            let hint = "write the host out, or give the field `hosts`; an app of the customer's is filled in as `client_id` and \
                        `client_secret`";
            self.scope.problems.push(place.problem(message, hint.to_owned()));
        }
    }

    /// Each grant has its own words, and none of another's.
    fn check_grant(&mut self, place: Place<'_>, file: &TokenFile) {
        let signs = file.grant == Grant::JwtBearer || file.client == ClientAuth::Assertion;
        let words = [
            ("authorize", file.authorize.is_some(), file.grant == Grant::AuthorizationCode, "`grant: authorization_code`"),
            ("assertion", file.assertion.is_some(), signs, "`grant: jwt_bearer` and `client: assertion`"),
            ("login", file.login.is_some(), file.grant == Grant::Login, "`grant: login`"),
        ];
        for (word, given, wanted, whose) in words {
            let message = match (given, wanted) {
                (true, false) => format!("`{word}` belongs to {whose}"),
                (false, true) => format!("{whose} need `{word}`"),
                _ => continue,
            };
            self.scope.problems.push(place.name(word).problem(message, None));
        }
    }

    /// What the client is called and shows: of fields of these names, else of the OAuth app.
    fn client(&mut self, place: Place<'_>, file: &TokenFile) -> (Option<Template>, Option<Template>) {
        let has = |name: &str| self.scope.link.fields.iter().any(|field| field.name == name);
        let browser = file.grant == Grant::AuthorizationCode;
        let usual = |field: &str, app: &str| if browser && !has(field) { format!("{{{app}}}") } else { format!("{{{field}}}") };
        let id = file.client_id.clone().unwrap_or_else(|| usual("client_id", APP_ID));
        let secret = file.client_secret.clone().unwrap_or_else(|| usual("client_secret", APP_SECRET));
        let takes_client =
            file.grant != Grant::Login && !(file.grant == Grant::JwtBearer && file.client_id.is_none() && !has("client_id"));
        let shows_secret = takes_client && matches!(file.client, ClientAuth::Basic | ClientAuth::Body);
        let shows_secret =
            shows_secret && !(file.grant == Grant::JwtBearer && file.client_secret.is_none() && !has("client_secret"));
        let mut text = |key: &'static str, text: &str| self.scope.template(place.name(key), text, APP, true);
        let id = takes_client.then(|| text("client_id", &id)).flatten();
        let secret = shows_secret.then(|| text("client_secret", &secret)).flatten();
        (id, secret)
    }

    fn authorize(&mut self, place: Place<'_>, file: &AuthorizeFile, hosts: &BTreeMap<String, Template>) -> Option<Authorize> {
        for name in file.query.keys().filter(|name| OWN_PARAMETERS.contains(&name.as_str())) {
            let message = format!("the protocol sets `{name}` itself");
            self.scope.problems.push(place.key("query").name(name).problem(message, None));
        }
        let url = self.covered(place.key("url"), &file.url, hosts, true)?;
        let query = self.named(place.key("query"), &file.query, false);
        let issuer = file.issuer.as_deref().and_then(|text| self.scope.template(place.key("issuer"), text, &[], false));
        Some(Authorize { url, query, issuer, separator: file.separator.clone().unwrap_or_else(|| " ".to_owned()) })
    }

    fn assertion(&mut self, place: Place<'_>, file: &AssertionFile) -> Option<Assertion> {
        for name in file.claims.keys().filter(|name| OWN_CLAIMS.contains(&name.as_str())) {
            let message = format!("`{name}` is not one of the further claims");
            self.scope.problems.push(place.key("claims").name(name).problem(message, None));
        }
        let life = file.life.as_deref().map_or(USUAL_ASSERTION, |text| self.duration(place.key("life"), text));
        if life > LONGEST_ASSERTION {
            self.scope.problems.push(place.key("life").problem("an assertion lives for an hour at most", None));
        }
        let claims = self.named(place.key("claims"), &file.claims, false);
        let mut text = |key: &'static str, text: Option<&String>, secrets: bool| {
            text.and_then(|text| self.scope.template(place.key(key), text, APP, secrets))
        };
        Some(Assertion {
            key: text("key", Some(&file.key), true)?,
            algorithm: file.algorithm,
            key_id: text("key_id", file.key_id.as_ref(), false),
            thumbprint: text("thumbprint", file.thumbprint.as_ref(), false),
            issuer: text("issuer", file.issuer.as_ref(), false),
            subject: text("subject", file.subject.as_ref(), false),
            audience: text("audience", file.audience.as_ref(), false),
            claims,
            life,
        })
    }

    fn login(&mut self, place: Place<'_>, file: &LoginFile) -> Login {
        let body = self.named(place.key("body"), &file.body, true);
        let mut headers = Vec::new();
        for (name, template) in self.named(place.name("headers"), &file.headers, true) {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(known) if known == header::ACCEPT || kind::may_set(known.as_str()) => headers.push((known, template)),
                _ => {
                    let place = place.name("headers").name(&name);
                    self.scope.problems.push(place.problem(format!("the header `{name}` may not be set"), None));
                }
            }
        }
        Login { body, form: file.form, headers }
    }

    fn named(&mut self, place: Place<'_>, texts: &BTreeMap<String, String>, secrets: bool) -> Vec<(String, Template)> {
        let compiled = texts.iter().map(|(name, text)| (name, self.scope.template(place.name(name), text, &[], secrets)));
        compiled.filter_map(|(name, template)| Some((name.clone(), template?))).collect()
    }

    fn token_answer(&mut self, place: Place<'_>, file: &TokenFile) -> TokenAnswer {
        let place = place.name("answer");
        let mut path =
            |key: &'static str, text: Option<&String>| text.and_then(|text| resource::path(self.scope, place.key(key), text));
        TokenAnswer {
            access_token: path("access_token", file.answer.access_token.as_ref()),
            refresh_token: path("refresh_token", file.answer.refresh_token.as_ref()),
            expires_in: path("expires_in", file.answer.expires_in.as_ref()),
            error: path("error", file.answer.error.as_ref()),
        }
    }

    /// A token that is got and not sent, or sent in an address, is a mistake; so is one that nobody gives.
    pub(super) fn check_token(&mut self, auth: &Auth, has_token: bool) {
        let holds = |template: &Template| template.names().any(|name| name == ACCESS_TOKEN);
        let (sent, in_query) = match auth {
            Auth::None => (false, false),
            Auth::Bearer(token) => (holds(token), false),
            Auth::Basic { username, password } => (holds(username) || holds(password), false),
            Auth::Headers(pairs) => (pairs.iter().any(|(_, value)| holds(value)), false),
            Auth::Query(pairs) => (pairs.iter().any(|(_, value)| holds(value)), true),
        };
        let (message, hint) = match (has_token, sent, in_query) {
            (true, false, _) => ("the access token is never sent", "for example `bearer: { token: \"{access_token}\" }`"),
            (false, true, _) => ("nobody gives the access token", "say in `token` where it is got"),
            (_, true, true) => ("an access token may not stand in an address", "send it as `bearer` or in `headers`"),
            _ => return,
        };
        let place = self.place("auth");
        self.scope.problems.push(place.problem(message, hint.to_owned()));
    }
}

/// Whether values of fields can make any host of an address: a field that takes every one, or a name without an end of two parts
/// at least that the file writes out.
fn is_free(text: &str, fields: &[FieldFile]) -> bool {
    let find = |name: &str| fields.iter().find(|field| field.name == name);
    if let Some((name, rest)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        let is_bound = find(name).is_some_and(|field| field.kind == FieldKind::Choice || !field.hosts.is_empty());
        return !is_bound || !(rest.is_empty() || rest.starts_with(['/', '?']));
    }
    let origin = origin_text(text);
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    let host = host.split(['?', '#', ':']).next().unwrap_or_default();
    let Some((_, end)) = host.rsplit_once('}') else { return false };
    let is_chosen = |name: &str| find(name).is_some_and(|field| field.kind == FieldKind::Choice);
    let all_chosen = host.split('{').skip(1).filter_map(|part| part.split('}').next()).all(is_chosen);
    !all_chosen && !end.strip_prefix('.').is_some_and(|end| end.contains('.'))
}
