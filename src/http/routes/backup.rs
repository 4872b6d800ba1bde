//! Backups, for the operator.

use actix_web::{HttpRequest, get, web::Data};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    error::Result,
    http::{
        Answer, State, act,
        extract::{Admin, Caller},
        pieces::{self, Pieces},
    },
    service::{Services, backup::Dump},
};

/// What of a problem stands in the last line of a backup that broke off.
#[derive(Deserialize)]
struct Failure {
    code: String,
    detail: String,
}

impl Pieces for Dump {
    type Right = Admin;

    async fn next(&mut self, _: &Services) -> Result<Option<Bytes>> {
        self.read().await
    }

    async fn end(&mut self, _: &Services, problem: Option<&RawValue>) -> Bytes {
        let failure = problem.and_then(|problem| serde_json::from_str::<Failure>(problem.get()).ok());
        let unknown = || problem.map(|_| ("internal".to_owned(), "The backup broke off.".to_owned()));
        Dump::end(self, failure.map(|failure| (failure.code, failure.detail)).or_else(unknown))
    }
}

/// Everything that lives for ever, of every environment, as it is stored: secrets sealed, keys wrapped. A line for each value; the
/// last one is `end`, or the backup is not whole. `rollcall backup` makes files of it. For administrators of the environment
/// `default` alone, as long as they are: it ends with their token. The call stands in the audit log.
#[utoipa::path(tag = "backup", security(("bearer" = ["admin"])), responses(
    (status = 200, description = "Lines of JSON (`application/x-ndjson`).")
))]
#[get("/backup")]
pub async fn read_backup(caller: Caller<Admin>, request: HttpRequest, state: Data<State>) -> Answer {
    let services = &state.services;
    let begun = services.backups.begin(&caller);
    let dump = services.audit.around(act::of_backup(&request, &caller), true, begun).await?;
    pieces::answer(dump, request).await
}
