//! The end of an environment: nothing comes to life in it any more, and what it leaves goes when its time has come.

use std::{collections::BTreeMap, sync::Mutex};

use rollcall::{
    model::{EnvironmentId, TokenId},
    service::{
        Act, Audit, Caller, Care, ChangeInstall, Environments, NewInstall,
        link::{Attempt, Filled, NewLink, View},
    },
    store::{
        Store,
        repo::{Environment, Installation},
    },
};
use tokio::runtime::Handle;

use super::*;
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
    NewAccount {
        tenant_id: "acme".to_owned(),
        integration: "scim".to_owned(),
        authentication_method: "oauth2".to_owned(),
        context,
        is_sandbox: false,
        id: Some(AccountId::generate()),
        if_there: IfThere::Stays,
        grant: None,
    }
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
