//! The end of an environment: nothing comes to life in it any more, and what it leaves goes when its time has come.

use std::{collections::BTreeMap, sync::Mutex};

use rollcall::{
    model::{EnvironmentId, TokenId, environment_integration_id},
    service::{
        Act, Audit, Caller, Care, ChangeInstall, Deleter, Environments, ListAccounts, ListTokens, NewInstall, Tokens,
        audit::AuditOutcome,
        link::{Attempt, Filled, NewLink, View},
    },
    store::{
        Store,
        repo::{Environment, Installation},
    },
};
use tokio::runtime::Handle;

use super::{
    audit::{entries, keys_of},
    refusing::{Cut, How},
    *,
};
use crate::support::meddled::{Meddled, Point};

const USERS: &str = r#"{"totalResults": 1, "Resources": [{"id": "1", "userName": "u", "active": true}]}"#;
const TOKENS: &str = r#"{"access_token": "one", "refresh_token": "next", "token_type": "bearer", "expires_in": 3600}"#;

/// What is done, once, while the vendor is asked.
type Meanwhile = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

fn vendor(meanwhile: &Meanwhile) -> Replay {
    let now = meanwhile.clone();
    Replay::start(move |seen| match seen.path.as_str() {
        "/token" => Reply::json(200, TOKENS),
        "/revoke" => Reply::json(200, "{}"),
        path if path.ends_with("/Users") => {
            let deed = now.lock().unwrap().take();
            deed.into_iter().for_each(|deed| deed());
            Reply::json(200, USERS)
        }
        _ => Reply::json(404, "{}"),
    })
}

fn fields(vendor: &Replay) -> BTreeMap<String, String> {
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", vendor.port);
    let addresses = [("base_url", "/scim"), ("authorize_url", "/auth"), ("token_url", "/token"), ("revoke_url", "/revoke")];
    let mut fields: BTreeMap<String, String> = addresses.map(|(name, path)| (name.to_owned(), at(path))).into();
    fields.insert("client_id".to_owned(), "me".to_owned());
    fields.insert("client_secret".to_owned(), "synthetic-secret".to_owned());
    fields
}

/// An account that spends a refresh token.
fn wanted(vendor: &Replay) -> NewAccount {
    let mut context = json!(fields(vendor)).as_object().unwrap().clone();
    context.insert("oauth".to_owned(), json!({"token": {"refresh_token": "first"}}));
    NewAccount { id: Some(AccountId::generate()), if_there: IfThere::Stays, ..new_account("oauth2", Value::Object(context)) }
}

fn count(vendor: &Replay, path: &str) -> usize {
    vendor.seen().iter().filter(|seen| seen.path == path).count()
}

fn operator(core: &Core) -> Caller {
    Caller {
        environment: core.environment,
        token: TokenId::generate(),
        actor: "operator".to_owned(),
        scopes: Scopes([Scope::Admin].into()),
        bound: None,
    }
}

pub(super) async fn side(core: &Core, clock: &ManualClock) -> Environment {
    let side = Environment {
        id: EnvironmentId::generate(),
        name: "side".to_owned(),
        created_at: clock.now(),
        updated_at: None,
        later: Default::default(),
    };
    installation(core).create_environment(&side).await.unwrap();
    side
}

fn installation(core: &Core) -> Installation {
    Installation::new(core.services.store.clone())
}

async fn end(core: &Core, side: &Environment) {
    core.services.environments.delete(&operator(core), &side.id.to_string()).await.unwrap();
}

/// The environments over another store.
fn environments(core: &Core, store: Arc<dyn Store>, clock: &Arc<ManualClock>) -> Environments {
    let tokens = repo::Tokens::new(core.services.store.clone());
    Environments::new(Installation::new(store), core.services.accounts.clone(), tokens, clock.clone(), core.environment)
}

async fn names(core: &Core, slot: String) -> Vec<String> {
    let found = core.services.store.scan(&Slot::new(slot), "", None, 1_000).await.unwrap();
    found.into_iter().map(|(name, _)| name).collect()
}

#[tokio::test]
async fn an_account_that_is_linked_while_its_environment_ends_goes_with_it() {
    let meanwhile = Meanwhile::default();
    let vendor = vendor(&meanwhile);
    let (_folder, clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
    let (accounts, records) = (&core.services.accounts, repo::Accounts::new(core.services.store.clone()));
    // The environment ends first.
    let one = side(&core, &clock).await;
    let (services, caller, handle, text) = (core.services.clone(), operator(&core), Handle::current(), one.id.to_string());
    *meanwhile.lock().unwrap() = Some(Box::new(move || handle.block_on(services.environments.delete(&caller, &text)).unwrap()));
    let new = wanted(&vendor);
    let id = new.id.unwrap();
    let error = accounts.import(one.id, new).await.map(|_| ()).unwrap_err();
    assert!(error.code() == Code::NotFound && error.detail().contains("nothing was linked"), "{error}");
    assert!(records.get(id).await.unwrap().is_none() && records.data_keys().get(id).await.unwrap().is_none());
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    assert_eq!(count(&vendor, "/revoke"), 1, "what was granted is given back");
    // The account is there first, though not when the environment was found to be empty.
    let two = side(&core, &clock).await;
    let (new, services, environment) = (wanted(&vendor), core.services.clone(), two.id);
    let id = new.id.unwrap();
    let link = async move { drop(services.accounts.import(environment, new).await.unwrap()) };
    let meddled = Meddled::at(core.services.store.clone(), Point::Removing("environment/"), link);
    environments(&core, meddled.clone(), &clock).delete(&operator(&core), &two.id.to_string()).await.unwrap();
    assert!(meddled.is_done() && records.get(id).await.unwrap().is_none());
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    assert_eq!(count(&vendor, "/revoke"), 2);
    assert_eq!(deeds(&core, two.id).await, [("integrated_account.delete".to_owned(), Some(id.to_string()))]);
}

/// What stands in the audit log of an environment: actions of the gateway's own, and what they were done to.
async fn deeds(core: &Core, environment: EnvironmentId) -> Vec<(String, Option<String>)> {
    let found = entries(&core.services.audit, environment).await;
    assert!(found.iter().all(|entry| entry.actor == "rollcall" && entry.outcome == AuditOutcome::Done), "{found:?}");
    found.into_iter().map(|entry| (entry.action, entry.target_id)).collect()
}

/// The account is stored, and the store does not say then whether its environment stands.
#[tokio::test]
async fn a_look_that_fails_does_not_fail_the_link_that_it_is_about() {
    for ends in [false, true] {
        let meanwhile = Meanwhile::default();
        let vendor = vendor(&meanwhile);
        let (_folder, clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
        let (cut, store) = Cut::before(core.services.store.clone());
        let (accounts, side) = (accounts_over(&core, store, &clock), side(&core, &clock).await);
        if ends {
            let (services, caller, handle, text) =
                (core.services.clone(), operator(&core), Handle::current(), side.id.to_string());
            let end = move || handle.block_on(services.environments.delete(&caller, &text)).unwrap();
            *meanwhile.lock().unwrap() = Some(Box::new(end));
        }
        cut.set(How::Unsaid);
        let (linked, _) = accounts.import(side.id, wanted(&vendor)).await.unwrap_or_else(|error| panic!("{ends}: {error}"));
        let records = repo::Accounts::new(core.services.store.clone());
        assert!(records.get(linked.id).await.unwrap().is_some(), "it is stored");
        cut.set(How::There);
        assert!(core.tasks.wait(Duration::from_secs(20)).await);
        let left = (records.get(linked.id).await.unwrap().is_some(), count(&vendor, "/revoke"));
        assert_eq!(left, if ends { (false, 1) } else { (true, 0) }, "what came too late goes once that is known");
    }
}

fn new_token() -> NewToken {
    NewToken { name: "late".to_owned(), scopes: Scopes([Scope::Admin].into()), expires_at: None }
}

#[tokio::test]
async fn no_token_outlives_the_environment_that_it_was_made_in() {
    let (_folder, clock, core) = inside_of("127.0.0.1:9".to_owned()).await;
    let tokens = &core.services.tokens;
    let lists = async |side: &Environment| names(&core, format!("env:{}", side.id)).await;
    // The environment ends first.
    let one = side(&core, &clock).await;
    end(&core, &one).await;
    let refused = tokens.create(one.id, new_token()).await.map(|_| ()).map_err(|error| error.code());
    assert_eq!((refused, lists(&one).await), (Err(Code::NotFound), Vec::new()));
    // The token is there first, though not when the environment was found to be empty.
    let two = side(&core, &clock).await;
    let (services, environment, made) = (core.services.clone(), two.id, Arc::new(Mutex::new(None)));
    let kept = made.clone();
    let make = async move {
        let made = services.tokens.create(environment, new_token()).await.unwrap();
        assert_eq!(services.tokens.authenticate(made.1.expose()).await.unwrap().environment, environment);
        *kept.lock().unwrap() = Some(made);
    };
    let meddled = Meddled::at(core.services.store.clone(), Point::Removing("environment/"), make);
    environments(&core, meddled.clone(), &clock).delete(&operator(&core), &two.id.to_string()).await.unwrap();
    let (token, text) = made.lock().unwrap().take().expect("it was made");
    assert_eq!(lists(&two).await, Vec::<String>::new());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(tokens.authenticate(text.expose()).await.unwrap_err().code(), Code::InvalidToken);
    assert_eq!(deeds(&core, two.id).await, [("api_token.revoke".to_owned(), Some(token.id.to_string()))]);
    // Nobody knows whether the environment stands: nobody has seen the token either.
    let three = side(&core, &clock).await;
    let (cut, store) = Cut::before(core.services.store.clone());
    let keys = keys_of(&core).await;
    let unsure = Tokens::new(repo::Tokens::new(store), keys, clock.clone(), core.tasks.clone(), Vec::new());
    cut.set(How::Unsaid);
    let refused = unsure.create(three.id, new_token()).await.map(|_| ()).map_err(|error| error.code());
    assert_eq!((refused, lists(&three).await), (Err(Code::StoreUnavailable), Vec::new()));
}

/// The id of a connector within an environment.
fn scim(environment: EnvironmentId) -> String {
    environment_integration_id(environment, &"scim".parse().unwrap()).to_string()
}

/// Ids of another environment's in the list of this one, as a write leaves them that was cut off before it was refused.
#[tokio::test]
async fn a_list_shows_nothing_of_another_environment() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let services = &core.services;
    let (account, side) = (link(&core, &vendor).await.account.id, side(&core, &clock).await);
    let (token, _) = services.tokens.create(core.environment, new_token()).await.unwrap();
    let put = |name: String| Write::Put { name, value: Default::default(), ttl: None, expect: Expect::Any };
    let writes = vec![put(format!("account/{account}")), put(format!("token/{}", token.id))];
    services.store.commit(Batch { slot: Slot::new(format!("env:{}", side.id)), fence: None, writes }).await.unwrap();
    let all = || ListAccounts { limit: 10, ..ListAccounts::default() };
    assert!(services.accounts.list(side.id, all()).await.unwrap().0.is_empty());
    let shown = services.tokens.list(side.id, ListTokens { limit: 10, ..ListTokens::default() }).await.unwrap().0;
    assert!(shown.is_empty(), "{shown:?}");
    let by = Deleter { audit: services.audit.clone(), act: Act::of_gateway(side.id, "") };
    let removed =
        tokio::time::timeout(Duration::from_secs(10), services.accounts.uninstall(side.id, &scim(side.id), Some(by))).await;
    removed.expect("it ends").unwrap();
    assert_eq!(services.accounts.list(core.environment, all()).await.unwrap().0.len(), 1, "it is its own environment's");
}

#[tokio::test]
async fn whoever_takes_a_connector_away_does_not_try_for_ever_to_delete_what_stays() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let account = link(&core, &vendor).await.account.id;
    let (cut, store) = Cut::before(core.services.store.clone());
    let accounts = accounts_over(&core, store, &clock);
    cut.set(How::Unlisted);
    let by = || Some(Deleter { audit: core.services.audit.clone(), act: Act::of_gateway(core.environment, "") });
    let tried =
        tokio::time::timeout(Duration::from_secs(10), accounts.uninstall(core.environment, &scim(core.environment), by())).await;
    assert_eq!(tried.expect("it ends").map_err(|error| error.code()), Err(Code::Busy));
    cut.set(How::There);
    accounts.uninstall(core.environment, &scim(core.environment), by()).await.unwrap();
    assert!(repo::Accounts::new(core.services.store.clone()).get(account).await.unwrap().is_none());
}

#[tokio::test]
async fn no_link_of_an_ended_environment_can_be_used() {
    let vendor = vendor(&Meanwhile::default());
    let (_folder, clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
    let (side, links) = (side(&core, &clock).await, &core.services.links);
    core.services.authorizations.reached_at("http://127.0.0.1:9999");
    let mut opened = Vec::new();
    for _ in 0..2 {
        let new = NewLink { tenant_id: Some("acme".to_owned()), ..NewLink::default() };
        let made = links.create(side.id, new).await.unwrap();
        opened.push(links.open(made.text.expose(), View::default()).await.unwrap_or_else(|error| panic!("{error}")));
    }
    let filled = || Filled { integration: "scim".to_owned(), method: "oauth2".to_owned(), fields: fields(&vendor), apart: false };
    // One customer is at the vendor's.
    let Ok(Attempt::Elsewhere(begun)) = links.submit(opened[0].1.clone(), filled()).await else { panic!("not sent there") };
    end(&core, &side).await;
    let state = begun.url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let query = vec![("state".to_owned(), state), ("code".to_owned(), "the-code".to_owned())];
    let back = links.finish("scim", query, Some(begun.binding.expose())).await;
    assert_eq!(back.err().map(|error| error.code()), Some(Code::InvalidToken));
    let (link, session) = &opened[1];
    assert_eq!(links.check(link, Some(session)).await.err().map(|error| error.code()), Some(Code::InvalidToken));
    assert!(links.why_over(link, session).await.unwrap().is_some());
    let sent = links.submit(session.clone(), filled()).await;
    assert_eq!(sent.err().map(|error| error.code()), Some(Code::InvalidToken));
    assert!(vendor.seen().is_empty(), "no vendor was asked");
}

#[tokio::test]
async fn an_environment_that_does_not_end_keeps_what_it_said_and_one_that_does_leaves_nothing_of_it() {
    let (_folder, clock, core) = inside_of("127.0.0.1:9".to_owned()).await;
    let (side, records) = (side(&core, &clock).await, installation(&core));
    let off = ChangeInstall { is_enabled: Some(false), ..ChangeInstall::default() };
    let new = NewInstall { integration: "scim".to_owned(), wanted: off };
    core.services.installs.install(side.id, new).await.unwrap();
    let said = async || repo::Installs::new(core.services.store.clone()).readable(side.id).await.unwrap().len();
    // Somebody gives it another name just then.
    let (renamed, now) = (records.clone(), Environment { name: "named anew".to_owned(), ..side.clone() });
    let before = side.clone();
    let rename = async move {
        let version = renamed.environment_versioned(now.id).await.unwrap().unwrap().1;
        renamed.rename_environment(&before, &now, version).await.unwrap();
    };
    let meddled = Meddled::at(core.services.store.clone(), Point::Removing("environment/"), rename);
    let ended = environments(&core, meddled.clone(), &clock).delete(&operator(&core), &side.id.to_string()).await;
    assert_eq!((meddled.is_done(), ended.map_err(|error| error.code())), (true, Err(Code::Conflict)));
    assert!(!core.services.installs.is_enabled(side.id, &"scim".parse().unwrap()).await.unwrap(), "it is as it was");
    // A node that is lost between both steps.
    let (side, version) = records.environment_versioned(side.id).await.unwrap().unwrap();
    records.delete_environment(&side, version, clock.now()).await.unwrap();
    assert_eq!(said().await, 1);
    core.services.care.clear_ended().await.unwrap();
    assert_eq!(said().await, 0);
}

#[tokio::test]
async fn what_an_ended_environment_leaves_goes_when_its_time_has_come() {
    let vendor = vendor(&Meanwhile::default());
    let (_folder, clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
    let (side, services) = (side(&core, &clock).await, &core.services);
    let sealed = installation(&core).system_keys().await.unwrap().unwrap().value;
    let keys = Arc::new(SystemKeys::open(&core.ring.load(), &sealed).unwrap());
    let log = repo::Audit::new(services.store.clone());
    let audit = Arc::new(Audit::new(log, keys, clock.clone(), core.tasks.clone(), (Some(90 * DAY), false)));
    let logs = (services.events.clone(), audit.clone());
    let records = (installation(&core), repo::Queues::new(services.store.clone()));
    let care = Care::new(services.accounts.clone(), logs, records, clock.clone(), Some(DAY));
    let (account, _) = services.accounts.import(side.id, wanted(&vendor)).await.unwrap();
    audit.around(Act::of_gateway(side.id, "thing.change"), true, async { Ok(()) }).await.unwrap();
    services.accounts.delete(side.id, &account.id.to_string()).await.unwrap();
    // What is to be told waits in its queue when the environment ends.
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    end(&core, &side).await;
    let (events, audited) = (format!("events:{}", side.id), format!("audit:{}", side.id));
    // Days since the end, what is left of events and of the audit log, and whether the environment is known.
    for (days, has_events, has_entries) in
        [(0, true, true), (29, true, true), (31, false, true), (89, false, true), (92, false, false)]
    {
        while clock.now().duration_since(side.created_at).as_hours() < days * 24 {
            clock.advance(DAY);
        }
        care.clear_ended().await.unwrap();
        let left = (names(&core, events.clone()).await, names(&core, audited.clone()).await);
        assert_eq!((!left.0.is_empty(), !left.1.is_empty()), (has_events, has_entries), "after {days} days: {left:?}");
        assert_eq!(installation(&core).ended().await.unwrap().len(), usize::from(has_entries), "after {days} days");
        assert_eq!(names(&core, format!("env:{}", side.id)).await, Vec::<String>::new(), "after {days} days");
    }
}
