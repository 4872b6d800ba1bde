//! Account tokens from the inside, under a clock that can be moved: how long one is good, and what it ends with.

use std::{sync::Arc, time::Duration};

use rollcall::{
    app::Core,
    error::Code,
    model::{EnvironmentId, Scope, Scopes},
    service::{Bound, Caller, NewAccount, NewToken},
};

use super::{ended::side, inside, link, new_account};
use crate::e2e::vendor::Vendor;

const LIFE: Duration = Duration::from_secs(15 * 60);

async fn caller(core: &Core, environment: EnvironmentId, scopes: &[Scope]) -> Arc<Caller> {
    let scopes = Scopes(scopes.iter().copied().collect());
    let new = NewToken { name: "maker".to_owned(), scopes, expires_at: None };
    let (_, text) = core.services.tokens.create(environment, new).await.unwrap();
    core.services.tokens.authenticate(text.expose()).await.unwrap()
}

#[tokio::test]
async fn an_account_token_is_good_for_a_quarter_of_an_hour() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let tokens = &core.services.tokens;
    let linked = link(&core, &vendor).await;
    let account = &linked.account;
    let maker = caller(&core, core.environment, &[Scope::AccountsRead, Scope::DirectoryRead, Scope::EventsRead]).await;
    let made = tokens.make_for_account(&maker, account, None).await.unwrap();
    assert_eq!(made.expires_in, 900);
    let holder = tokens.authenticate(made.text.expose()).await.unwrap();
    assert_eq!((holder.environment, holder.token, &holder.actor), (core.environment, maker.token, &maker.actor));
    assert_eq!(
        holder.scopes,
        Scopes([Scope::AccountsRead, Scope::DirectoryRead].into()),
        "what is not over an account stays behind"
    );
    assert_eq!(holder.bound.map(|bound| bound.account), Some(account.id));
    clock.advance(LIFE - Duration::from_secs(1));
    assert!(tokens.authenticate(made.text.expose()).await.is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(tokens.authenticate(made.text.expose()).await.unwrap_err().code(), Code::InvalidToken);
}

#[tokio::test]
async fn an_account_token_ends_with_its_maker_and_with_its_account() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let (tokens, accounts) = (&core.services.tokens, &core.services.accounts);
    let linked = link(&core, &vendor).await;
    let id = linked.account.id;
    let maker = caller(&core, core.environment, &[Scope::AccountsRead, Scope::DirectoryRead]).await;
    let other = caller(&core, core.environment, &[Scope::AccountsRead, Scope::DirectoryRead]).await;
    let first = tokens.make_for_account(&maker, &linked.account, None).await.unwrap().text;
    let second = tokens.make_for_account(&other, &linked.account, None).await.unwrap().text;
    tokens.revoke(core.environment, &maker.token.to_string()).await.unwrap();
    assert_eq!(tokens.authenticate(first.expose()).await.unwrap_err().code(), Code::InvalidToken);
    let holder = tokens.authenticate(second.expose()).await.unwrap();
    assert_eq!(accounts.open_for(&holder, &id.to_string()).await.unwrap().account.id, id);

    accounts.delete(core.environment, &id.to_string()).await.unwrap();
    for error in [accounts.open_for(&holder, &id.to_string()).await.err(), accounts.own(&holder).await.err()] {
        assert_eq!(error.unwrap().code(), Code::InvalidToken);
    }
    // An account that comes later under the same id is another one, however soon it comes.
    let again = || NewAccount { id: Some(id), ..new_account("bearer", vendor.context()) };
    clock.advance(Duration::from_millis(1));
    accounts.import(core.environment, again()).await.unwrap();
    for error in [accounts.open_for(&holder, &id.to_string()).await.err(), accounts.own(&holder).await.err()] {
        assert_eq!(error.unwrap().code(), Code::InvalidToken);
    }
    // A token of an earlier release does not say which one it means.
    let bound = Some(Bound { made_at: None, ..holder.bound.unwrap() });
    let old = Caller { bound, ..(*holder).clone() };
    assert!(accounts.open_for(&old, &id.to_string()).await.is_ok());
    accounts.delete(core.environment, &id.to_string()).await.unwrap();
    clock.advance(Duration::from_secs(60));
    let (newest, _) = accounts.import(core.environment, again()).await.unwrap();
    for error in [accounts.open_for(&old, &id.to_string()).await.err(), accounts.own(&old).await.err()] {
        assert_eq!(error.unwrap().code(), Code::InvalidToken);
    }
    let third = tokens.make_for_account(&other, &newest, None).await.unwrap().text;
    let holder = tokens.authenticate(third.expose()).await.unwrap();
    assert!(accounts.open_for(&holder, &id.to_string()).await.is_ok() && accounts.own(&holder).await.is_ok());
}

#[tokio::test]
async fn an_account_token_reaches_nothing_beside_its_account_and_nothing_behind_another_wall() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let (tokens, accounts) = (&core.services.tokens, &core.services.accounts);
    let (linked, other) = (link(&core, &vendor).await, link(&core, &vendor).await.account.id);
    let (account, own) = (&linked.account, linked.account.id);
    let maker = caller(&core, core.environment, &[Scope::Admin]).await;
    let holder = tokens.authenticate(tokens.make_for_account(&maker, account, None).await.unwrap().text.expose()).await.unwrap();
    let error = accounts.open_for(&holder, &other.to_string()).await.err().unwrap();
    assert_eq!((error.code(), error.detail()), (Code::NotFound, rollcall::error::Error::not_found().detail()));
    assert!(!holder.scopes.allow(Scope::Admin) && holder.scopes.allow(Scope::ProxyWrite));

    let stranger = caller(&core, side(&core, &clock).await.id, &[Scope::Admin]).await;
    let foreign =
        tokens.authenticate(tokens.make_for_account(&stranger, account, None).await.unwrap().text.expose()).await.unwrap();
    assert_eq!(accounts.open_for(&foreign, &own.to_string()).await.err().unwrap().code(), Code::InvalidToken);
    assert_eq!(accounts.own(&foreign).await.unwrap_err().code(), Code::InvalidToken);

    // Whoever is bound to nothing has no account of his own.
    assert_eq!(accounts.own(&maker).await.unwrap_err().code(), Code::NotFound);
    let unbound = Caller { bound: None, ..(*holder).clone() };
    assert!(accounts.open_for(&unbound, &other.to_string()).await.is_ok());
    let bound = Some(Bound { account: other, ..holder.bound.unwrap() });
    assert!(accounts.open_for(&Caller { bound, ..unbound }, &other.to_string()).await.is_ok());
}
