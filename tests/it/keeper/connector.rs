//! The connector folder: it loads, and its status words mean what the reference says.

use rollcall::connector::Catalog;

#[test]
fn the_folder_loads_with_both_ways_to_connect() {
    let catalog = Catalog::load(None).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let keeper = catalog.get("keeper").expect("a keeper connector");
    let methods: Vec<&str> = keeper.methods.iter().map(|method| method.name.as_str()).collect();
    assert_eq!(methods, ["service_mode", "scim"]);
}
