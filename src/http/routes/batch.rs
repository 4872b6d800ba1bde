//! Several calls in one request.

use std::sync::Arc;

use actix_web::{HttpRequest, post, web::Data};
use futures_util::future::join;

use crate::{
    http::{
        Answer, State,
        batch::{self, BatchAnswer, BatchRequest, Plan},
        envelope,
        extract::{AnyToken, Caller},
        write::Write,
    },
    service::{Run, Services},
};

/// Makes up to 50 calls for one account, each after those it depends on, and follows every list to its end. An entry needs the
/// scope that its call needs; one that fails stops only the entries that need it, and the whole is 200 all the same.
#[utoipa::path(tag = "batch", security(("bearer" = [])), request_body = BatchRequest, responses(
    (status = 200, description = "What the entries found, and how each went.", body = BatchAnswer)
))]
#[post("/batch-request")]
pub async fn run_batch(caller: Caller<AnyToken>, write: Write<BatchRequest>, request: HttpRequest, state: Data<State>) -> Answer {
    let (calls, served) = batch::open(request);
    let is_keyed = write.is_keyed();
    // Under a key every write of the batch has one of its own, so that a batch that was cut off makes nothing twice.
    let work = async move |_: Arc<Services>, body: BatchRequest, run: Run| {
        let key = is_keyed.then(|| run.id.simple().to_string());
        envelope::changed(&batch::run(Plan::new(body)?, calls, key).await?)
    };
    let served = state.services.passthrough.tasks.finish_here(served);
    join(write.answer(&caller, &state, work), served).await.0
}
