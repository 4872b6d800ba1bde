//! A decoded credential, ready for the hot path.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, header};
use serde_json::{Map, Value};

use super::{
    Trust,
    load::Handle,
    query,
    renewal::{Renew, Renewal},
    token::Token,
};
use crate::{
    connector::{
        ACCESS_TOKEN, APP_ID, APP_SECRET, Auth, Connector, FieldProblem, LinkMethod, Position, Resolved, Template, TokenRequest,
        TokenUrls,
    },
    model::{AccountId, EnvironmentId, Secret},
};

/// Where a refresh token stands among the secrets; no field can have this name.
const REFRESH_TOKEN: &str = "oauth.refresh_token";

/// Everything needed to call a vendor for one account. Built once per credential generation and access token, shared by
/// reference.
pub struct Access {
    /// Whose.
    pub account: AccountId,
    /// Behind which wall.
    pub environment: EnvironmentId,
    /// The connector.
    pub connector: Arc<Connector>,
    /// The way it is linked.
    pub method: Arc<LinkMethod>,
    /// The credential's generation.
    pub generation: u64,
    /// Scheme, host, port and base path; no trailing slash, no query.
    pub base: url::Url,
    /// Every origin that calls may go to; a token endpoint elsewhere is none of them.
    pub hosts: Vec<url::Url>,
    /// Where access tokens are got, for methods that need one.
    pub token_urls: Option<TokenUrls>,
    /// Headers to inject; values that hold a secret are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Query parameters to inject; values are percent-encoded.
    pub query: Vec<(String, Secret)>,
    /// Fields that are not secret.
    pub fields: BTreeMap<String, String>,
    /// Secret fields, for transports that need them beyond the headers.
    pub secrets: BTreeMap<String, Secret>,
    /// Whom the server is trusted by; the public authorities when nothing is said.
    pub trust: Option<Trust>,
    /// What the link test learned.
    pub facts: Map<String, Value>,
    /// What the account and its host can bear.
    pub load: Handle,
    /// The access token's life, for methods that need one. Without a token no credential is injected yet.
    pub renewal: Option<Renewal>,
}

impl Access {
    /// Builds the headers and parameters of the method's `auth` and `headers` from resolved fields.
    pub fn new(
        account: AccountId,
        environment: EnvironmentId,
        connector: Arc<Connector>,
        method: Arc<LinkMethod>,
        generation: u64,
        resolved: Resolved,
        facts: Map<String, Value>,
    ) -> Result<Access, FieldProblem> {
        let values = Values { method: &method, fields: &resolved.fields, secrets: &resolved.secrets };
        let headers = method.headers.iter().map(|(name, template)| Ok((name.clone(), values.header(template)?)));
        let headers = headers.collect::<Result<_, FieldProblem>>()?;
        let trust = Trust::of(&resolved.fields)?;
        let Resolved { fields, secrets, base, mut hosts, token_urls, .. } = resolved;
        let elsewhere: Vec<_> = token_urls.iter().flat_map(TokenUrls::all).map(url::Url::origin).collect();
        hosts.retain(|host| host.origin() == base.origin() || !elsewhere.contains(&host.origin()));
        let mut access = Access {
            account,
            environment,
            connector,
            renewal: method.token.is_some().then(Renewal::default),
            method,
            generation,
            base,
            hosts,
            token_urls,
            headers,
            query: Vec::new(),
            fields,
            secrets,
            trust,
            facts,
            load: Handle::default(),
        };
        if access.renewal.is_none() {
            access.authenticate()?;
        }
        Ok(access)
    }

    /// The same with this access token, which `by` renews.
    pub fn with_token(mut self, token: Token, by: Weak<dyn Renew>) -> Result<Access, FieldProblem> {
        self.renewal = Some(Renewal::of(&token, self.account, by));
        self.secrets.extend(token.refresh.map(|refresh| (REFRESH_TOKEN.to_owned(), refresh)));
        self.secrets.insert(ACCESS_TOKEN.to_owned(), token.secret);
        self.authenticate()?;
        Ok(self)
    }

    /// Lays the credential over the headers and parameters.
    fn authenticate(&mut self) -> Result<(), FieldProblem> {
        let values = self.values();
        let mut headers = Vec::new();
        let mut query = Vec::new();
        match &self.method.auth {
            Auth::None => {}
            Auth::Bearer(token) => headers.push((header::AUTHORIZATION, values.credential(token, |t| format!("Bearer {t}"))?)),
            Auth::Basic { username, password } => headers.push((header::AUTHORIZATION, values.basic(username, password)?)),
            Auth::Headers(pairs) => {
                for (name, value) in pairs {
                    headers.push((values.header_name(name)?, values.credential(value, |t| t)?));
                }
            }
            Auth::Query(pairs) => {
                for (name, value) in pairs {
                    let text = Secret::new(values.text(value)?);
                    query.push((name.clone(), Secret::new(query::encode(text.expose()))));
                }
            }
        }
        self.headers.extend(headers);
        self.query.extend(query);
        Ok(())
    }

    /// What a template of the method's says, over its fields.
    pub(super) fn text(&self, template: &Template) -> Result<Secret, FieldProblem> {
        self.values().text(template).map(Secret::new)
    }

    /// What the next access token is got with, where the vendor gave such a thing.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.secrets.get(REFRESH_TOKEN)
    }

    /// Whether another access token can be had without the customer.
    pub fn can_renew(&self) -> bool {
        self.renewal.is_some() && (!self.method.needs_browser() || self.refresh_token().is_some())
    }

    /// The same for the OAuth app that its operator registered with the vendor.
    pub fn with_app(mut self, client_id: &str, client_secret: &Secret) -> Access {
        self.fields.insert(APP_ID.to_owned(), client_id.to_owned());
        self.secrets.insert(APP_SECRET.to_owned(), client_secret.clone());
        self
    }

    /// The id of that app, if it was laid over.
    pub fn app_id(&self) -> Option<&str> {
        self.fields.get(APP_ID).map(String::as_str)
    }

    /// The client's id as a token endpoint gets it, and its secret where it shows one.
    pub(super) fn client(&self, request: &TokenRequest) -> Result<(Secret, Option<Secret>), FieldProblem> {
        let text = |template: &Option<Template>| template.as_ref().map(|template| self.text(template)).transpose();
        Ok((text(&request.client_id)?.unwrap_or_else(|| Secret::new(String::new())), text(&request.client_secret)?))
    }

    fn values(&self) -> Values<'_> {
        Values { method: &self.method, fields: &self.fields, secrets: &self.secrets }
    }
}

struct Values<'a> {
    method: &'a LinkMethod,
    fields: &'a BTreeMap<String, String>,
    secrets: &'a BTreeMap<String, Secret>,
}

impl Values<'_> {
    fn text(&self, template: &Template) -> Result<String, FieldProblem> {
        let value = |name: &str| match self.secrets.get(name) {
            Some(secret) => Some(secret.expose()),
            None => self.fields.get(name).map(String::as_str),
        };
        template.render(Position::Text, value).map_err(|error| self.problem(template, error.to_string()))
    }

    /// A header of every request; secret only when a secret field stands in it.
    fn header(&self, template: &Template) -> Result<HeaderValue, FieldProblem> {
        let secret = template.names().any(|name| self.secrets.contains_key(name));
        let mut value = self.credential(template, |text| text)?;
        value.set_sensitive(secret);
        Ok(value)
    }

    fn credential(&self, template: &Template, form: impl Fn(String) -> String) -> Result<HeaderValue, FieldProblem> {
        let text = Secret::new(form(self.text(template)?));
        self.sensitive(template, text.expose())
    }

    fn basic(&self, username: &Template, password: &Template) -> Result<HeaderValue, FieldProblem> {
        let name = self.text(username)?;
        if name.contains(':') {
            return Err(self.problem(username, "a user name holds no colon".into()));
        }
        let pair = Secret::new(format!("{name}:{}", self.text(password)?));
        let text = Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())));
        self.sensitive(password, text.expose())
    }

    fn sensitive(&self, template: &Template, text: &str) -> Result<HeaderValue, FieldProblem> {
        let bad = || self.problem(template, "holds a character that may not stand in a header".into());
        let plain = text.bytes().all(|byte| byte == b'\t' || (0x20..0x7f).contains(&byte));
        if !plain || text.trim() != text {
            return Err(bad());
        }
        let mut value = HeaderValue::from_str(text).map_err(|_| bad())?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn header_name(&self, template: &Template) -> Result<HeaderName, FieldProblem> {
        let text = self.text(template)?;
        let name =
            HeaderName::from_bytes(text.as_bytes()).map_err(|_| self.problem(template, "is not the name of a header".into()))?;
        match super::headers::may_inject(&name) {
            true => Ok(name),
            false => Err(self.problem(template, "this header cannot carry a credential".into())),
        }
    }

    /// Blames the template's first field that the customer fills in.
    fn problem(&self, template: &Template, message: String) -> FieldProblem {
        let declared = |name: &&str| self.method.field(name).is_some();
        FieldProblem { field: template.names().find(declared).unwrap_or("auth").to_owned(), message }
    }
}
