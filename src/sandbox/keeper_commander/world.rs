//! The synthetic MSP behind the stand-in: users in every state, teams in every state, a company with more than a page of
//! users, one without any.

use serde_json::{Value, json};

/// One enterprise as Commander would list it, columns in full.
pub(super) struct Company {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: &'static str,
    /// `enterprise-info --users`, newest shape, ordered by address.
    pub users: Vec<Value>,
    /// `enterprise-info --teams`.
    pub teams: Vec<Value>,
    /// `enterprise-info --roles`.
    pub roles: Vec<Value>,
    /// `enterprise-info --nodes`.
    pub nodes: Vec<Value>,
}

/// The MSP and what it manages; the first is the own enterprise.
pub(super) struct World {
    /// Own enterprise first.
    pub companies: Vec<Company>,
    /// `msp-info -v`, ordered by name.
    pub managed: Vec<Value>,
}

const FRONT_DESK: &str = "18opBFrGJyh6FbsK1-WwAQ";
const CLINICIANS: &str = "b3xo_jlrOu-DSjsxljYe8g";

struct Person<'a> {
    number: u64,
    email: &'a str,
    name: &'a str,
    status: &'a str,
    transfer: &'a str,
    node: u64,
    teams: &'a [(&'a str, &'a str)],
    roles: &'a [u64],
    more: Value,
}

impl Company {
    fn new(id: u64, name: &'static str) -> Self {
        let mut company = Self { id, name, users: Vec::new(), teams: Vec::new(), roles: Vec::new(), nodes: Vec::new() };
        company.nodes.push(json!({ "node_id": company.id(2), "name": name }));
        company
    }

    /// Ids are the company's number and a number within it.
    fn id(&self, number: u64) -> u64 {
        (self.id << 32) + number
    }

    fn node(&mut self, number: u64, name: &str) {
        self.nodes.push(json!({ "node_id": self.id(number), "name": name, "parent_node": self.name, "parent_id": self.id(2) }));
        self.nodes.sort_by_key(|node| node["name"].as_str().unwrap_or_default().to_lowercase());
    }

    fn path(&self, number: u64) -> String {
        let node = self.nodes.iter().find(|node| node["node_id"] == self.id(number));
        match node.filter(|node| node.get("parent_id").is_some()).and_then(|node| node["name"].as_str()) {
            Some(name) => format!("{}\\{name}", self.name),
            None => self.name.to_owned(),
        }
    }

    fn role(&mut self, number: u64, name: &str, node: u64, is_admin: bool) {
        self.roles.push(json!({
            "role_id": self.id(number), "name": name, "visible_below": true, "default_role": false, "admin": is_admin,
            "node": self.path(node), "user_count": 0, "users": [], "team_count": 0, "teams": [],
        }));
    }

    /// Gives a role to users by address, and to teams by name.
    fn give(&mut self, role: u64, users: &[&str], teams: &[&str]) {
        let id = self.id(role);
        for row in self.roles.iter_mut().filter(|row| row["role_id"] == id) {
            (row["users"], row["user_count"]) = (json!(users), users.len().into());
            (row["teams"], row["team_count"]) = (json!(teams), teams.len().into());
        }
    }

    fn user(&mut self, person: Person<'_>) {
        let mut user = json!({
            "user_id": self.id(person.number), "email": person.email, "status": person.status,
            "node": { "node_id": self.id(person.node).to_string(), "node_name": self.path(person.node) },
            "teams": person.teams.iter().map(|(uid, name)| json!({ "team_uid": uid, "team_name": name })).collect::<Vec<_>>(),
            "roles": self.roles.iter().filter(|role| person.roles.iter().any(|number| role["role_id"] == self.id(*number)))
                .map(|role| json!({ "role_id": role["role_id"].to_string(), "role_name": role["name"] })).collect::<Vec<_>>(),
            "alias": [],
        });
        for (key, text) in [("name", person.name), ("transfer_status", person.transfer)] {
            if !text.is_empty() {
                user[key] = text.into();
            }
        }
        for (key, value) in person.more.as_object().into_iter().flatten() {
            user[key] = value.clone();
        }
        self.users.push(user);
    }

    fn team(&mut self, uid: &str, name: &str, restricts: &str, node: u64, users: &[&str], queued: &[&str]) {
        let mut team = json!({
            "team_uid": uid, "name": name, "restricts": restricts, "node": self.path(node),
            "queued_user_count": queued.len(), "queued_users": queued,
        });
        if restricts != "Queued" {
            team["user_count"] = users.len().into();
            team["users"] = json!(users);
            team["role_count"] = 0.into();
            team["roles"] = json!([]);
        }
        self.teams.push(team);
    }
}

impl World {
    /// The tenant, with this many plain users more in Northwind Dental.
    pub fn new(users: usize) -> World {
        let managed = |id: u64, name: &str, plan: &str, storage: &str, addons: Value, allocated: i64, active: usize| {
            json!({
                "company_id": id, "company_name": name, "node": ((8560_u64 << 32) + 10).to_string(),
                "node_name": "Acme MSP\\Managed Companies", "plan": plan, "storage": storage, "addons": addons,
                "allocated": allocated, "active": active,
            })
        };
        World {
            companies: vec![acme(), northwind(users), contoso(), Company::new(3863, "fabrikam (trial)")],
            managed: vec![
                managed(
                    3862,
                    "Contoso Legal, LLP",
                    "enterprise",
                    "100GB",
                    json!(["compliance_report", "connection_manager:5"]),
                    25,
                    3,
                ),
                managed(3863, "fabrikam (trial)", "business", "100GB", json!([]), 0, 0),
                managed(
                    3861,
                    "Northwind Dental",
                    "businessPlus",
                    "1TB",
                    json!(["enterprise_breach_watch", "secrets_manager"]),
                    -1,
                    users + 6,
                ),
            ],
        }
    }
}

fn acme() -> Company {
    let mut acme = Company::new(8560, "Acme MSP");
    acme.node(10, "Managed Companies");
    acme.node(11, "Service Desk");
    acme.role(301, "MSP Administrator", 2, true);
    let technicians = [("pyUcNXlHHBG3BoqXn0BSpA", "Technicians")];
    let two_factor = json!({ "2fa_enabled": true, "job_title": "Owner" });
    acme.user(Person {
        number: 101,
        email: "msp.admin@acme-msp.example",
        name: "Morgan Admin",
        status: "Active",
        transfer: "Not required",
        node: 2,
        teams: &[],
        roles: &[301],
        more: two_factor,
    });
    acme.user(Person {
        number: 102,
        email: "tech1@acme-msp.example",
        name: "Terry Tech",
        status: "Active",
        transfer: "Transfer accepted",
        node: 11,
        teams: &technicians,
        roles: &[],
        more: json!({ "2fa_enabled": true }),
    });
    acme.user(Person {
        number: 103,
        email: "tech2@acme-msp.example",
        name: "",
        status: "Invited",
        transfer: "",
        node: 11,
        teams: &[],
        roles: &[],
        more: Value::Null,
    });
    acme.give(301, &["msp.admin@acme-msp.example"], &[]);
    acme.team(technicians[0].0, "Technicians", "     ", 11, &["tech1@acme-msp.example"], &[]);
    acme
}

fn northwind(more_users: usize) -> Company {
    let mut company = Company::new(3861, "Northwind Dental");
    company.node(20, "Clinic");
    company.node(21, "Entra SCIM");
    company.role(402, "Clinic Users", 20, false);
    company.role(401, "Keeper Administrator", 2, true);
    let desk = [(FRONT_DESK, "Front Desk")];
    let both = [(FRONT_DESK, "Front Desk"), (CLINICIANS, "Clinicians")];
    let ada = json!({ "alias": ["ada.old@northwind.example"], "2fa_enabled": true, "job_title": "Practice Manager" });
    let people = [
        Person {
            number: 201,
            email: "ada@northwind.example",
            name: "Ada Northwind",
            status: "Active",
            transfer: "Not required",
            node: 2,
            teams: &desk,
            roles: &[401, 402],
            more: ada,
        },
        Person {
            number: 202,
            email: "ben@northwind.example",
            name: "Ben Ünïcode",
            status: "Active",
            transfer: "Pending transfer",
            node: 20,
            teams: &both,
            roles: &[402],
            more: Value::Null,
        },
        Person {
            number: 203,
            email: "cat@northwind.example",
            name: "",
            status: "Invited",
            transfer: "",
            node: 20,
            teams: &[],
            roles: &[],
            more: Value::Null,
        },
        Person {
            number: 204,
            email: "dan@northwind.example",
            name: "Dan Locked",
            status: "Locked",
            transfer: "Transfer accepted",
            node: 20,
            teams: &desk,
            roles: &[402],
            more: json!({ "2fa_enabled": true }),
        },
        Person {
            number: 205,
            email: "eve@northwind.example",
            name: "Eve IdP-Locked",
            status: "Locked by IdP",
            transfer: "Partially accepted",
            node: 21,
            teams: &[],
            roles: &[],
            more: Value::Null,
        },
        Person {
            number: 206,
            email: "fay@northwind.example",
            name: "Fay \"Quote\" O'Neil, Jr.",
            status: "Active",
            transfer: "Pending transfer",
            node: 21,
            teams: &[],
            roles: &[],
            more: Value::Null,
        },
    ];
    for person in people {
        company.user(person);
    }
    company.team(CLINICIANS, "Clinicians", "R W  ", 2, &["ben@northwind.example"], &[]);
    let desk = ["ada@northwind.example", "ben@northwind.example", "dan@northwind.example"];
    company.team(FRONT_DESK, "Front Desk", "    S", 20, &desk, &["cat@northwind.example"]);
    company.team("HMB1yQgkRopGhC4xe1Q-2g", "SCIM Pending Team", "Queued", 21, &[], &["eve@northwind.example"]);
    company.give(401, &["ada@northwind.example"], &[]);
    company.give(402, &["ben@northwind.example"], &["Front Desk"]);
    for at in 0..more_users {
        let (email, name) = (format!("staff{at:05}@northwind.example"), format!("Staff Member {at:05}"));
        company.user(Person {
            number: 10_000 + at as u64,
            email: &email,
            name: &name,
            status: "Active",
            transfer: "Not required",
            node: 20,
            teams: &[],
            roles: &[],
            more: Value::Null,
        });
    }
    company
}

fn contoso() -> Company {
    let mut company = Company::new(3862, "Contoso Legal, LLP");
    company.role(401, "Keeper Administrator", 2, true);
    let partners = [("0ZCRNZ8Ojt6Zn1s8GFDVcA", "Partners")];
    company.user(Person {
        number: 201,
        email: "gil@contoso.example",
        name: "Gil Contoso",
        status: "Active",
        transfer: "Not required",
        node: 2,
        teams: &partners,
        roles: &[401],
        more: json!({ "2fa_enabled": true }),
    });
    company.user(Person {
        number: 202,
        email: "hal@contoso.example",
        name: "Hal Partner",
        status: "Active",
        transfer: "Transfer accepted",
        node: 2,
        teams: &partners,
        roles: &[],
        more: Value::Null,
    });
    company.user(Person {
        number: 203,
        email: "ivy@contoso.example",
        name: "Ivy Clerk",
        status: "Invited",
        transfer: "",
        node: 2,
        teams: &[],
        roles: &[],
        more: Value::Null,
    });
    company.give(401, &["gil@contoso.example"], &[]);
    company.team(partners[0].0, "Partners", "     ", 2, &["gil@contoso.example", "hal@contoso.example"], &[]);
    company
}
