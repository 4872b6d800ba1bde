//! The words every room speaks: ids, secrets, time, the unified records.

mod account;
mod clock;
mod directory;
mod event;
mod ids;
mod install;
mod later;
mod page;
mod rate;
mod secret;
mod tasks;
mod token;
mod trace;

pub use account::{Account, AccountStatus, ExpiryNotice, Forbidden};
pub use clock::{Clock, SystemClock};
pub use directory::{
    Activity, ActivityContext, Actor, ActorType, ActorUser, DirectoryLicense, Email, Field, Group, GroupStatus, GroupType, Kind,
    License, LicenseStatus, LicensedProduct, Me, Member, MemberType, NamedRef, Organization, Phone, ProductStatus, Resource,
    Role, RoleAssignment, RoleGroupType, Shape, Shaped, User, UserGroup, UserRole, UserStatus, Workspace, WorkspaceStatus,
};
pub use event::{Event, EventKind};
pub use ids::{AccountId, EnvironmentId, EventId, LinkId, Slug, TokenId, environment_integration_id, integration_id};
pub use install::{Install, SealedApp};
pub use later::Later;
pub use page::{FilterReport, Warning};
pub use rate::{Allowance, Rate, VendorLimit};
pub use secret::Secret;
/// How far two words are apart, for "did you mean": a letter more, less or other, or two swapped, is one step.
pub use strsim::osa_distance as distance;
pub use tasks::Tasks;
pub use token::{ApiToken, Scope, Scopes};
pub use trace::Trace;
