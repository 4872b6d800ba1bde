//! The words every room speaks: ids, secrets, time, the unified records.

mod account;
mod clock;
mod directory;
mod distance;
mod ids;
mod page;
mod secret;
mod tasks;
mod token;

pub use account::{Account, AccountStatus, Forbidden};
pub use clock::{Clock, SystemClock};
pub use directory::{
    Email, Field, Group, GroupStatus, GroupType, Kind, License, Me, Member, MemberType, NamedRef, Organization, Phone, Resource,
    Role, Shape, Shaped, User, UserGroup, UserRole, UserStatus, Workspace, WorkspaceStatus,
};
pub use distance::distance;
pub use ids::{AccountId, EnvironmentId, Slug, TokenId, environment_integration_id, integration_id};
pub use page::{FilterReport, Warning};
pub use secret::Secret;
pub use tasks::Tasks;
pub use token::{ApiToken, Scope, Scopes};
