//! What unified writes take: the fields of the unified records that a caller may send. Which of them a vendor takes stands in
//! `/capabilities`; one that it does not take is refused by name.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::model::{Email, GroupStatus, GroupType, License, MemberType, NamedRef, Phone, UserGroup, UserRole, UserStatus};

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* #[serde(default)] pub $field: Option<$type>,)*
            /// Members of the vendor's own record, sent as they are beside the others.
            #[serde(default)]
            #[schema(nullable = false)]
            pub remote_data: Option<Map<String, Value>>,
        }
    )*};
}

bodies! {
    /// A user to be made, or the fields of one that change.
    WriteUser {
        /// The id the provisioning client gives.
        external_id: String,
        /// Given name.
        first_name: String,
        /// Family name.
        last_name: String,
        /// Full or display name.
        name: String,
        /// Sign-in name.
        username: String,
        /// Job title.
        title: String,
        /// E-mail addresses.
        emails: Vec<Email>,
        /// Other addresses that reach the same user.
        aliases: Vec<String>,
        /// Telephone numbers.
        phones: Vec<Phone>,
        /// Whether the user can work.
        status: UserStatus,
        /// Roles held.
        roles: Vec<UserRole>,
        /// Organizations the user belongs to.
        organizations: Vec<NamedRef>,
        /// For example `user`.
        r#type: String,
        /// Licences held.
        licenses: Vec<License>,
        /// Groups the user is in.
        groups: Vec<UserGroup>,
        /// Workspaces (nodes, units) the user is in.
        workspaces: Vec<NamedRef>,
        /// Address of a picture.
        avatar: String,
        /// Time zone name.
        timezone: String,
        /// About the user.
        bio: String,
        /// Languages.
        languages: Vec<String>,
    }
    /// A group to be made, or the fields of one that change.
    WriteGroup {
        /// The id the provisioning client gives.
        external_id: String,
        /// Its name.
        name: String,
        /// What it is for.
        description: String,
        /// The id of the organization it belongs to.
        organization: String,
        /// What kind of group.
        group_type: GroupType,
        /// Whether it is in force.
        status: GroupStatus,
    }
}

/// A member to be added to a group.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteMember {
    /// The user's or group's id.
    #[schema(min_length = 1)]
    pub id: String,
    /// Which of the two; the vendor finds out when it is left out.
    #[serde(default)]
    #[schema(nullable = false)]
    pub r#type: Option<MemberType>,
    /// Members of the vendor's own body, sent as they are beside the others.
    #[serde(default)]
    #[schema(nullable = false)]
    pub remote_data: Option<Map<String, Value>>,
}

/// A role to be given to a user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteRoleAssignment {
    /// The user's id.
    pub user_id: String,
    /// The role's id.
    pub role_id: String,
    /// Members of the vendor's own body, sent as they are beside the others.
    #[serde(default)]
    #[schema(nullable = false)]
    pub remote_data: Option<Map<String, Value>>,
}

/// A user and a group.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberOf {
    /// The group's id.
    #[schema(min_length = 1)]
    pub group_id: String,
    /// The user's id.
    #[schema(min_length = 1)]
    pub user_id: String,
}

/// What adding a user to a group, or removing one, answers.
#[derive(Serialize, ToSchema)]
pub struct Membership {
    /// What was added or removed.
    pub result: MemberOf,
}

/// What a delete in the vendor's own words answers.
#[derive(Serialize, ToSchema)]
pub struct ProxyDeleted {
    /// The id that was deleted.
    pub id: String,
    /// The vendor's own words, where they are all there is to say that it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub raw_response: Option<Box<serde_json::value::RawValue>>,
}

/// What a method of the vendor's own answers.
#[derive(ToSchema)]
pub struct MethodResult {
    /// The vendor's answer, or the part of it that the connector names; null where it answers nothing.
    #[schema(value_type = Option<Value>, required = true)]
    pub result: Option<Value>,
}

/// `?remove_from=group&remove_from_id=…`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeleteParams {
    /// `group`: the user is taken out of that group only.
    #[param(required = false, inline)]
    pub remove_from: Option<RemoveFrom>,
    /// The group's id.
    #[param(required = false, min_length = 1, value_type = String)]
    pub remove_from_id: Option<String>,
}

/// What a user is taken out of.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum RemoveFrom {
    /// A group.
    Group,
}

/// The company a write is done in.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct CompanyParams {
    /// The number of the company, where the account sees several and neither id nor record tells.
    #[param(rename = "rollcall-company", required = false, pattern = "^[0-9]{1,18}$", value_type = String)]
    pub company: Option<String>,
}
