//! The unified user directory: one schema over all vendors.

use actix_web::{
    HttpRequest, get,
    web::{Data, Path},
};

use crate::{
    http::{
        Answer, State,
        capability::{self, Verb},
        envelope,
        extract::{LinkedAccount, OrAccount, ReadDirectory},
        lines,
        query::{DataList, DataOne},
        schema::{
            CallParams, DataParams, EnvelopeParams, GroupPage, ListParams, MemberPage, OrganizationPage, PagingParams, RolePage,
            UserPage, WorkspacePage,
        },
    },
    model::{Group, Organization, Resource, Role, User, Workspace},
    service::Lines,
};

type Lists = LinkedAccount<OrAccount<ReadDirectory>, DataList>;
type Gets = LinkedAccount<OrAccount<ReadDirectory>, DataOne>;

pub(super) async fn page(call: Lists, request: &HttpRequest, state: &State, resource: Resource, parent: Option<&str>) -> Answer {
    capability::require(&call.linked, resource, Verb::List)?;
    if lines::are_wanted(request, &call.query.0) {
        let lines = Lines::new(resource, parent.map(str::to_owned), call.query.0)?;
        return lines::answer(lines, call.linked, request.clone()).await;
    }
    envelope::list(state.services.directory.list(&call.linked, resource, parent, call.query.0).await?)
}

pub(super) async fn record(call: Gets, state: &State, resource: Resource, id: &str) -> Answer {
    capability::require(&call.linked, resource, Verb::Get)?;
    let DataOne { query, envelope } = call.query;
    envelope::one(state.services.directory.get(&call.linked, resource, id, query).await?, envelope)
}

/// A page of the vendor's users.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])), params(CallParams, DataParams, PagingParams, ListParams), responses(
    (status = 200, description = "A page of users.", content((UserPage = "application/json"), (String = "application/x-ndjson")))
))]
#[get("/unified/user-directory/users")]
pub async fn list_users(call: Lists, request: HttpRequest, state: Data<State>) -> Answer {
    page(call, &request, &state, Resource::User, None).await
}

/// One user.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])),
    params(("id" = String, Path, description = "The vendor's id, percent-encoded."), CallParams, DataParams, EnvelopeParams),
    responses((status = 200, description = "The user.", body = User)))]
#[get("/unified/user-directory/users/{id}")]
pub async fn get_user(call: Gets, id: Path<String>, state: Data<State>) -> Answer {
    record(call, &state, Resource::User, &id).await
}

/// A page of the vendor's groups.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])), params(CallParams, DataParams, PagingParams, ListParams), responses(
    (status = 200, description = "A page of groups.", content((GroupPage = "application/json"), (String = "application/x-ndjson")))
))]
#[get("/unified/user-directory/groups")]
pub async fn list_groups(call: Lists, request: HttpRequest, state: Data<State>) -> Answer {
    page(call, &request, &state, Resource::Group, None).await
}

/// One group.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])),
    params(("id" = String, Path, description = "The vendor's id, percent-encoded."), CallParams, DataParams, EnvelopeParams),
    responses((status = 200, description = "The group.", body = Group)))]
#[get("/unified/user-directory/groups/{id}")]
pub async fn get_group(call: Gets, id: Path<String>, state: Data<State>) -> Answer {
    record(call, &state, Resource::Group, &id).await
}

/// A page of a group's members.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])),
    params(("id" = String, Path, description = "The group's id, percent-encoded."), CallParams, DataParams, PagingParams, ListParams),
    responses((status = 200, description = "A page of members.", content((MemberPage = "application/json"), (String = "application/x-ndjson")))))]
#[get("/unified/user-directory/groups/{id}/members")]
pub async fn list_group_members(call: Lists, id: Path<String>, request: HttpRequest, state: Data<State>) -> Answer {
    page(call, &request, &state, Resource::GroupMember, Some(&id)).await
}

/// A page of the vendor's roles.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])), params(CallParams, DataParams, PagingParams, ListParams), responses(
    (status = 200, description = "A page of roles.", content((RolePage = "application/json"), (String = "application/x-ndjson")))
))]
#[get("/unified/user-directory/roles")]
pub async fn list_roles(call: Lists, request: HttpRequest, state: Data<State>) -> Answer {
    page(call, &request, &state, Resource::Role, None).await
}

/// One role.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])),
    params(("id" = String, Path, description = "The vendor's id, percent-encoded."), CallParams, DataParams, EnvelopeParams),
    responses((status = 200, description = "The role.", body = Role)))]
#[get("/unified/user-directory/roles/{id}")]
pub async fn get_role(call: Gets, id: Path<String>, state: Data<State>) -> Answer {
    record(call, &state, Resource::Role, &id).await
}

/// A page of the vendor's organizations: the enterprise and the companies it manages.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])), params(CallParams, DataParams, PagingParams, ListParams), responses(
    (status = 200, description = "A page of organizations.", content((OrganizationPage = "application/json"), (String = "application/x-ndjson")))
))]
#[get("/unified/user-directory/organizations")]
pub async fn list_organizations(call: Lists, request: HttpRequest, state: Data<State>) -> Answer {
    page(call, &request, &state, Resource::Organization, None).await
}

/// One organization.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])),
    params(("id" = String, Path, description = "The vendor's id, percent-encoded."), CallParams, DataParams, EnvelopeParams),
    responses((status = 200, description = "The organization.", body = Organization)))]
#[get("/unified/user-directory/organizations/{id}")]
pub async fn get_organization(call: Gets, id: Path<String>, state: Data<State>) -> Answer {
    record(call, &state, Resource::Organization, &id).await
}

/// A page of the vendor's workspaces: nodes or units within organizations.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])), params(CallParams, DataParams, PagingParams, ListParams), responses(
    (status = 200, description = "A page of workspaces.", content((WorkspacePage = "application/json"), (String = "application/x-ndjson")))
))]
#[get("/unified/user-directory/workspaces")]
pub async fn list_workspaces(call: Lists, request: HttpRequest, state: Data<State>) -> Answer {
    page(call, &request, &state, Resource::Workspace, None).await
}

/// One workspace.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])),
    params(("id" = String, Path, description = "The vendor's id, percent-encoded."), CallParams, DataParams, EnvelopeParams),
    responses((status = 200, description = "The workspace.", body = Workspace)))]
#[get("/unified/user-directory/workspaces/{id}")]
pub async fn get_workspace(call: Gets, id: Path<String>, state: Data<State>) -> Answer {
    record(call, &state, Resource::Workspace, &id).await
}

/// The user the credential belongs to, as a page of one.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])), params(CallParams, DataParams, PagingParams, ListParams), responses(
    (status = 200, description = "A page with that user.", content((UserPage = "application/json"), (String = "application/x-ndjson")))
))]
#[get("/unified/user-directory/me")]
pub async fn list_me(call: Lists, request: HttpRequest, state: Data<State>) -> Answer {
    page(call, &request, &state, Resource::Me, None).await
}
