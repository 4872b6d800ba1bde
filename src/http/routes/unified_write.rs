//! Unified writes: records made, changed and taken away in the one schema. The answer is what the vendor shows afterwards.

use std::{future::Future, sync::Arc};

use actix_web::{
    HttpRequest, delete,
    http::StatusCode,
    patch, post,
    web::{Data, Path},
};
use serde_json::{Map, Value};

use crate::{
    error::Result,
    http::{
        Answer, State,
        capability::{self, Verb},
        envelope,
        extract::{Later, LinkedAccount, OrAccount, WriteDirectory, company},
        query::{DataDelete, DataOne},
        schema::{CallParams, DataParams, Deleted, EnvelopeParams},
        schema_write::{CompanyParams, DeleteParams, MemberOf, Membership, WriteGroup, WriteMember, WriteUser},
        write::{NoBody, Write},
    },
    model::{Group, Member, Resource, User},
    service::{ChangeAsk, Linked, OneRecord, Reply, Run, Services},
};

type Record = Map<String, Value>;
type Puts = Later<LinkedAccount<OrAccount<WriteDirectory>, DataOne>>;
type Takes = Later<LinkedAccount<OrAccount<WriteDirectory>, DataDelete>>;

/// Makes or changes a record and answers with it as it is.
async fn put<W, F>(
    call: LinkedAccount<OrAccount<WriteDirectory>, DataOne>,
    write: Write<Record>,
    state: &State,
    ask: ChangeAsk,
    work: W,
) -> Answer
where
    W: FnOnce(Arc<Services>, Arc<Linked>, ChangeAsk) -> F + Send + 'static,
    F: Future<Output = Result<OneRecord>> + Send + 'static,
{
    let LinkedAccount { caller, linked, query: DataOne { query, envelope }, .. } = call;
    let made = ask.id.is_none();
    let work = async move |services: Arc<Services>, body: Record, run: Run| {
        let record = work(services, linked, ChangeAsk { body, query, again: run.unsure, ..ask }).await?;
        envelope::written(if made { StatusCode::CREATED } else { StatusCode::OK }, record, envelope)
    };
    write.answer(&caller, state, work).await
}

pub(super) async fn create(call: Puts, write: Write<Record>, state: &State, resource: Resource, ask: ChangeAsk) -> Answer {
    let call = call.0?;
    capability::require(&call.linked, resource, Verb::Other("create"))?;
    let work = async move |services: Arc<Services>, linked: Arc<Linked>, ask| {
        Box::pin(services.directory.create(&linked, resource, ask)).await
    };
    put(call, write, state, ask, work).await
}

async fn update(call: Puts, write: Write<Record>, state: &State, resource: Resource, ask: ChangeAsk) -> Answer {
    let call = call.0?;
    capability::require(&call.linked, resource, Verb::Other("update"))?;
    let work = async move |services: Arc<Services>, linked: Arc<Linked>, ask| {
        Box::pin(services.directory.update(&linked, resource, ask)).await
    };
    put(call, write, state, ask, work).await
}

pub(super) async fn take(
    call: LinkedAccount<OrAccount<WriteDirectory>, DataDelete>,
    write: Write<NoBody>,
    state: &State,
    resource: Resource,
    ask: ChangeAsk,
) -> Answer {
    capability::require(&call.linked, resource, Verb::Other("delete"))?;
    let LinkedAccount { caller, linked, query: DataDelete { query, .. }, .. } = call;
    let work = async move |services: Arc<Services>, _, _| take_away(services, linked, resource, ChangeAsk { query, ..ask }).await;
    write.answer(&caller, state, work).await
}

async fn take_away(services: Arc<Services>, linked: Arc<Linked>, resource: Resource, ask: ChangeAsk) -> Result<Reply> {
    let id = ask.id.clone().unwrap_or_default();
    let warnings = Box::pin(services.directory.delete(&linked, resource, ask)).await?;
    envelope::taken_away(&id, &warnings)
}

/// Makes a user; at many vendors that is an invitation.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:write"])), request_body = WriteUser,
    params(CallParams, DataParams, EnvelopeParams, CompanyParams),
    responses((status = 201, description = "The user, as the vendor shows it.", body = User)))]
#[post("/unified/user-directory/users")]
pub async fn create_user(call: Puts, request: HttpRequest, write: Write<Record>, state: Data<State>) -> Answer {
    let ask = ChangeAsk { company: company(&request)?, ..ChangeAsk::default() };
    create(call, write, &state, Resource::User, ask).await
}

/// Changes a user: the fields that are sent; `null` and an empty list take away what was there.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:write"])), request_body = WriteUser,
    params(("id" = String, Path, description = "The vendor's id, percent-encoded."), CallParams, DataParams, EnvelopeParams, CompanyParams),
    responses((status = 200, description = "The user, as the vendor shows it.", body = User)))]
#[patch("/unified/user-directory/users/{id}")]
pub async fn update_user(call: Puts, id: Path<String>, request: HttpRequest, write: Write<Record>, state: Data<State>) -> Answer {
    let ask = ChangeAsk { id: Some(id.into_inner()), company: company(&request)?, ..ChangeAsk::default() };
    update(call, write, &state, Resource::User, ask).await
}

/// Takes a user away, or, with `remove_from=group`, out of a group.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:write"])),
    params(("id" = String, Path, description = "The vendor's id, percent-encoded."), CallParams, DeleteParams, CompanyParams),
    responses((status = 200, description = "The user is gone; a warning says where the vendor keeps it.", body = Deleted)))]
#[delete("/unified/user-directory/users/{id}")]
pub async fn delete_user(call: Takes, id: Path<String>, request: HttpRequest, write: Write, state: Data<State>) -> Answer {
    let call = call.0?;
    let group = call.query.group.clone();
    let resource = if group.is_some() { Resource::GroupMember } else { Resource::User };
    let ask = ChangeAsk { id: Some(id.into_inner()), group, company: company(&request)?, ..ChangeAsk::default() };
    take(call, write, &state, resource, ask).await
}

/// Makes a group.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:write"])), request_body = WriteGroup,
    params(CallParams, DataParams, EnvelopeParams, CompanyParams),
    responses((status = 201, description = "The group, as the vendor shows it.", body = Group)))]
#[post("/unified/user-directory/groups")]
pub async fn create_group(call: Puts, request: HttpRequest, write: Write<Record>, state: Data<State>) -> Answer {
    let ask = ChangeAsk { company: company(&request)?, ..ChangeAsk::default() };
    create(call, write, &state, Resource::Group, ask).await
}

/// Changes a group: the fields that are sent.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:write"])), request_body = WriteGroup,
    params(("id" = String, Path, description = "The vendor's id, percent-encoded."), CallParams, DataParams, EnvelopeParams, CompanyParams),
    responses((status = 200, description = "The group, as the vendor shows it.", body = Group)))]
#[patch("/unified/user-directory/groups/{id}")]
pub async fn update_group(
    call: Puts,
    id: Path<String>,
    request: HttpRequest,
    write: Write<Record>,
    state: Data<State>,
) -> Answer {
    let ask = ChangeAsk { id: Some(id.into_inner()), company: company(&request)?, ..ChangeAsk::default() };
    update(call, write, &state, Resource::Group, ask).await
}

/// Takes a group away.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:write"])),
    params(("id" = String, Path, description = "The vendor's id, percent-encoded."), CallParams, CompanyParams),
    responses((status = 200, description = "The group is gone.", body = Deleted)))]
#[delete("/unified/user-directory/groups/{id}")]
pub async fn delete_group(call: Takes, id: Path<String>, request: HttpRequest, write: Write, state: Data<State>) -> Answer {
    let call = call.0?;
    call.query.only_users()?;
    let ask = ChangeAsk { id: Some(id.into_inner()), company: company(&request)?, ..ChangeAsk::default() };
    take(call, write, &state, Resource::Group, ask).await
}

/// Adds a member to a group; one that is in it already stays.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:write"])), request_body = WriteMember,
    params(("id" = String, Path, description = "The group's id, percent-encoded."), CallParams, DataParams, EnvelopeParams, CompanyParams),
    responses((status = 201, description = "The member, as the vendor shows it.", body = Member)))]
#[post("/unified/user-directory/groups/{id}/members")]
pub async fn add_group_member(
    call: Puts,
    id: Path<String>,
    request: HttpRequest,
    write: Write<Record>,
    state: Data<State>,
) -> Answer {
    let ask = ChangeAsk { group: Some(id.into_inner()), company: company(&request)?, ..ChangeAsk::default() };
    create(call, write, &state, Resource::GroupMember, ask).await
}

/// Removes a member from a group.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:write"])),
    params(
        ("id" = String, Path, description = "The group's id, percent-encoded."),
        ("member_id" = String, Path, description = "The member's id, percent-encoded."),
        CallParams,
        CompanyParams
    ),
    responses((status = 200, description = "The member is in the group no more.", body = Deleted)))]
#[delete("/unified/user-directory/groups/{id}/members/{member_id}")]
pub async fn remove_group_member(
    call: Takes,
    path: Path<(String, String)>,
    request: HttpRequest,
    write: Write,
    state: Data<State>,
) -> Answer {
    let call = call.0?;
    call.query.only_users()?;
    let (group, id) = path.into_inner();
    let ask = ChangeAsk { id: Some(id), group: Some(group), company: company(&request)?, ..ChangeAsk::default() };
    take(call, write, &state, Resource::GroupMember, ask).await
}

/// Adds a user to a group: the same as `POST …/groups/{id}/members`, in Truto's form.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:write"])), request_body = MemberOf, params(CallParams, CompanyParams),
    responses((status = 200, description = "The user is in the group.", body = Membership)))]
#[post("/unified/user-directory/groups/add-user")]
pub async fn add_user_to_group(call: Takes, request: HttpRequest, write: Write<MemberOf>, state: Data<State>) -> Answer {
    membership(call, &request, write, &state, "create").await
}

/// Removes a user from a group: the same as `DELETE …/groups/{id}/members/{member_id}`, in Truto's form.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:write"])), request_body = MemberOf, params(CallParams, CompanyParams),
    responses((status = 200, description = "The user is in the group no more.", body = Membership)))]
#[post("/unified/user-directory/groups/remove-user")]
pub async fn remove_user_from_group(call: Takes, request: HttpRequest, write: Write<MemberOf>, state: Data<State>) -> Answer {
    membership(call, &request, write, &state, "delete").await
}

async fn membership(call: Takes, request: &HttpRequest, write: Write<MemberOf>, state: &State, verb: &'static str) -> Answer {
    let call = call.0?;
    call.query.only_users()?;
    capability::require(&call.linked, Resource::GroupMember, Verb::Other(verb))?;
    let company = company(request)?;
    let LinkedAccount { caller, linked, query: DataDelete { query, .. }, .. } = call;
    let work = async move |services: Arc<Services>, MemberOf { group_id, user_id }: MemberOf, run: Run| {
        let ask = ChangeAsk { group: Some(group_id.clone()), company, query, again: run.unsure, ..ChangeAsk::default() };
        let (directory, member) = (&services.directory, Resource::GroupMember);
        let warnings = match verb {
            "create" => {
                let body = [("id".to_owned(), Value::String(user_id.clone()))].into_iter().collect();
                directory.create(&linked, member, ChangeAsk { body, ..ask }).await?.warnings
            }
            _ => directory.delete(&linked, member, ChangeAsk { id: Some(user_id.clone()), ..ask }).await?,
        };
        let names = warnings.into_iter().map(|warning| warning.code).collect();
        let reply = envelope::changed(&Membership { result: MemberOf { group_id, user_id } })?;
        Ok(Reply { warnings: names, ..reply })
    };
    write.answer(&caller, state, work).await
}
