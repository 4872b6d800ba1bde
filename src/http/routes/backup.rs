//! Backups, for the operator.

use std::{convert::Infallible, rc::Rc};

use actix_web::{HttpMessage, HttpRequest, HttpResponse, get, web::Data};
use bytes::Bytes;
use futures_util::stream;

use crate::{
    error::{Code, Error, Result},
    http::{
        Answer, State,
        extract::{Admin, Caller, state},
        gate::{self, RequestId},
        lines::MEDIA_TYPE,
    },
    service::backup::Dump,
};

/// Everything that lives for ever, of every environment, as it is stored: secrets sealed, keys wrapped. A line for each value; the
/// last one is `end`, or the backup is not whole. `rollcall backup` makes files of it. For administrators of the environment
/// `default` alone.
#[utoipa::path(tag = "backup", security(("bearer" = ["admin"])), responses(
    (status = 200, description = "Lines of JSON (`application/x-ndjson`).")
))]
#[get("/backup")]
pub async fn read_backup(caller: Caller<Admin>, request: HttpRequest, state: Data<State>) -> Answer {
    let mut dump = state.services.backups.begin(&caller).await?;
    let first = dump.read().await?;
    let body = stream::unfold((first, Some(dump)), move |(ready, mut dump)| {
        let request = request.clone();
        async move {
            let bytes = match ready {
                Some(bytes) => bytes,
                None => next(&mut dump, &request).await?,
            };
            Some((Ok::<_, Infallible>(bytes), (None, dump)))
        }
    });
    Ok(HttpResponse::Ok().content_type(MEDIA_TYPE).streaming(body))
}

/// The next lines. After what went wrong, the last one says so.
async fn next(dump: &mut Option<Dump>, request: &HttpRequest) -> Option<Bytes> {
    match read(dump.as_mut()?, request).await {
        Ok(bytes) => bytes,
        Err(error) => {
            *dump = None;
            let id: Option<Rc<str>> = request.extensions().get::<RequestId>().map(|id| Rc::clone(&id.0));
            gate::log(&error, id.as_deref().unwrap_or_default());
            Some(Dump::broken_off(&error))
        }
    }
}

async fn read(dump: &mut Dump, request: &HttpRequest) -> Result<Option<Bytes>> {
    if state(request)?.readiness.is_draining() {
        return Err(Error::new(Code::ShuttingDown, "The gateway is being stopped before the backup has ended."));
    }
    dump.read().await
}
