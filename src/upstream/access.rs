//! A decoded credential, ready for the hot path.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, header};
use serde_json::{Map, Value};

use super::{Trust, load::Handle, query};
use crate::{
    connector::{Auth, Connector, FieldProblem, LinkMethod, Position, Resolved, Template},
    model::{AccountId, EnvironmentId, Secret},
};

/// Everything needed to call a vendor for one account. Built once per credential generation, shared by reference.
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
    /// Every origin that may be called.
    pub hosts: Vec<url::Url>,
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
        let values = Values { method: &method, resolved: &resolved };
        let mut headers = Vec::new();
        for (name, template) in &method.headers {
            headers.push((name.clone(), values.header(template)?));
        }
        let mut query = Vec::new();
        match &method.auth {
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
        let trust = Trust::of(&resolved.fields)?;
        let Resolved { fields, secrets, base, hosts, .. } = resolved;
        Ok(Access {
            account,
            environment,
            connector,
            method,
            generation,
            base,
            hosts,
            headers,
            query,
            fields,
            secrets,
            trust,
            facts,
            load: Handle::default(),
        })
    }
}

struct Values<'a> {
    method: &'a LinkMethod,
    resolved: &'a Resolved,
}

impl Values<'_> {
    fn text(&self, template: &Template) -> Result<String, FieldProblem> {
        let value = |name: &str| match self.resolved.secrets.get(name) {
            Some(secret) => Some(secret.expose()),
            None => self.resolved.fields.get(name).map(String::as_str),
        };
        template.render(Position::Text, value).map_err(|error| self.problem(template, error.to_string()))
    }

    /// A header of every request; secret only when a secret field stands in it.
    fn header(&self, template: &Template) -> Result<HeaderValue, FieldProblem> {
        let secret = template.names().any(|name| self.resolved.secrets.contains_key(name));
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
