//! Rights as parameter types: a handler that asks for no right does not compile, because nothing else gives it a caller.

use std::{marker::PhantomData, ops::Deref, sync::Arc};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::HeaderMap, web::Data};
use futures_util::future::LocalBoxFuture;

use super::{
    Problem, State,
    query::{AnyQuery, NoQuery, Pairs, Query},
    token,
    watch::Concerned,
};
use crate::{
    error::{Code, Error},
    model::Scope,
    service::{self, COMPANY_HEADER, Linked, request_log::About},
    upstream::headers::METHOD_OVERRIDES,
};

/// A right a handler can ask for.
pub trait Right: 'static {
    /// The scope; none where any valid token will do.
    const SCOPE: Option<Scope>;
    /// Whose tokens give it: an account token gives none that is not said to be its own.
    const OF: TokenKind = TokenKind::Api;
}

/// A kind of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// API tokens alone.
    Api,
    /// API tokens and account tokens.
    Either,
    /// Account tokens alone.
    Account,
}

/// A right that an account token gives over its account, as an API token does.
#[derive(Clone, Copy, Debug)]
pub struct OrAccount<R>(PhantomData<R>);

impl<R: Right> Right for OrAccount<R> {
    const SCOPE: Option<Scope> = R::SCOPE;
    const OF: TokenKind = TokenKind::Either;
}

/// A right that only an account token gives: the route means its account.
#[derive(Clone, Copy, Debug)]
pub struct OnlyAccount<R>(PhantomData<R>);

impl<R: Right> Right for OnlyAccount<R> {
    const SCOPE: Option<Scope> = R::SCOPE;
    const OF: TokenKind = TokenKind::Account;
}

/// Any valid token: what the call then does asks for rights of its own.
#[derive(Clone, Copy, Debug)]
pub struct AnyToken;

impl Right for AnyToken {
    const SCOPE: Option<Scope> = None;
}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident = $scope:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;
        impl Right for $name {
            const SCOPE: Option<Scope> = Some($scope);
        }
    )*};
}

rights! {
    /// `directory:read`.
    ReadDirectory = Scope::DirectoryRead;
    /// `directory:write`.
    WriteDirectory = Scope::DirectoryWrite;
    /// `proxy:read`.
    ReadProxy = Scope::ProxyRead;
    /// `proxy:write`.
    WriteProxy = Scope::ProxyWrite;
    /// `accounts:read`.
    ReadAccounts = Scope::AccountsRead;
    /// `accounts:write`.
    WriteAccounts = Scope::AccountsWrite;
    /// `links:write`.
    WriteLinks = Scope::LinksWrite;
    /// `events:read`.
    ReadEvents = Scope::EventsRead;
    /// `admin`.
    Admin = Scope::Admin;
}

/// The caller of one of our own routes, holding the right `R`, and what its query asks for.
pub struct Caller<R, Q = NoQuery> {
    /// Who calls.
    pub caller: Arc<service::Caller>,
    /// The query, every parameter of it understood.
    pub query: Q,
    right: PhantomData<R>,
}

impl<R, Q> Deref for Caller<R, Q> {
    type Target = service::Caller;
    fn deref(&self) -> &service::Caller {
        &self.caller
    }
}

impl<R> Caller<R, AnyQuery> {
    /// The account the call is for, if it names one or the token does.
    pub fn account(&self) -> Option<String> {
        self.query.one(ACCOUNT_PARAMETER).map(str::to_owned).or_else(|| self.caller.own_account())
    }
}

/// A caller holding the right `R`, and the account its `integrated_account_id` names, opened for calls.
pub struct LinkedAccount<R, Q = NoQuery> {
    /// Who calls.
    pub caller: Arc<service::Caller>,
    /// The account.
    pub linked: Arc<Linked>,
    /// The rest of the query.
    pub query: Q,
    right: PhantomData<R>,
}

impl<R: Right, Q: Query> FromRequest for Caller<R, Q> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let (caller, query) = admit::<R, Q, _>(&request, &[Q::NAMES], |_, pairs| Q::take(pairs)).await?;
            Ok(Self { caller, query, right: PhantomData })
        })
    }
}

/// The same for calls with a body: an account that is not there is told once the body is read, so that the connection stays.
pub struct Later<T>(pub Result<T, Problem>);

impl<R: Right, Q: Query> FromRequest for Later<LinkedAccount<R, Q>> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let found = LinkedAccount::from_request(request, payload);
        Box::pin(async move {
            match found.await {
                Err(problem) if problem.error().code() != Code::NotFound => Err(problem),
                found => Ok(Self(found)),
            }
        })
    }
}

/// The parameter that names the account on every data call.
pub const ACCOUNT_PARAMETER: &str = "integrated_account_id";

impl<R: Right, Q: Query> FromRequest for LinkedAccount<R, Q> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        let take = |caller: &service::Caller, pairs: &mut Pairs| {
            let named = pairs.take_one(ACCOUNT_PARAMETER)?.filter(|id| !id.is_empty());
            let id = named.or_else(|| caller.own_account()).ok_or_else(no_account)?;
            Ok((id, Q::take(pairs)?))
        };
        Box::pin(async move {
            let (caller, (id, query)) = admit::<R, Q, _>(&request, &[Q::NAMES, &[ACCOUNT_PARAMETER]], take).await?;
            let linked = open(&request, &caller, &id).await.map_err(|error| match error.code() {
                Code::NotFound => error.field(ACCOUNT_PARAMETER),
                _ => error,
            })?;
            Ok(Self { caller, linked, query, right: PhantomData })
        })
    }
}

/// Who calls, if the right `R` is held, and what `take` makes of the query, of which it must leave nothing.
async fn admit<R: Right, Q: Query, T>(
    request: &HttpRequest,
    names: &[&[&str]],
    take: impl FnOnce(&service::Caller, &mut Pairs) -> Result<T, Error>,
) -> Result<(Arc<service::Caller>, T), Error> {
    let services = &state(request)?.services;
    let caller = services.tokens.authenticate(token::bearer(request.headers())?).await?;
    Concerned::note(request, |concerned| concerned.caller = Some(Arc::clone(&caller)));
    if let Some(bound) = &caller.bound {
        Concerned::note(request, |concerned| concerned.about = Some(About::Asked(bound.account)));
    }
    Concerned::spent(request, services.rates.spend_of_token(&caller).await?);
    require::<R>(&caller)?;
    let mut pairs = Q::read(request.query_string())?;
    let taken = take(&caller, &mut pairs)?;
    pairs.finish(names)?;
    Ok((caller, taken))
}

/// Refuses unless the caller holds the right, by the kind of token that gives it.
pub fn require<R: Right>(caller: &service::Caller) -> Result<(), Error> {
    if caller.bound.is_some() && R::OF == TokenKind::Api {
        let detail = "An account token does not reach this route; send an API token.";
        return Err(Error::new(Code::TokenKind, detail));
    }
    R::SCOPE.map_or(Ok(()), |scope| caller.require(scope))?;
    if caller.bound.is_none() && R::OF == TokenKind::Account {
        let detail = "This route means the account of an account token, made by `POST /integrated-account/token`; with an API token \
                      name the account by its id.";
        return Err(Error::new(Code::TokenKind, detail));
    }
    Ok(())
}

/// Asks again, in the midst of a long answer, whether its caller may still read the account, which may be linked anew by now.
pub async fn reopen<R: Right>(request: &HttpRequest, id: &str) -> Result<Arc<Linked>, Error> {
    let services = &state(request)?.services;
    let caller = is_still_admitted::<R>(request).await?;
    services.accounts.open_for(&caller, id).await
}

/// Asks again, in the midst of a long answer, whether its caller has the right.
pub async fn is_still_admitted<R: Right>(request: &HttpRequest) -> Result<Arc<service::Caller>, Error> {
    let caller = state(request)?.services.tokens.authenticate(token::bearer(request.headers())?).await?;
    require::<R>(&caller)?;
    Ok(caller)
}

/// The company a call is made in, where its caller names one.
pub fn company(request: &HttpRequest) -> Result<Option<String>, Error> {
    let digits = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let invalid = || Error::new(Code::InvalidParameter, "The company is its number.").field(COMPANY_HEADER);
    let header = request.headers().get(COMPANY_HEADER);
    header.map(|value| value.to_str().ok().filter(digits).map(str::to_owned).ok_or_else(invalid)).transpose()
}

/// Whether a request asks its vendor to take its method for another.
pub fn overrides_method(headers: &HeaderMap) -> bool {
    METHOD_OVERRIDES.iter().any(|name| headers.contains_key(*name))
}

fn no_account() -> Error {
    Error::new(Code::InvalidParameter, "`integrated_account_id` is missing: every data call names the linked account it is for.")
        .field(ACCOUNT_PARAMETER)
}

/// The state of this server.
pub fn state(request: &HttpRequest) -> Result<&Data<State>, Error> {
    request.app_data::<Data<State>>().ok_or_else(|| Error::internal("the app has no state"))
}

/// Opens an account that the caller reaches and notes it for the logs.
pub async fn open(request: &HttpRequest, caller: &service::Caller, id: &str) -> Result<Arc<Linked>, Error> {
    let services = &state(request)?.services;
    let opened = services.accounts.open_for(caller, id).await;
    match &opened {
        Ok(linked) => {
            Concerned::note(request, |concerned| concerned.about = Some(About::Linked(Arc::clone(linked))));
            Concerned::spent(request, services.rates.spend_of_account(linked.account.id).await?);
        }
        Err(error) => Box::pin(note_unopened(request, caller, id, error)).await,
    }
    opened
}

/// An account that exists but cannot be opened is noted with its names; one that is not there as it was asked for.
async fn note_unopened(request: &HttpRequest, caller: &service::Caller, id: &str, why: &Error) {
    let Ok(account) = id.parse() else { return };
    let mut about = About::Asked(account);
    if let (false, Ok(state)) = (why.code() == Code::NotFound, state(request))
        && let Ok(known) = state.services.accounts.get(caller.environment, id).await
    {
        about = About::Known { account, tenant_id: known.tenant_id.into(), integration: known.connector };
    }
    Concerned::note(request, |concerned| concerned.about = Some(about));
}
