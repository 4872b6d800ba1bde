//! the way of a customer's browser to the real npm `oidc-provider` and back, and everything that is not it.

use rollcall::{
    app::Core,
    error::{Code, Error},
    model::{Account, Secret, Warning},
    service::{AuthorizeAsk, Begun, ListAccounts},
};
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::support::peers::{self, Peer};

struct Stand {
    _folder: TempDir,
    clock: Arc<ManualClock>,
    core: Core,
    peer: Peer,
}

impl Stand {
    async fn new() -> Stand {
        let peer = peers::oidc(600);
        let authority = peer.authority();
        let (folder, clock, core) = inside_of(authority).await;
        core.services.authorizations.reached_at("http://127.0.0.1:9999");
        Stand { _folder: folder, clock, core, peer }
    }

    fn context(&self) -> Value {
        let client = &self.peer.ready["browser"];
        json!({"base_url": self.peer.base(), "authorize_url": self.peer.told("authorize_url"), "token_url": self.peer.told("token_url"),
            "client_id": client["id"], "client_secret": client["secret"], "scope": "openid scim.read", "plan": "gold"})
    }

    async fn begin_with(&self, context: Value) -> Result<Begun, Error> {
        let new = new_account("oauth2", context);
        let ask =
            AuthorizeAsk { environment: self.core.environment, link: "the-link".to_owned(), apart: false, new, scopes: None };
        self.core.services.authorizations.begin(ask).await
    }

    async fn begin(&self) -> Begun {
        self.begin_with(self.context()).await.unwrap()
    }

    /// What the browser brings back once somebody has agreed.
    fn agree(&mut self, url: &Url) -> Vec<(String, String)> {
        let said = self.peer.order(&json!({"agree": url.as_str()}));
        let came = Url::parse(said["came"].as_str().unwrap()).unwrap_or_else(|_| panic!("{said}"));
        assert!(came.as_str().starts_with("http://127.0.0.1:9999/connect/scim/callback?"), "{came}");
        came.query_pairs().into_owned().collect()
    }

    /// An account, a refusal that belongs to the link, or an error that belongs to none.
    async fn finish(
        &self,
        connector: &str,
        query: Vec<(String, String)>,
        binding: Option<&Secret>,
    ) -> Result<Result<(Account, Vec<Warning>), Error>, Error> {
        let authorizations = &self.core.services.authorizations;
        let came_back = authorizations.take_back(connector, query, binding.map(Secret::expose)).await?;
        assert_eq!(came_back.link(), "the-link");
        Ok(authorizations.link(came_back, (false, Box::pin(async { Ok(()) }))).await)
    }

    async fn count(&self) -> usize {
        let wanted = ListAccounts { limit: 100, ..ListAccounts::default() };
        self.core.services.accounts.list(self.core.environment, wanted).await.unwrap().0.len()
    }
}

fn with(query: &[(String, String)], name: &str, value: Option<&str>) -> Vec<(String, String)> {
    let mut query: Vec<_> = query.iter().filter(|(given, _)| given != name).cloned().collect();
    query.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    query
}

fn stray<T>(outcome: Result<Result<T, Error>, Error>, what: &str) {
    let error = outcome.map(|_| ()).expect_err(what);
    assert_eq!((error.code(), error.field_name()), (Code::AuthorizationRefused, Some("state")), "{what}: {error}");
}

fn refused<T>(outcome: Result<Result<T, Error>, Error>, code: Code, what: &str) -> Error {
    let error = outcome.unwrap_or_else(|error| panic!("{what}: {error}")).map(|_| ()).expect_err(what);
    assert_eq!(error.code(), code, "{what}: {error}");
    error
}

#[tokio::test]
async fn a_customer_who_agrees_is_linked_and_stays_so() {
    let mut stand = Stand::new().await;
    let Begun { url, binding, .. } = stand.begin().await;
    let shown: Vec<_> = url.query_pairs().into_owned().collect();
    let of = |name: &str| shown.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone()).unwrap_or_default();
    assert_eq!((of("response_type").as_str(), of("code_challenge_method").as_str()), ("code", "S256"));
    assert_eq!(
        (of("scope").as_str(), of("redirect_uri").as_str()),
        ("openid scim.read", "http://127.0.0.1:9999/connect/scim/callback")
    );
    assert!(of("state").len() >= 43 && of("code_challenge").len() == 43);
    assert!(!url.as_str().contains("secret") && !url.as_str().contains(binding.expose()));
    let query = stand.agree(&url);
    let (account, _) = stand.finish("scim", query, Some(&binding)).await.unwrap().unwrap();
    assert_eq!((account.status, &account.context), (AccountStatus::Active, json!({"plan": "gold"}).as_object().unwrap()));
    let id = account.id.to_string();
    for turn in 0..5 {
        stand.peer.order(&json!({"revoke": true}));
        let linked = stand.core.services.accounts.open(stand.core.environment, &id).await.unwrap();
        let page = stand.core.services.directory.list(&linked, Resource::User, None, ListQuery::default()).await;
        assert_eq!(page.unwrap_or_else(|error| panic!("refresh {turn}: {error}")).count, 3);
        tokio::time::sleep(Duration::from_millis(1_050)).await;
    }
    let stored = stand.core.services.store.scan(&account_slot(account.id), "", None, 50).await.unwrap();
    for secret in ["access_token", "refresh_token", "synthetic-browser-secret"] {
        let found = stored.iter().find(|(_, entry)| entry.value.windows(secret.len()).any(|part| part == secret.as_bytes()));
        assert!(found.is_none(), "{secret} stands in {:?}", found.map(|(name, _)| name));
    }
}

#[tokio::test]
async fn r_12_nothing_else_links_an_account() {
    let mut stand = Stand::new().await;
    let begun = stand.begin().await;
    let query = stand.agree(&begun.url);
    let other = stand.begin().await;
    // None of these gets as far as using the state up.
    stray(stand.finish("scim", with(&query, "state", None), Some(&begun.binding)).await, "no state");
    stray(stand.finish("scim", with(&query, "state", Some("")), Some(&begun.binding)).await, "an empty state");
    stray(
        stand.finish("scim", with(&query, "state", Some("x".repeat(43).as_str())), Some(&begun.binding)).await,
        "another state",
    );
    let mut twice = query.clone();
    twice.extend(query.iter().filter(|(name, _)| name == "state").cloned());
    stray(stand.finish("scim", twice, Some(&begun.binding)).await, "two states");
    // Each of these ends its way.
    stray(stand.finish("scim", query.clone(), Some(&other.binding)).await, "another browser");
    stray(stand.finish("scim", query, Some(&begun.binding)).await, "used up by the browser before");
    let begun = stand.begin().await;
    let query = stand.agree(&begun.url);
    stray(stand.finish("scim", query, None).await, "a browser without the cookie");
    let begun = stand.begin().await;
    let query = stand.agree(&begun.url);
    stray(stand.finish("keeper", query, Some(&begun.binding)).await, "another connector's callback");
    let begun = stand.begin().await;
    let query = stand.agree(&begun.url);
    stand.clock.advance(Duration::from_secs(601));
    stray(stand.finish("scim", query, Some(&begun.binding)).await, "eleven minutes later");
    let begun = stand.begin().await;
    let query = stand.agree(&begun.url);
    let elsewhere = with(&query, "iss", Some("https://login.attacker.example"));
    refused(stand.finish("scim", elsewhere, Some(&begun.binding)).await, Code::AuthorizationRefused, "another issuer");
    assert_eq!(stand.count().await, 0, "no account was made");
}

#[tokio::test]
async fn r_12_a_code_counts_once_and_with_its_own_verifier() {
    let mut stand = Stand::new().await;
    let (first, second) = (stand.begin().await, stand.begin().await);
    let (query, other) = (stand.agree(&first.url), stand.agree(&second.url));
    let code = |query: &[(String, String)]| query.iter().find(|(name, _)| name == "code").unwrap().1.clone();
    let swapped = with(&query, "code", Some(&code(&other)));
    refused(stand.finish("scim", swapped, Some(&first.binding)).await, Code::CredentialRefused, "a code of another way");
    let third = stand.begin().await;
    let again = stand.agree(&third.url);
    stand.finish("scim", again.clone(), Some(&third.binding)).await.unwrap().unwrap();
    stray(stand.finish("scim", again.clone(), Some(&third.binding)).await, "the same answer twice");
    let fourth = stand.begin().await;
    let query = stand.agree(&fourth.url);
    let used = with(&query, "code", Some(&code(&again)));
    refused(stand.finish("scim", used, Some(&fourth.binding)).await, Code::CredentialRefused, "a code that was used");
    assert_eq!(stand.count().await, 1);
}

#[tokio::test]
async fn r_12_a_customer_who_says_no_is_told_so() {
    let stand = Stand::new().await;
    let state = |begun: &Begun| begun.url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let query =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
    let begun = stand.begin().await;
    let no = query(&[("state", &state(&begun)), ("error", "access_denied"), ("error_description", "the user\u{1b}[2J said no")]);
    let error = refused(stand.finish("scim", no, Some(&begun.binding)).await, Code::AuthorizationRefused, "no");
    assert!(error.detail().contains("Access was declined on the vendor's page (the user[2J said no)"), "{error}");
    let begun = stand.begin().await;
    let nothing = query(&[("state", &state(&begun))]);
    refused(stand.finish("scim", nothing, Some(&begun.binding)).await, Code::AuthorizationRefused, "neither code nor error");
    let begun = stand.begin().await;
    let made_up = query(&[("state", &state(&begun)), ("code", "made-up")]);
    refused(stand.finish("scim", made_up, Some(&begun.binding)).await, Code::CredentialRefused, "a code nobody gave");
    assert_eq!(stand.count().await, 0);
}

#[tokio::test]
async fn fields_are_checked_before_the_browser_leaves() {
    let stand = Stand::new().await;
    for (name, value) in [
        ("authorize_url", json!("http://10.0.0.1/auth")),
        ("token_url", json!("not an address")),
        ("base_url", json!(null)),
        ("client_secret", json!("")),
    ] {
        let mut context = stand.context();
        context[name] = value;
        let error = stand.begin_with(context).await.map(|_| ()).unwrap_err();
        assert_eq!(error.code(), Code::InvalidField, "{name}: {error}");
        assert_eq!(error.field_name(), Some(format!("context.{name}").as_str()), "{error}");
    }
    let new = |context: Value| new_account("oauth2", context);
    let accounts = &stand.core.services.accounts;
    let error = accounts.import(stand.core.environment, new(stand.context())).await.map(|_| ()).unwrap_err();
    assert_eq!((error.code(), error.field_name()), (Code::InvalidBody, Some("context.oauth.token")), "{error}");
    for oauth in [
        json!({}),
        json!({"token": {}}),
        json!({"token": {"access_token": ""}}),
        json!({"token": {"access_token": "a\nb"}}),
        json!("x"),
    ] {
        let mut context = stand.context();
        context["oauth"] = oauth.clone();
        let error = accounts.import(stand.core.environment, new(context)).await.map(|_| ()).unwrap_err();
        assert_eq!(error.field_name(), Some("context.oauth.token"), "{oauth}: {error}");
    }
    assert_eq!(stand.count().await, 0);
}
