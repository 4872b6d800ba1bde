//! Role assignments, licences and activities: who holds which role, what was bought, and what was done.

use actix_web::{
    HttpRequest, delete, get, post,
    web::{Data, Path},
};
use serde_json::{Map, Value};

use super::{
    unified::{page, record},
    unified_write::{create, take},
};
use crate::{
    http::{
        Answer, State,
        extract::{Later, LinkedAccount, OrAccount, ReadDirectory, WriteDirectory, company},
        query::{DataDelete, DataList, DataOne},
        schema::{
            ActivityPage, CallParams, DataParams, Deleted, EnvelopeParams, LicensePage, ListParams, PagingParams,
            RoleAssignmentPage,
        },
        schema_write::{CompanyParams, WriteRoleAssignment},
        write::Write,
    },
    model::{Activity, DirectoryLicense, Resource, RoleAssignment},
    service::ChangeAsk,
};

type Lists = LinkedAccount<OrAccount<ReadDirectory>, DataList>;
type Gets = LinkedAccount<OrAccount<ReadDirectory>, DataOne>;
type Puts = Later<LinkedAccount<OrAccount<WriteDirectory>, DataOne>>;
type Takes = Later<LinkedAccount<OrAccount<WriteDirectory>, DataDelete>>;

/// A page of who holds which role.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])), params(CallParams, DataParams, PagingParams, ListParams), responses(
    (status = 200, description = "A page of role assignments.", content((RoleAssignmentPage = "application/json"), (String = "application/x-ndjson")))
))]
#[get("/unified/user-directory/role_assignments")]
pub async fn list_role_assignments(call: Lists, request: HttpRequest, state: Data<State>) -> Answer {
    page(call, &request, &state, Resource::RoleAssignment, None).await
}

/// One role assignment.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])),
    params(("id" = String, Path, description = "The assignment's id, percent-encoded."), CallParams, DataParams, EnvelopeParams),
    responses((status = 200, description = "The role assignment.", body = RoleAssignment)))]
#[get("/unified/user-directory/role_assignments/{id}")]
pub async fn get_role_assignment(call: Gets, id: Path<String>, state: Data<State>) -> Answer {
    record(call, &state, Resource::RoleAssignment, &id).await
}

/// Gives a role to a user; one who holds it already keeps it.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:write"])), request_body = WriteRoleAssignment,
    params(CallParams, DataParams, EnvelopeParams, CompanyParams),
    responses((status = 201, description = "The role assignment, as the vendor shows it.", body = RoleAssignment)))]
#[post("/unified/user-directory/role_assignments")]
pub async fn create_role_assignment(
    call: Puts,
    request: HttpRequest,
    write: Write<Map<String, Value>>,
    state: Data<State>,
) -> Answer {
    let ask = ChangeAsk { company: company(&request)?, ..ChangeAsk::default() };
    create(call, write, &state, Resource::RoleAssignment, ask).await
}

/// Takes a role from a user.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:write"])),
    params(("id" = String, Path, description = "The assignment's id, percent-encoded."), CallParams, CompanyParams),
    responses((status = 200, description = "The user holds the role no more.", body = Deleted)))]
#[delete("/unified/user-directory/role_assignments/{id}")]
pub async fn delete_role_assignment(
    call: Takes,
    id: Path<String>,
    request: HttpRequest,
    write: Write,
    state: Data<State>,
) -> Answer {
    let call = call.0?;
    call.query.only_users()?;
    let ask = ChangeAsk { id: Some(id.into_inner()), company: company(&request)?, ..ChangeAsk::default() };
    take(call, write, &state, Resource::RoleAssignment, ask).await
}

/// A page of what was bought, and how much of it is in use.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])), params(CallParams, DataParams, PagingParams, ListParams), responses(
    (status = 200, description = "A page of licences.", content((LicensePage = "application/json"), (String = "application/x-ndjson")))
))]
#[get("/unified/user-directory/licenses")]
pub async fn list_licenses(call: Lists, request: HttpRequest, state: Data<State>) -> Answer {
    page(call, &request, &state, Resource::License, None).await
}

/// One licence.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])),
    params(("id" = String, Path, description = "The licence's id, percent-encoded."), CallParams, DataParams, EnvelopeParams),
    responses((status = 200, description = "The licence.", body = DirectoryLicense)))]
#[get("/unified/user-directory/licenses/{id}")]
pub async fn get_license(call: Gets, id: Path<String>, state: Data<State>) -> Answer {
    record(call, &state, Resource::License, &id).await
}

/// A page of what was done at the vendor, newest first. Where the customer's plan lacks the add-on that keeps it, the answer is
/// 403 `addon_missing`, never an empty list.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])), params(CallParams, DataParams, PagingParams, ListParams), responses(
    (status = 200, description = "A page of activities.", content((ActivityPage = "application/json"), (String = "application/x-ndjson")))
))]
#[get("/unified/user-directory/activities")]
pub async fn list_activities(call: Lists, request: HttpRequest, state: Data<State>) -> Answer {
    page(call, &request, &state, Resource::Activity, None).await
}

/// One activity, where the vendor shows one alone.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])),
    params(("id" = String, Path, description = "The activity's id, percent-encoded."), CallParams, DataParams, EnvelopeParams),
    responses((status = 200, description = "The activity.", body = Activity)))]
#[get("/unified/user-directory/activities/{id}")]
pub async fn get_activity(call: Gets, id: Path<String>, state: Data<State>) -> Answer {
    record(call, &state, Resource::Activity, &id).await
}
