//! Tests of the mapping side.

mod damage;
mod paths;
mod reverse;
mod rules;
mod scim_page;
mod speed;
mod vocabulary;

use rollcall::{
    mapping::{MapError, Mapped, Options, Roots, RuleError, RuleFile, Table},
    model::{Shape, User},
};
use std::collections::BTreeMap;

type Map = BTreeMap<String, RuleFile>;

/// A map as a connector's file writes it.
fn map(yaml: &str) -> Map {
    serde_saphyr::from_str(yaml).expect(yaml)
}

/// A table for users; `id` and `status` are added when the text has none.
fn users(yaml: &str) -> Table {
    Table::compile(&with_required(yaml), &User::SHAPE).expect(yaml)
}

fn with_required(yaml: &str) -> Map {
    let mut all = map("{ id: id, status: { const: active } }");
    all.extend(map(yaml));
    all
}

/// The mistakes of a map of users.
fn mistakes(yaml: &str) -> Vec<RuleError> {
    Table::compile(&with_required(yaml), &User::SHAPE).expect_err(yaml)
}

fn apply(table: &Table, record: &str) -> Result<(serde_json::Value, Mapped), MapError> {
    let mut out = Vec::new();
    let mapped = table.apply(record.as_bytes(), Roots::default(), Options::default(), &mut out)?;
    Ok((serde_json::from_slice(&out).expect("the output is JSON"), mapped))
}

/// One field of a user mapped by these rules.
fn field(yaml: &str, record: &str, name: &str) -> serde_json::Value {
    apply(&users(yaml), record).expect(record).0[name].clone()
}

fn shape() -> &'static Shape {
    &User::SHAPE
}
