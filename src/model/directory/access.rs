//! Who holds which role, what was bought, and what was done.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Field, Kind, NamedRef, Shape, Shaped, wire_name};

words! {
    /// What a role is given to beside users.
    RoleGroupType {
        /// A product.
        Product = "product",
        /// A group.
        Group = "group",
        /// A team.
        Team = "team",
    }
}

words! {
    /// Whether a licence is in force.
    LicenseStatus {
        /// In force.
        Active = "active",
        /// Not in force.
        Inactive = "inactive",
    }
}

words! {
    /// How a licensed product stands.
    ProductStatus {
        /// In use.
        Active = "active",
        /// Not in use.
        Inactive = "inactive",
        /// Its set-up failed.
        Errored = "errored",
        /// Something must be filled in.
        NeedsInput = "needs_input",
        /// Something must be confirmed.
        NeedsConfirmation = "needs_confirmation",
        /// Being set up.
        Pending = "pending",
    }
}

words! {
    /// What kind of actor it was.
    ActorType {
        /// A person.
        User = "user",
        /// The vendor itself.
        System = "system",
        /// Nobody who signed in.
        Anonymous = "anonymous",
    }
}

record! {
    /// A role given to a user, or to a group and through it to its members.
    RoleAssignment {
        /// Made of what it connects.
        id: String,
        /// The user who holds the role; absent where a group holds it.
        user_id: Option<String>,
        /// The group that holds the role; absent where a user holds it.
        group_id: Option<String>,
        /// What kind of group.
        group_type: Option<RoleGroupType>,
        /// The role.
        role_id: Option<String>,
        /// The organization it belongs to.
        organization: Option<String>,
        /// The workspaces it is limited to.
        workspace: Vec<String>,
        /// When it was given.
        created_at: Option<Timestamp>,
        /// When it last changed.
        updated_at: Option<Timestamp>,
    }
}

record! {
    /// A product a licence opens.
    LicensedProduct {
        /// Its id.
        id: Option<String>,
        /// Its name.
        name: Option<String>,
        /// How it stands.
        status: Option<ProductStatus>,
    }
}

record! {
    /// Something an organization has bought, and how much of it is in use.
    DirectoryLicense {
        /// The vendor's id, or the organization and the vendor's code.
        id: String,
        /// Its name, or the vendor's code where it says no name.
        name: Option<String>,
        /// What it is.
        description: Option<String>,
        /// Seats there are in all, used ones included; null where there is no limit or the vendor does not say.
        available_quantity: Option<f64>,
        /// Seats in use; null where the vendor does not say.
        assigned_quantity: Option<f64>,
        /// The price of one seat.
        unit_amount: Option<f64>,
        /// Its currency.
        currency: Option<String>,
        /// Whether it costs anything.
        is_paid: Option<bool>,
        /// Whether it is in force.
        status: Option<LicenseStatus>,
        /// The organization that holds it.
        organization: Option<String>,
        /// Roles that come with it.
        roles: Vec<NamedRef>,
        /// Products it opens.
        products: Vec<LicensedProduct>,
        /// When it was bought.
        created_at: Option<Timestamp>,
        /// When it last changed.
        updated_at: Option<Timestamp>,
    }
}

record! {
    /// The user who did something.
    ActorUser {
        /// The user's id.
        id: Option<String>,
        /// The user's name.
        name: Option<String>,
        /// The user's address, where the vendor names users by it.
        email: Option<String>,
    }
}

record! {
    /// Who did something.
    Actor {
        /// What kind of actor.
        r#type: Option<ActorType>,
        /// The user.
        user: Option<ActorUser>,
    }
}

record! {
    /// From where something was done.
    ActivityContext {
        /// The network address.
        ip_address: Option<String>,
        /// The program.
        user_agent: Option<String>,
    }
}

record! {
    /// Something that was done at the vendor.
    Activity {
        /// The vendor's id, or one made of the event where the vendor says none.
        id: String,
        /// Who did it.
        actor: Option<Actor>,
        /// The organization it happened in.
        organization: Option<String>,
        /// The group it is about.
        group: Option<String>,
        /// What happened, as a sentence.
        description: Option<String>,
        /// What was done: `login`, `login_failed`, `logout`, `user_invited`, `user_created`, `user_joined`, `user_deactivated`,
        /// `user_deleted`, `user_updated`, `create`, `destroy`, `exported`, `updated`, or the vendor's own word.
        action: Option<String>,
        /// What it was done to.
        entity: Option<String>,
        /// What kind of thing that is.
        entity_type: Option<String>,
        /// From where.
        context: Option<ActivityContext>,
        /// When.
        created_at: Option<Timestamp>,
    }
}
