//! Root keys and data keys: what is under which, and its rotation, piece by piece. The ring's file is changed by
//! `rollcall keys` on its machine, never over the network.

use std::sync::Arc;

use actix_web::{get, post, web::Data};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    error::{Code, Error, Result},
    http::{
        Answer, State, body, envelope,
        extract::{Admin, Caller},
        query::{KeyQuery, MOST_DAYS},
        write::Write,
    },
    model::AccountId,
    service::{KeyStatus, PlatformCursors, Rotate, Rotated, Run, Services},
};

/// Accounts of a piece, when nothing is said.
const PIECE: usize = 500;
/// The largest piece.
const LARGEST: usize = 5000;
/// Names the rotation in its cursors.
const LIST: &str = "key/rewrap";

/// What of the keys is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "for the document only; `query` reads what callers send")]
pub struct KeyParams {
    /// `false` leaves out the counts, for which every account is looked at.
    #[param(default = true)]
    count: Option<bool>,
    /// Data keys older than so many days are counted in `older_data_keys`.
    #[param(minimum = 0, maximum = 36500, default = 365)]
    older_than_days: Option<u32>,
}

/// `POST /key/rewrap`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RewrapKeys {
    /// `true` makes new data keys and seals everything anew; else the data keys stay and are wrapped by the primary root key.
    #[serde(default)]
    pub data_keys: bool,
    /// With `data_keys`: this account alone.
    #[serde(default)]
    pub account: Option<AccountId>,
    /// With `data_keys`: only data keys older than so many days.
    #[serde(default, deserialize_with = "body::whole")]
    #[schema(maximum = 36500)]
    pub older_than_days: Option<u32>,
    /// How many accounts are looked at.
    #[serde(default, deserialize_with = "body::whole")]
    #[schema(minimum = 1, maximum = 5000, default = 500)]
    pub limit: Option<usize>,
    /// Where the piece before ended.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// How a piece of a rotation ended.
#[derive(Serialize, ToSchema)]
pub struct RewrappedKeys {
    /// The root key that wraps what is new.
    pub primary: String,
    /// Accounts of this piece that have another key now.
    pub rewrapped: u64,
    /// Accounts of this piece that still have the old one, because they are changed all the time or do not open.
    pub left: u64,
    /// Whether the last piece is done.
    pub done: bool,
    /// Where the next piece begins; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// Which root keys there are, and what each has under it. Ids only; no key is ever shown.
#[utoipa::path(tag = "keys", security(("bearer" = ["admin"])), params(KeyParams), responses(
    (status = 200, description = "The root keys.", body = KeyStatus)
))]
#[get("/key")]
pub async fn get_keys(caller: Caller<Admin, KeyQuery>, state: Data<State>) -> Answer {
    let keys = &state.services.keys;
    keys.admit(&caller)?;
    envelope::object(&keys.status(caller.query.older_than).await?)
}

/// Does a piece of a rotation: brings accounts under the primary root key or, with `data_keys`, gives them new data keys, while
/// calls go on. Call it again with `next_cursor` until it is `done`. Beginning anew does no harm.
#[utoipa::path(tag = "keys", security(("bearer" = ["admin"])), request_body = RewrapKeys, responses(
    (status = 200, description = "How the piece ended.", body = RewrappedKeys)
))]
#[post("/key/rewrap")]
pub async fn rewrap_keys(caller: Caller<Admin>, write: Write<RewrapKeys>, state: Data<State>) -> Answer {
    state.services.keys.admit(&caller)?;
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, body: RewrapKeys, _: Run| {
        check(&body)?;
        let Rotated { primary, rotated, left, next } = match body.account {
            Some(account) => services.keys.rotate_account(account).await?,
            None => services.keys.rotate(piece(&services.cursors, environment, &body)?).await?,
        };
        let next_cursor = next.map(|next| services.cursors.seal(environment, LIST, next));
        envelope::changed(&RewrappedKeys { primary, rewrapped: rotated, left, done: next_cursor.is_none(), next_cursor })
    };
    write.answer(&caller, &state, work).await
}

fn check(body: &RewrapKeys) -> Result<()> {
    let invalid = |field: &str, detail: String| Err(Error::new(Code::InvalidBody, detail).field(field));
    let alone = [("account", body.account.is_some()), ("older_than_days", body.older_than_days.is_some())];
    if let Some((field, _)) = alone.iter().find(|(_, given)| *given && !body.data_keys) {
        return invalid(field, format!("`{field}` goes with `data_keys: true`: root keys are changed for all accounts."));
    }
    if body.older_than_days.is_some_and(|days| days > MOST_DAYS) {
        return invalid("older_than_days", format!("`older_than_days` takes a whole number from 0 to {MOST_DAYS}."));
    }
    if body.limit.is_some_and(|limit| !(1..=LARGEST).contains(&limit)) {
        return invalid("limit", format!("`limit` takes a whole number from 1 to {LARGEST}."));
    }
    Ok(())
}

fn piece(cursors: &PlatformCursors, environment: crate::model::EnvironmentId, body: &RewrapKeys) -> Result<Rotate> {
    let cursor = body.next_cursor.as_deref().filter(|cursor| !cursor.is_empty());
    Ok(Rotate {
        data_keys: body.data_keys,
        older_than: body.older_than_days.map(|days| SignedDuration::from_hours(i64::from(days) * 24)),
        limit: body.limit.unwrap_or(PIECE),
        after: cursor.map(|cursor| cursors.open(environment, LIST, cursor)).transpose()?,
    })
}
