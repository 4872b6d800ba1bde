//! The unified user directory. One source for the OpenAPI schemas and for the shapes that mappings are checked against.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a mapping target holds; conversions are implied by it.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text; numbers and booleans are converted.
    Text,
    /// A boolean; the words `true` and `false` are converted.
    Bool,
    /// A number; texts of digits are converted.
    Number,
    /// A date-time, RFC 3339 in UTC.
    Time,
    /// One of the words; anything else must be mapped by `values` and `else`.
    Enum(&'static [&'static str]),
    /// A record of its own.
    Object(&'static Shape),
    /// A list.
    List(&'static Kind),
}

/// A record's fields in the order they are written.
#[derive(Debug)]
pub struct Shape {
    /// The record's name in documents.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
}

/// One field of a record.
#[derive(Debug)]
pub struct Field {
    /// Its name on the wire.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether every connector must map it.
    pub required: bool,
}

impl Shape {
    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|f| f.name == name)
    }
}

/// A Rust type that stands for a `Kind`.
pub trait Shaped {
    /// The kind.
    const KIND: Kind;
    /// Whether it may be absent.
    const REQUIRED: bool = true;
}

impl Shaped for String {
    const KIND: Kind = Kind::Text;
}
impl Shaped for bool {
    const KIND: Kind = Kind::Bool;
}
impl Shaped for f64 {
    const KIND: Kind = Kind::Number;
}
impl Shaped for Timestamp {
    const KIND: Kind = Kind::Time;
}
impl<T: Shaped> Shaped for Option<T> {
    const KIND: Kind = T::KIND;
    const REQUIRED: bool = false;
}
impl<T: Shaped> Shaped for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);
    const REQUIRED: bool = false;
}

/// `type` is a keyword in Rust, not on the wire.
const fn wire_name(name: &'static str) -> &'static str {
    let bytes = name.as_bytes();
    if bytes.len() > 2 && bytes[0] == b'r' && bytes[1] == b'#' { name.split_at(2).1 } else { name }
}

macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $name {
            /// The record's fields, for mappings.
            pub const SHAPE: Shape = Shape {
                name: stringify!($name),
                fields: &[$(Field {
                    name: wire_name(stringify!($field)),
                    kind: <$type as Shaped>::KIND,
                    required: <$type as Shaped>::REQUIRED,
                }),*],
            };
        }

        impl Shaped for $name {
            const KIND: Kind = Kind::Object(&$name::SHAPE);
        }
    };
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $text:tt,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        pub enum $name { $($(#[$word_doc])* #[serde(rename = $text)] $variant,)* }

        impl Shaped for $name {
            const KIND: Kind = Kind::Enum(&[$($text),*]);
        }
    };
}

mod access;

pub use access::{
    Activity, ActivityContext, Actor, ActorType, ActorUser, DirectoryLicense, LicenseStatus, LicensedProduct, ProductStatus,
    RoleAssignment, RoleGroupType,
};

words! {
    /// Whether a user can work. A word a connector does not know becomes `unknown` with a warning, never `active`.
    UserStatus {
        /// Can sign in.
        Active = "active",
        /// Locked or suspended; `status_reason` says by whom.
        Inactive = "inactive",
        /// Removed.
        Deleted = "deleted",
        /// Asked to join, has not yet.
        Invited = "invited",
        /// The vendor's word is not known to the connector.
        Unknown = "unknown",
    }
}

words! {
    /// What kind of group it is.
    GroupType {
        /// A team.
        Team = "team",
        /// A department.
        Department = "department",
        /// Any other group.
        Group = "group",
    }
}

words! {
    /// Whether a group is in force.
    GroupStatus {
        /// In force.
        Active = "active",
        /// Waiting for approval at the vendor.
        Pending = "pending",
        /// The vendor's word is not known to the connector.
        Unknown = "unknown",
    }
}

words! {
    /// Whether a workspace is in use.
    WorkspaceStatus {
        /// In use.
        Active = "active",
        /// Not in use.
        Inactive = "inactive",
        /// The vendor's word is not known to the connector.
        Unknown = "unknown",
    }
}

words! {
    /// What a group member is.
    MemberType {
        /// A user.
        User = "user",
        /// Another group.
        Group = "group",
    }
}

record! {
    /// An e-mail address of a user.
    Email {
        /// The address.
        email: Option<String>,
        /// For example `work`.
        r#type: Option<String>,
        /// Whether it is the main one.
        is_primary: Option<bool>,
    }
}

record! {
    /// A telephone number of a user.
    Phone {
        /// The number as the vendor writes it.
        number: Option<String>,
        /// The extension.
        extension: Option<String>,
        /// For example `mobile`.
        r#type: Option<String>,
    }
}

record! {
    /// A reference to another record.
    NamedRef {
        /// Its id.
        id: Option<String>,
        /// Its name.
        name: Option<String>,
    }
}

record! {
    /// A role a user holds.
    UserRole {
        /// The role's id.
        id: Option<String>,
        /// The role's name.
        name: Option<String>,
        /// The group it is limited to.
        group: Option<String>,
        /// The organization it belongs to.
        organization: Option<String>,
        /// The workspace it is limited to.
        workspace: Option<String>,
    }
}

record! {
    /// A group a user is in.
    UserGroup {
        /// The group's id.
        id: Option<String>,
        /// The group's name.
        name: Option<String>,
        /// The organization it belongs to.
        organization: Option<String>,
    }
}

record! {
    /// A licence of a user.
    License {
        /// The licence's id.
        id: Option<String>,
        /// The licence's name.
        name: Option<String>,
        /// The organization it belongs to.
        organization: Option<String>,
        /// When the user last used it.
        last_active_at: Option<Timestamp>,
    }
}

record! {
    /// A person or service that can sign in at the vendor.
    User {
        /// The vendor's id, as text.
        id: String,
        /// The id the provisioning client gave.
        external_id: Option<String>,
        /// Given name.
        first_name: Option<String>,
        /// Family name.
        last_name: Option<String>,
        /// Full or display name.
        name: Option<String>,
        /// Sign-in name.
        username: Option<String>,
        /// Job title.
        title: Option<String>,
        /// E-mail addresses.
        emails: Vec<Email>,
        /// Other addresses that reach the same user.
        aliases: Vec<String>,
        /// Telephone numbers.
        phones: Vec<Phone>,
        /// Whether the user can work.
        status: UserStatus,
        /// Why not: `admin`, `idp`, `transfer` …
        status_reason: Option<String>,
        /// Whether the address was confirmed.
        is_email_verified: Option<bool>,
        /// Whether a second factor is set up; null when the vendor does not say.
        is_2fa_enabled: Option<bool>,
        /// Roles held.
        roles: Vec<UserRole>,
        /// Organizations the user belongs to.
        organizations: Vec<NamedRef>,
        /// For example `user` or `service-account`.
        r#type: Option<String>,
        /// Licences held.
        licenses: Vec<License>,
        /// Groups the user is in.
        groups: Vec<UserGroup>,
        /// Workspaces (nodes, units) the user is in.
        workspaces: Vec<NamedRef>,
        /// Address of a picture.
        avatar: Option<String>,
        /// Time zone name.
        timezone: Option<String>,
        /// About the user.
        bio: Option<String>,
        /// Languages.
        languages: Vec<String>,
        /// When the vendor made the record.
        created_at: Option<Timestamp>,
        /// When it last changed.
        updated_at: Option<Timestamp>,
        /// Last activity.
        last_active_at: Option<Timestamp>,
        /// Last sign-in.
        last_login_at: Option<Timestamp>,
    }
}

record! {
    /// A group, team or department.
    Group {
        /// The vendor's id, as text.
        id: String,
        /// The id the provisioning client gave.
        external_id: Option<String>,
        /// Its name.
        name: Option<String>,
        /// What it is for.
        description: Option<String>,
        /// The id of the organization it belongs to.
        organization: Option<String>,
        /// What kind of group.
        group_type: Option<GroupType>,
        /// Whether it is in force.
        status: Option<GroupStatus>,
        /// When the vendor made it.
        created_at: Option<Timestamp>,
        /// When it last changed.
        updated_at: Option<Timestamp>,
    }
}

record! {
    /// One member of a group.
    Member {
        /// The user's or group's id.
        id: String,
        /// Which of the two.
        r#type: MemberType,
        /// Its name.
        name: Option<String>,
        /// Its main address.
        email: Option<String>,
    }
}

record! {
    /// A role.
    Role {
        /// The vendor's id, as text.
        id: String,
        /// Its name.
        name: Option<String>,
        /// Its label.
        label: Option<String>,
        /// What it allows.
        description: Option<String>,
        /// For example `admin`.
        r#type: Option<String>,
        /// The organization it belongs to.
        organization: Option<String>,
        /// Where it can be given: `group` or `workspace`.
        applicable_in: Option<String>,
        /// When the vendor made it.
        created_at: Option<Timestamp>,
        /// When it last changed.
        updated_at: Option<Timestamp>,
    }
}

record! {
    /// A company or tenant at the vendor.
    Organization {
        /// The vendor's id, as text.
        id: String,
        /// Its name.
        name: Option<String>,
        /// The vendor's name of its plan.
        pricing_plan: Option<String>,
        /// Licences it holds.
        licenses: Vec<NamedRef>,
        /// When the vendor made it.
        created_at: Option<Timestamp>,
        /// When it last changed.
        updated_at: Option<Timestamp>,
    }
}

record! {
    /// A node, unit or workspace within an organization.
    Workspace {
        /// The vendor's id, as text.
        id: String,
        /// Its name.
        name: Option<String>,
        /// What it is for.
        description: Option<String>,
        /// Whether it is in use.
        status: Option<WorkspaceStatus>,
        /// The organization it belongs to.
        organization: Option<NamedRef>,
        /// When the vendor made it.
        created_at: Option<Timestamp>,
        /// When it last changed.
        updated_at: Option<Timestamp>,
    }
}

/// The user the credential belongs to.
pub type Me = User;

/// A resource of the unified user directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Users.
    User,
    /// Groups.
    Group,
    /// Members of one group.
    GroupMember,
    /// Roles.
    Role,
    /// Organizations.
    Organization,
    /// Workspaces.
    Workspace,
    /// The user the credential belongs to.
    Me,
    /// Who holds which role.
    RoleAssignment,
    /// What was bought, and how much of it is in use.
    License,
    /// What was done, by whom.
    Activity,
}

impl Resource {
    /// Every resource.
    pub const ALL: &'static [Resource] = &[
        Resource::User,
        Resource::Group,
        Resource::GroupMember,
        Resource::Role,
        Resource::Organization,
        Resource::Workspace,
        Resource::Me,
        Resource::RoleAssignment,
        Resource::License,
        Resource::Activity,
    ];

    /// The name in paths and connector folders.
    pub const fn plural(self) -> &'static str {
        match self {
            Resource::User => "users",
            Resource::Group => "groups",
            Resource::GroupMember => "group_members",
            Resource::Role => "roles",
            Resource::Organization => "organizations",
            Resource::Workspace => "workspaces",
            Resource::Me => "me",
            Resource::RoleAssignment => "role_assignments",
            Resource::License => "licenses",
            Resource::Activity => "activities",
        }
    }

    /// The shape of its records.
    pub const fn shape(self) -> &'static Shape {
        match self {
            Resource::User | Resource::Me => &User::SHAPE,
            Resource::Group => &Group::SHAPE,
            Resource::GroupMember => &Member::SHAPE,
            Resource::Role => &Role::SHAPE,
            Resource::Organization => &Organization::SHAPE,
            Resource::Workspace => &Workspace::SHAPE,
            Resource::RoleAssignment => &RoleAssignment::SHAPE,
            Resource::License => &DirectoryLicense::SHAPE,
            Resource::Activity => &Activity::SHAPE,
        }
    }
}
