//! A page of SCIM users from a seeded generator, mapped by the table and by structs written by hand. Shared with the bench.

use std::{borrow::Cow, fmt::Write as _};

use rollcall::{
    mapping::{Options, Page, Path, Roots, RuleFile, Table},
    model::User,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const MAP: &str = r#"{
    "id": "id",
    "external_id": "externalId",
    "first_name": "name.givenName",
    "last_name": "name.familyName",
    "name": ["displayName", "name.formatted"],
    "username": "userName",
    "title": "title",
    "emails": {"each": "emails", "map": {"email": "value", "type": "type", "is_primary": "primary"}},
    "phones": {"each": "phoneNumbers", "map": {"number": "value", "type": "type"}},
    "status": {"from": "active", "values": {"true": "active", "false": "inactive"}, "else": "unknown"},
    "type": "userType",
    "groups": {"each": "groups", "map": {"id": "value", "name": "display"}},
    "roles": {"each": "roles", "map": {"id": "value", "name": "display"}},
    "timezone": "timezone",
    "bio": "\"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User\".department",
    "created_at": "meta.created",
    "updated_at": "meta.lastModified"
}"#;

pub fn table() -> Table {
    let map: std::collections::BTreeMap<String, RuleFile> = serde_json::from_str(MAP).unwrap();
    Table::compile(&map, &User::SHAPE).unwrap()
}

pub fn records() -> Path {
    Path::parse("Resources[*]").unwrap()
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pick<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words[self.roll(words.len() as u64) as usize]
    }
}

/// A SCIM ListResponse with so many users, about 1.3 kB each.
pub fn page(users: u64, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed | 1);
    let mut page = format!(
        r#"{{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"],"totalResults":{users},"startIndex":1,"itemsPerPage":{users},"Resources":["#
    );
    for n in 0..users {
        if n > 0 {
            page.push(',');
        }
        user(&mut page, n, &mut dice);
    }
    page.push_str("]}");
    page.into_bytes()
}

fn user(page: &mut String, n: u64, dice: &mut Dice) {
    let first = dice.pick(&["Ada", "Grace", "Edsger", "Barbara", "Zoë", "Donald"]);
    let last = dice.pick(&["Byron", "Hopper", "Dijkstra", "Liskov", "Müller", "Knuth"]);
    let id = format!("{:08x}-{:04x}-4{:03x}", dice.roll(1 << 32), dice.roll(1 << 16), dice.roll(1 << 12));
    let login = format!("user{n}.{}@northwind.example", last.to_ascii_lowercase().replace('ü', "u"));
    let (day, minute) = (1 + dice.roll(28), dice.roll(60));
    write!(
        page,
        r#"{{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],"id":"{id}","externalId":"ext-{n}","userName":"{login}","name":{{"formatted":"{first} {last}","familyName":"{last}","givenName":"{first}"}},"displayName":"{first} {last}","title":"{}","userType":"Employee","preferredLanguage":"en-GB","timezone":"Europe/Berlin","active":{},"emails":[{{"value":"{login}","type":"work","primary":true}},{{"value":"{n}@home.example","type":"home","primary":false}}],"phoneNumbers":[{{"value":"+49 30 555 {:04}","type":"work"}}],"#,
        dice.pick(&["Engineer", "Head of \\\"Things\\\"", "Analyst"]),
        dice.roll(10) > 0,
        dice.roll(10_000),
    )
    .unwrap();
    page.push_str(r#""groups":["#);
    for g in 0..dice.roll(4) {
        let comma = if g > 0 { "," } else { "" };
        let (group, name) = (dice.roll(1 << 32), dice.pick(&["Engineering", "Sales", "Everyone"]));
        write!(page, r#"{comma}{{"value":"g-{group:08x}","$ref":"https://scim.northwind.example/v2/Groups/g-{group:08x}","display":"{name}"}}"#)
            .unwrap();
    }
    write!(
        page,
        r#"],"roles":[{{"value":"r{}","display":"Member"}}],"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{{"employeeNumber":"{n}","department":"{}","manager":{{"value":"m-1","displayName":"A Manager"}}}},"meta":{{"resourceType":"User","created":"2025-01-{day:02}T03:{minute:02}:05Z","lastModified":"2025-02-{day:02}T03:{minute:02}:05.123Z","location":"https://scim.northwind.example/v2/Users/{id}","version":"W/\"{}\""}}}}"#,
        dice.roll(9),
        dice.pick(&["R&D", "Finance"]),
        dice.roll(1 << 40),
    )
    .unwrap();
}

/// The answer by the table.
pub fn with_table(table: &Table, body: &[u8], remote_data: bool, out: &mut Vec<u8>) {
    let found = table.records(&records(), body).unwrap();
    let page = Page { text: std::str::from_utf8(body).unwrap(), records: &found };
    out.extend_from_slice(b"{\"result\":[");
    let options = Options { remote_data, exclude: &[] };
    let mut mapping = table.begin(Roots::default()).unwrap();
    for at in 0..found.ranges.len() {
        if at > 0 {
            out.push(b',');
        }
        mapping.apply_to(page, at, options, out).unwrap();
    }
    out.extend_from_slice(b"],\"next_cursor\":\"MTAx\"}");
}

/// A string that is borrowed where it can be; serde copies an `Option<Cow<str>>`, but not this.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct ByHandPage<'a, T> {
    #[serde(rename = "Resources", bound(deserialize = "T: Deserialize<'de>"))]
    resources: Vec<T>,
    #[serde(skip)]
    body: std::marker::PhantomData<&'a ()>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct In<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    external_id: Option<Text<'a>>,
    user_name: Option<Text<'a>>,
    name: Option<NameIn<'a>>,
    display_name: Option<Text<'a>>,
    title: Option<Text<'a>>,
    user_type: Option<Text<'a>>,
    timezone: Option<Text<'a>>,
    active: Option<bool>,
    #[serde(default)]
    emails: Vec<EmailIn<'a>>,
    #[serde(default)]
    phone_numbers: Vec<PhoneIn<'a>>,
    #[serde(default)]
    groups: Vec<RefIn<'a>>,
    #[serde(default)]
    roles: Vec<RefIn<'a>>,
    #[serde(rename = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User")]
    enterprise: Option<EnterpriseIn<'a>>,
    meta: Option<MetaIn<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NameIn<'a> {
    #[serde(borrow)]
    formatted: Option<Text<'a>>,
    family_name: Option<Text<'a>>,
    given_name: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct EmailIn<'a> {
    #[serde(borrow)]
    value: Option<Text<'a>>,
    r#type: Option<Text<'a>>,
    primary: Option<bool>,
}

#[derive(Deserialize)]
struct PhoneIn<'a> {
    #[serde(borrow)]
    value: Option<Text<'a>>,
    r#type: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct RefIn<'a> {
    #[serde(borrow)]
    value: Option<Text<'a>>,
    display: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct EnterpriseIn<'a> {
    #[serde(borrow)]
    department: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetaIn<'a> {
    #[serde(borrow)]
    created: Option<Text<'a>>,
    last_modified: Option<Text<'a>>,
}

#[derive(Serialize)]
struct Out<'a> {
    id: Text<'a>,
    external_id: Option<Text<'a>>,
    first_name: Option<Text<'a>>,
    last_name: Option<Text<'a>>,
    name: Option<Text<'a>>,
    username: Option<Text<'a>>,
    title: Option<Text<'a>>,
    emails: Vec<EmailOut<'a>>,
    phones: Vec<PhoneOut<'a>>,
    status: &'static str,
    roles: Vec<RefOut<'a>>,
    r#type: Option<Text<'a>>,
    groups: Vec<RefOut<'a>>,
    timezone: Option<Text<'a>>,
    bio: Option<Text<'a>>,
    created_at: Option<Text<'a>>,
    updated_at: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_data: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct EmailOut<'a> {
    email: Option<Text<'a>>,
    r#type: Option<Text<'a>>,
    is_primary: Option<bool>,
}

#[derive(Serialize)]
struct PhoneOut<'a> {
    number: Option<Text<'a>>,
    r#type: Option<Text<'a>>,
}

#[derive(Serialize)]
struct RefOut<'a> {
    id: Option<Text<'a>>,
    name: Option<Text<'a>>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    result: Vec<Out<'a>>,
    next_cursor: &'a str,
}

fn refs(refs: Vec<RefIn<'_>>) -> Vec<RefOut<'_>> {
    refs.into_iter().map(|r| RefOut { id: r.value, name: r.display }).collect()
}

fn unified<'a>(user: In<'a>, remote_data: Option<&'a RawValue>) -> Out<'a> {
    let (first_name, last_name, formatted) =
        user.name.map_or((None, None, None), |name| (name.given_name, name.family_name, name.formatted));
    let (created_at, updated_at) = user.meta.map_or((None, None), |meta| (meta.created, meta.last_modified));
    Out {
        id: user.id,
        external_id: user.external_id,
        first_name,
        last_name,
        name: user.display_name.or(formatted),
        username: user.user_name,
        title: user.title,
        emails: user.emails.into_iter().map(|e| EmailOut { email: e.value, r#type: e.r#type, is_primary: e.primary }).collect(),
        phones: user.phone_numbers.into_iter().map(|p| PhoneOut { number: p.value, r#type: p.r#type }).collect(),
        status: match user.active {
            Some(true) => "active",
            Some(false) => "inactive",
            None => "unknown",
        },
        roles: refs(user.roles),
        r#type: user.user_type,
        groups: refs(user.groups),
        timezone: user.timezone,
        bio: user.enterprise.and_then(|e| e.department),
        created_at,
        updated_at,
        remote_data,
    }
}

/// The answer by hand: the fastest plain serde code for this one vendor. With `remote_data` each record is kept raw first.
pub fn by_hand(body: &[u8], remote_data: bool, out: &mut Vec<u8>) {
    let result = if remote_data {
        let page: ByHandPage<'_, &RawValue> = serde_json::from_slice(body).unwrap();
        page.resources.into_iter().map(|raw| unified(serde_json::from_str(raw.get()).unwrap(), Some(raw))).collect()
    } else {
        let page: ByHandPage<'_, In<'_>> = serde_json::from_slice(body).unwrap();
        page.resources.into_iter().map(|user| unified(user, None)).collect()
    };
    serde_json::to_writer(out, &Envelope { result, next_cursor: "MTAx" }).unwrap();
}
