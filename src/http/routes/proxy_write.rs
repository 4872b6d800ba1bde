//! `/proxy/{resource}` create, update, delete and methods of the vendor's own: the vendor's words both ways.

use std::sync::Arc;

use actix_web::{
    HttpRequest, delete, patch, post,
    web::{Bytes, Data, Path},
};
use serde_json::value::RawValue;

use crate::{
    error::{Error, Result},
    http::{
        Answer, State,
        capability::{self, Verb},
        envelope,
        extract::{Later, LinkedAccount, OrAccount, Right, WriteProxy, company},
        query::ProxyWrite,
        schema::CallParams,
        schema_write::{CompanyParams, MethodResult, ProxyDeleted},
        write::{JsonText, NoBody, Write, WriteBody},
    },
    model::Resource,
    service::{Doing, Reply, Run, Services, VendorSaid, VendorWrite},
    upstream::WriteVerb,
};

/// Marks an answer that is only what the vendor said: nothing was read again.
const VENDOR_SAYS: &str = "vendor_says";

type Changes = Later<LinkedAccount<OrAccount<WriteProxy>, ProxyWrite>>;

/// Makes one of the vendor's own records. The body goes to the vendor as it is, and its answer comes back as it is.
#[utoipa::path(tag = "proxy", security(("bearer" = ["proxy:write"])), request_body = Object,
    params(
        ("resource" = String, Path, description = "The vendor's name of it; see `/capabilities`."),
        CallParams,
        CompanyParams
    ),
    responses(
        (status = 200, description = "The vendor's answer.", body = Object),
        (status = 201, description = "The vendor's answer, which says that it made the record.", body = Object),
        (status = 202, description = "The vendor's answer, which says that it will make the record.", body = Object),
        (status = 204, description = "The vendor says that it is done, and nothing else.")
    ))]
#[post("/proxy/{resource}")]
pub async fn create_proxy_resource(
    call: Changes,
    name: Path<String>,
    request: HttpRequest,
    write: Write<JsonText<false>>,
    state: Data<State>,
) -> Answer {
    let call = call.0?;
    let resource = capability::require_proxy(&call.linked, &name, Verb::Other("create"))?;
    let ask = VendorWrite { company: company(&request)?, ..VendorWrite::default() };
    let work = move |ask, JsonText(body): JsonText<false>| VendorWrite { body, ..ask };
    run(call, resource, Doing::Write(WriteVerb::Create), ask, write, &state, work).await
}

/// Changes one of the vendor's own records. The body goes to the vendor as it is, and its answer comes back as it is.
#[utoipa::path(tag = "proxy", security(("bearer" = ["proxy:write"])), request_body = Object,
    params(
        ("resource" = String, Path, description = "The vendor's name of it; see `/capabilities`."),
        ("id" = String, Path, description = "The vendor's id, percent-encoded."),
        CallParams,
        CompanyParams
    ),
    responses(
        (status = 200, description = "The vendor's answer.", body = Object),
        (status = 202, description = "The vendor's answer, which says that it will be done.", body = Object),
        (status = 204, description = "The vendor says that it is done, and nothing else.")
    ))]
#[patch("/proxy/{resource}/{id}")]
pub async fn update_proxy_resource(
    call: Changes,
    path: Path<(String, String)>,
    request: HttpRequest,
    write: Write<JsonText<false>>,
    state: Data<State>,
) -> Answer {
    let (call, (name, id)) = (call.0?, path.into_inner());
    let resource = capability::require_proxy(&call.linked, &name, Verb::Other("update"))?;
    let ask = VendorWrite { id: Some(id), company: company(&request)?, ..VendorWrite::default() };
    let work = move |ask, JsonText(body): JsonText<false>| VendorWrite { body, ..ask };
    run(call, resource, Doing::Write(WriteVerb::Update), ask, write, &state, work).await
}

/// Takes one of the vendor's own records away.
#[utoipa::path(tag = "proxy", security(("bearer" = ["proxy:write"])),
    params(
        ("resource" = String, Path, description = "The vendor's name of it; see `/capabilities`."),
        ("id" = String, Path, description = "The vendor's id, percent-encoded."),
        CallParams,
        CompanyParams
    ),
    responses((status = 200, description = "The vendor says that it is done.", body = ProxyDeleted)))]
#[delete("/proxy/{resource}/{id}")]
pub async fn delete_proxy_resource(
    call: Changes,
    path: Path<(String, String)>,
    request: HttpRequest,
    write: Write,
    state: Data<State>,
) -> Answer {
    let (call, (name, id)) = (call.0?, path.into_inner());
    let resource = capability::require_proxy(&call.linked, &name, Verb::Other("delete"))?;
    let ask = VendorWrite { id: Some(id), company: company(&request)?, ..VendorWrite::default() };
    run(call, resource, Doing::Write(WriteVerb::Delete), ask, write, &state, |ask, _: NoBody| ask).await
}

/// Calls a method of the vendor's own, as `/capabilities` names it. `_` for the resource means the only one that has it.
#[utoipa::path(tag = "proxy", security(("bearer" = ["proxy:write"])), request_body = Object,
    params(
        ("resource" = String, Path, description = "The vendor's name of it; see `/capabilities`."),
        ("id" = String, Path, description = "The method's name."),
        CallParams,
        CompanyParams
    ),
    responses((status = 200, description = "The vendor's answer.", body = MethodResult)))]
#[post("/proxy/{resource}/{id}")]
pub async fn run_proxy_method(
    call: Changes,
    path: Path<(String, String)>,
    request: HttpRequest,
    write: Write<JsonText<true>>,
    state: Data<State>,
) -> Answer {
    let (call, (name, method)) = (call.0?, path.into_inner());
    let resource = capability::require_method(&call.linked, &name, &method)?;
    run_method(call, resource, method, &request, write, &state).await
}

/// Calls a method of the vendor's own, whatever the right that was asked for.
pub(super) async fn run_method<R: Right>(
    call: LinkedAccount<R, ProxyWrite>,
    resource: Resource,
    method: String,
    request: &HttpRequest,
    write: Write<JsonText<true>>,
    state: &State,
) -> Answer {
    let ask = VendorWrite { company: company(request)?, ..VendorWrite::default() };
    let work = move |ask, JsonText(body): JsonText<true>| VendorWrite { body, ..ask };
    run(call, resource, Doing::Method(method), ask, write, state, work).await
}

async fn run<R: Right, B: WriteBody>(
    call: LinkedAccount<R, ProxyWrite>,
    resource: Resource,
    doing: Doing,
    ask: VendorWrite,
    write: Write<B>,
    state: &State,
    with_body: impl FnOnce(VendorWrite, B) -> VendorWrite + Send + 'static,
) -> Answer {
    let LinkedAccount { caller, linked, query: ProxyWrite(remote_query), .. } = call;
    let work = async move |services: Arc<Services>, body: B, run: Run| {
        if doing != Doing::Write(WriteVerb::Delete) {
            run.only_if_sure()?;
        }
        let ask = VendorWrite { remote_query, ..with_body(ask, body) };
        let id = ask.id.clone();
        let said = Box::pin(services.directory.write_verbatim(&linked, resource, doing.clone(), ask)).await?;
        reply(&doing, id, said)
    };
    write.answer(&caller, state, work).await
}

/// The vendor's words in the form of the answer.
fn reply(doing: &Doing, id: Option<String>, said: VendorSaid) -> Result<Reply> {
    let VendorSaid { status, body, by_command } = said;
    let warnings = if by_command { vec![VENDOR_SAYS.to_owned()] } else { Vec::new() };
    let has_words = !body.trim_ascii().is_empty();
    let reply = match doing {
        Doing::Method(_) => {
            let result: &[u8] = if has_words { &body } else { b"null" };
            Reply { status: 200, body: [b"{\"result\":", result, b"}"].concat(), ..Reply::default() }
        }
        Doing::Write(WriteVerb::Delete) => {
            let raw_response = Some(&body).filter(|_| by_command && has_words).map(raw).transpose()?;
            envelope::changed(&ProxyDeleted { id: id.unwrap_or_default(), raw_response })?
        }
        Doing::Write(_) => {
            let status = if has_words { status } else { 204 };
            Reply { status, body: if has_words { body.into() } else { Vec::new() }, ..Reply::default() }
        }
    };
    Ok(Reply { warnings, ..reply })
}

fn raw(body: &Bytes) -> Result<Box<RawValue>> {
    serde_json::from_slice(body).map_err(Error::internal)
}
