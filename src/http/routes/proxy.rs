//! `/proxy/{resource}`: a connector's own named resources, as the vendor sends them.

use actix_web::{
    HttpRequest, get,
    web::{self, Data, Path},
};

use crate::{
    error::{Code, Error},
    http::{
        Answer, State,
        capability::{self, Verb},
        envelope,
        extract::{Caller, LinkedAccount, OrAccount, ReadProxy, Right, WriteProxy, open},
        query::{AnyQuery, ProxyList, ProxyOne},
        routes::unmatched,
        schema::{CallParams, PagingParams, ProxyListParams, ProxyOneParams, ProxyPage},
    },
};

/// A page of a vendor's own resource. Parameters that are not the gateway's go to the vendor.
#[utoipa::path(tag = "proxy", security(("bearer" = ["proxy:read"])),
    params(
        ("resource" = String, Path, description = "The vendor's name of it; see `/capabilities`."),
        CallParams,
        PagingParams,
        ProxyListParams
    ),
    responses((status = 200, description = "A page of the vendor's records.", body = ProxyPage)))]
#[get("/proxy/{resource}")]
pub async fn list_proxy_resource(
    call: LinkedAccount<OrAccount<ReadProxy>, ProxyList>,
    name: Path<String>,
    state: Data<State>,
) -> Answer {
    capability::require_proxy(&call.linked, &name, Verb::List)?;
    envelope::list(state.services.directory.proxy_list(&call.linked, &name, call.query.0).await?)
}

/// One of a vendor's own records, byte for byte.
#[utoipa::path(tag = "proxy", security(("bearer" = ["proxy:read"])),
    params(
        ("resource" = String, Path, description = "The vendor's name of it; see `/capabilities`."),
        ("id" = String, Path, description = "The vendor's id, percent-encoded."),
        CallParams,
        ProxyOneParams
    ),
    responses((status = 200, description = "The vendor's record.", body = Object)))]
#[get("/proxy/{resource}/{id}")]
pub async fn get_proxy_resource(
    call: LinkedAccount<OrAccount<ReadProxy>, ProxyOne>,
    path: Path<(String, String)>,
    state: Data<State>,
) -> Answer {
    let (name, id) = path.into_inner();
    capability::require_proxy(&call.linked, &name, Verb::Get)?;
    let ProxyOne { query, envelope } = call.query;
    envelope::one(state.services.directory.proxy_get(&call.linked, &name, &id, query).await?, envelope)
}

/// Methods that the paths of named resources never answer.
pub fn configure(config: &mut web::ServiceConfig) {
    config.route("/proxy/{resource}", web::get().to(refuse::<OrAccount<ReadProxy>>));
    config.route("/proxy/{resource}", web::to(refuse::<OrAccount<WriteProxy>>));
    config.route("/proxy/{resource}/{rest:.+}", web::get().to(refuse::<OrAccount<ReadProxy>>));
    config.route("/proxy/{resource}/{rest:.+}", web::to(refuse::<OrAccount<WriteProxy>>));
}

async fn refuse<R: Right>(request: HttpRequest, caller: Caller<R, AnyQuery>) -> Answer {
    let methods: Vec<&str> = unmatched::methods_of(request.path()).into_iter().collect();
    if methods.is_empty() {
        return Err(unmatched::no_route().into());
    }
    let allow = match caller.account() {
        Some(id) => {
            let linked = open(&request, &caller, &id).await?;
            let behind = request.match_info().get("rest");
            capability::allowed_at_proxy(&linked, request.match_info().query("resource"), behind)?
        }
        None => methods.join(", "),
    };
    let detail =
        format!("{} is not offered on named resources; `/custom/` and `/passthrough/` take every method.", request.method());
    Err(Error::new(Code::MethodNotSupported, detail).allow(allow).into())
}
