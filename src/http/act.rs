//! What a write is called in the audit log. The word comes from the route's pattern and the method, in this one place, so that a
//! route that is new is noted from the start.

use std::{borrow::Cow, sync::Arc};

use actix_web::{HttpMessage, HttpRequest, http::Method};
use serde::Deserialize;
use url::form_urlencoded;

use super::{State, extract::state, gate::RequestId, watch::Concerned};
use crate::{
    error::{Code, Result},
    model::{AccountId, Resource, environment_integration_id},
    service::{
        Act, Caller, Deleter, Reply, Run, Services,
        audit::{AuditOutcome, Ended},
        request_log::About,
    },
};

/// What a write is to the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// It changes objects of ours: answered when its entry is written.
    Ours,
    /// It changes a vendor's records: noted before, its entry follows.
    Vendors,
    /// It passes through: noted only where the operator wants it.
    Passing,
}

/// What a route and a method are called.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    action: Cow<'static, str>,
    kind: Cow<'static, str>,
    weight: Weight,
}

/// Words that are not made of noun and method.
const WORDS: &[(&str, &str)] = &[
    ("api_token.delete", "api_token.revoke"),
    ("integrated_account.create", "integrated_account.import"),
    ("integrated_account.token", "account_token.create"),
    ("integrated_account.me", "integrated_account.change"),
    ("integrated_account.credentials", "integrated_account.change_credentials"),
];
/// Verbs that make an object, whose id the run knows.
const MAKING: &[&str] = &[".create", ".import"];
const ACCOUNT: &str = "integrated_account";
const PROXY_METHOD: &str = "proxy.method";
const INSTALL: &str = "environment_integration.create";
const ACCOUNT_TOKEN: &str = "account_token";
/// What makes an object whose id comes of its secret: the answer tells it.
const TOLD: &[&str] = &["link_token.create"];
/// Nouns whose objects a caller makes out of others: what the calls of a batch do is noted of each.
const UNNOTED: &[&str] = &["batch-request"];

/// The word for a write of this route; none where it is not noted.
fn name(method: &Method, pattern: &str, removes_member: bool) -> Option<Name> {
    let is_fixed = |part: &&str| !part.is_empty() && !part.starts_with('{');
    let mut parts = pattern.split('/').filter(is_fixed);
    let room = parts.next()?;
    let rest: Vec<&str> = parts.collect();
    match room {
        room if UNNOTED.contains(&room) => None,
        "passthrough" | "custom" => Some(of(format!("{room}.call"), ACCOUNT, Weight::Passing)),
        "unified" => Some(unified(method, rest.get(1..).unwrap_or_default(), removes_member)),
        "proxy" => Some(of(format!("proxy.{}", proxy_verb(method, pattern)), "record", Weight::Vendors)),
        room => {
            let noun = room.replace('-', "_");
            let verb = rest.last().map_or(Cow::Borrowed(verb(method)), |verb| verb.replace('-', "_").into());
            let word = format!("{noun}.{verb}");
            let known = WORDS.iter().find(|(made, _)| *made == word).map(|(_, word)| (*word).to_owned());
            let word = known.unwrap_or(word);
            let kind = word.split('.').next().unwrap_or_default().to_owned();
            Some(of(word, kind, Weight::Ours))
        }
    }
}

fn of(action: String, kind: impl Into<Cow<'static, str>>, weight: Weight) -> Name {
    Name { action: action.into(), kind: kind.into(), weight }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::DELETE => "delete",
        _ => "change",
    }
}

/// `POST` with one more segment is a method of the vendor's own.
fn proxy_verb(method: &Method, pattern: &str) -> &'static str {
    if *method == Method::POST && pattern.ends_with("/{id}") { "method" } else { verb(method) }
}

fn unified(method: &Method, nouns: &[&str], removes_member: bool) -> Name {
    let member = |verb: &str| of(format!("unified.group_member.{verb}"), "group_member", Weight::Vendors);
    match nouns {
        ["groups", "members"] => member(verb(method)),
        ["groups", "add-user"] => member("create"),
        ["groups", "remove-user"] => member("delete"),
        ["users"] if removes_member => member("delete"),
        [] => of("unified.method".to_owned(), "record", Weight::Vendors),
        [noun, ..] => {
            let noun = singular(noun);
            of(format!("unified.{noun}.{}", verb(method)), noun, Weight::Vendors)
        }
    }
}

fn singular(noun: &str) -> String {
    let is_known = Resource::ALL.iter().any(|resource| resource.plural() == noun);
    let one = noun.strip_suffix("ies").map(|stem| format!("{stem}y")).or_else(|| noun.strip_suffix('s').map(str::to_owned));
    one.filter(|_| is_known).unwrap_or_else(|| noun.replace('-', "_"))
}

/// A write that will be noted.
pub struct Noted {
    act: Act,
    weight: Weight,
    /// It makes an object of ours, whose id its run knows.
    makes: bool,
}

/// What a body says of whom it is about.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Labelled<'b> {
    #[serde(borrow)]
    tenant_id: Option<Cow<'b, str>>,
    #[serde(borrow)]
    integrated_account_id: Option<Cow<'b, str>>,
    /// The account that is asked for, or that the new one shall be.
    #[serde(borrow)]
    id: Option<Cow<'b, str>>,
    /// The account whose data key is to be made anew.
    #[serde(borrow)]
    account: Option<Cow<'b, str>>,
    /// The connector that is to be installed, by its slug or either of its ids.
    #[serde(borrow, alias = "integration_id")]
    integration: Option<Cow<'b, str>>,
}

/// The write of this request as the audit log has it; none where it is not noted.
pub fn of_write(request: &HttpRequest, caller: &Caller, body: &[u8]) -> Result<Option<Noted>> {
    let removes_member = form_urlencoded::parse(request.query_string().as_bytes()).any(|(name, _)| name == "remove_from");
    let Some(pattern) = request.match_pattern() else { return Ok(None) };
    let Some(Name { action, kind, weight }) = name(request.method(), &pattern, removes_member) else { return Ok(None) };
    if weight == Weight::Passing && !state(request)?.services.audit.notes_passing() {
        return Ok(None);
    }
    let (account, tenant) = concerned(request);
    let part = |name: &str| request.match_info().get(name).map(str::to_owned);
    let mut act = Act { action, target_kind: Some(kind.into_owned()), account, tenant, ..begin(request, caller) };
    match weight {
        Weight::Ours => {
            let said = serde_json::from_slice::<Labelled<'_>>(body).unwrap_or_default();
            act.tenant = said.tenant_id.map(Cow::into_owned);
            let is_account = act.target_kind.as_deref() == Some(ACCOUNT);
            let place = part("id").map(|id| in_environment(request, &act, &id).unwrap_or(id));
            act.target_id = place.or_else(|| {
                let named = said.id.map(Cow::into_owned).filter(|_| is_account);
                named
                    .or_else(|| caller.own_account().filter(|_| is_account))
                    .or_else(|| installed(request, &act, said.integration?))
            });
            let named = act.target_id.as_deref().filter(|_| is_account);
            let named = named.or(said.integrated_account_id.as_deref()).or(said.account.as_deref());
            act.account = named.and_then(|id| id.parse().ok());
            if act.target_kind.as_deref() == Some(ACCOUNT_TOKEN) {
                // It is kept nowhere: what it reaches is what it is known by.
                act.target_id = act.account.map(|account| account.to_string());
            }
        }
        Weight::Vendors => {
            act.target_id = part("member_id").or_else(|| part("id"));
            if let Some(resource) = part("resource") {
                let is_method = act.action == PROXY_METHOD;
                let method = if is_method { act.target_id.take() } else { part("method") };
                act.target_kind = Some(method.map_or(resource.clone(), |method| format!("{resource}.{method}")));
            }
        }
        Weight::Passing => act.target_id = act.account.map(|account| account.to_string()),
    }
    let makes = weight == Weight::Ours && MAKING.iter().any(|verb| act.action.ends_with(verb));
    Ok(Some(Noted { act, weight, makes }))
}

/// The id of what was made, as its caller is told.
fn id_in(reply: &Reply) -> Option<String> {
    #[derive(Deserialize)]
    struct Made {
        id: String,
    }
    serde_json::from_slice::<Made>(&reply.body).ok().map(|made| made.id)
}

/// The id of the connector that is to be installed, which has it before it is.
fn installed(request: &HttpRequest, act: &Act, named: Cow<'_, str>) -> Option<String> {
    let services = &state(request).ok()?.services;
    let connector = services.installs.resolve(act.environment, &named).ok().filter(|_| act.action == INSTALL)?;
    Some(environment_integration_id(act.environment, &connector.slug).to_string())
}

/// The id of a connector within its environment, where a path has the connector's own.
fn in_environment(request: &HttpRequest, act: &Act, id: &str) -> Option<String> {
    let is_install = act.target_kind.as_deref() == Some("environment_integration") && id.parse::<uuid::Uuid>().is_ok();
    let services = &state(request).ok().filter(|_| is_install)?.services;
    let connector = services.installs.resolve(act.environment, id).ok()?;
    Some(environment_integration_id(act.environment, &connector.slug).to_string())
}

/// Somebody asks for everything that is kept, of every environment.
pub fn of_backup(request: &HttpRequest, caller: &Caller) -> Act {
    let target_kind = Some("installation".to_owned());
    let target_id = Some(caller.environment.to_string());
    Act { action: "backup.read".into(), target_kind, target_id, ..begin(request, caller) }
}

/// Who deletes the accounts of a request that is about several.
pub fn deleter(request: &HttpRequest, caller: &Caller, state: &State) -> Deleter {
    Deleter { audit: Arc::clone(&state.services.audit), act: begin(request, caller) }
}

/// Somebody asks for everything that is kept of a customer.
pub fn of_export(request: &HttpRequest, caller: &Caller, tenant: &str) -> Act {
    let target_kind = Some("tenant".to_owned());
    Act { action: "tenant.export".into(), target_kind, tenant: Some(tenant.to_owned()), ..begin(request, caller) }
}

fn begin(request: &HttpRequest, caller: &Caller) -> Act {
    let request_id = request.extensions().get::<RequestId>().map(|id| id.0.to_string());
    let act = Act::of_gateway(caller.environment, "");
    Act { actor: caller.actor.clone(), token: Some(caller.token), request_id, ..act }
}

/// The account that was opened for this request, and its customer.
fn concerned(request: &HttpRequest) -> (Option<AccountId>, Option<String>) {
    let extensions = request.extensions();
    let about = extensions.get::<Concerned>().and_then(|concerned| concerned.about.as_ref());
    (about.map(About::account), about.and_then(About::names).map(|(tenant, _)| tenant.to_owned()))
}

impl Noted {
    /// Does the work of the write, noted before and entered afterwards.
    pub async fn around(self, services: Arc<Services>, run: Run, work: impl Future<Output = Result<Reply>>) -> Result<Reply> {
        let Self { mut act, weight, makes } = self;
        let is_told = TOLD.contains(&&*act.action);
        if makes && act.target_id.is_none() && !is_told {
            act.target_id = Some(run.id.to_string());
            if act.target_kind.as_deref() == Some(ACCOUNT) {
                act.account = Some(AccountId(run.id));
            }
        }
        if let (Weight::Ours, None, Some(account)) = (weight, &act.tenant, act.account) {
            match services.accounts.get(act.environment, &account.to_string()).await {
                Ok(account) => act.tenant = Some(account.tenant_id),
                Err(error) if error.code() == Code::StoreUnavailable => return Err(error),
                Err(_) => act.tenant = None,
            }
        }
        if weight == Weight::Passing {
            let outcome = work.await;
            services.audit.note(act, Ended::of(&outcome));
            return outcome;
        }
        let made = |reply: &Reply| if is_told { id_in(reply) } else { None };
        services.audit.around_naming(act, weight == Weight::Ours, work, made).await
    }

    /// Whether the work has to end although whoever asked for it leaves, because its entry says how it ended.
    pub fn needs_an_end(&self) -> bool {
        self.weight != Weight::Passing
    }
}

/// Notes a writing call of the passthrough that was answered, where the operator wants that.
pub fn note_passing(request: &HttpRequest, code: Option<&'static str>) -> Result<()> {
    let (account, tenant) = concerned(request);
    let (caller, status) = {
        let extensions = request.extensions();
        let concerned = extensions.get::<Concerned>();
        (concerned.and_then(|known| known.caller.clone()), concerned.and_then(|known| known.vendor.as_ref().map(|v| v.0)))
    };
    // Whoever has no token has done nothing.
    let Some(caller) = caller else { return Ok(()) };
    let Some(Name { action, kind, .. }) = name(request.method(), "/passthrough", false) else { return Ok(()) };
    let outcome = match (code, status) {
        (None, Some(status)) if status < 400 => AuditOutcome::Done,
        (Some(code), _) if code == Code::WriteUnconfirmed.row().name => AuditOutcome::Unknown,
        _ => AuditOutcome::Failed,
    };
    let target_id = account.map(|account| account.to_string());
    let act = Act { action, target_kind: Some(kind.into_owned()), target_id, account, tenant, ..begin(request, &caller) };
    state(request)?.services.audit.note(act, Ended { outcome, code });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_has_its_word() {
        let (post, patch, delete) = (Method::POST, Method::PATCH, Method::DELETE);
        for (method, pattern, action, kind, weight) in [
            (&post, "/api-token", "api_token.create", "api_token", Weight::Ours),
            (&delete, "/api-token/{id}", "api_token.revoke", "api_token", Weight::Ours),
            (&post, "/integrated-account", "integrated_account.import", "integrated_account", Weight::Ours),
            (&patch, "/integrated-account/{id}", "integrated_account.change", "integrated_account", Weight::Ours),
            (&delete, "/integrated-account/{id}", "integrated_account.delete", "integrated_account", Weight::Ours),
            (
                &post,
                "/integrated-account/{id}/status-refresh",
                "integrated_account.status_refresh",
                "integrated_account",
                Weight::Ours,
            ),
            (
                &patch,
                "/integrated-account/{id}/credentials",
                "integrated_account.change_credentials",
                "integrated_account",
                Weight::Ours,
            ),
            (
                &post,
                "/integrated-account/run-post-install-actions",
                "integrated_account.run_post_install_actions",
                "integrated_account",
                Weight::Ours,
            ),
            (&post, "/integrated-account/token", "account_token.create", "account_token", Weight::Ours),
            (&post, "/link-token", "link_token.create", "link_token", Weight::Ours),
            (&post, "/unified/user-directory/users", "unified.user.create", "user", Weight::Vendors),
            (&patch, "/unified/user-directory/groups/{id}", "unified.group.change", "group", Weight::Vendors),
            (
                &post,
                "/unified/user-directory/role_assignments",
                "unified.role_assignment.create",
                "role_assignment",
                Weight::Vendors,
            ),
            (
                &delete,
                "/unified/user-directory/groups/{id}/members/{member_id}",
                "unified.group_member.delete",
                "group_member",
                Weight::Vendors,
            ),
            (&post, "/unified/user-directory/groups/add-user", "unified.group_member.create", "group_member", Weight::Vendors),
            (&post, "/unified/{model}/{resource}/{method}", "unified.method", "record", Weight::Vendors),
            (&patch, "/proxy/{resource}/{id}", "proxy.change", "record", Weight::Vendors),
            (&post, "/proxy/{resource}/{id}", "proxy.method", "record", Weight::Vendors),
            (&post, "/custom/{path:.*}", "custom.call", "integrated_account", Weight::Passing),
        ] {
            let found = name(method, pattern, false).expect(pattern);
            assert_eq!((&*found.action, &*found.kind, found.weight), (action, kind, weight), "{method} {pattern}");
        }
        let member = name(&delete, "/unified/user-directory/users/{id}", true).unwrap();
        assert_eq!(member.action, "unified.group_member.delete", "nobody is taken away");
        assert_eq!(name(&delete, "/unified/user-directory/users/{id}", false).unwrap().action, "unified.user.delete");
        assert_eq!(name(&post, "/batch-request", false), None);
    }
}
