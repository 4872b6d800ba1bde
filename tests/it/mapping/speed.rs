//! The table and structs written by hand give the same answer; `tests/bench/mapping.rs` compares their speed.

use serde_json::Value;

use super::scim_page;

#[test]
fn the_table_answers_as_structs_written_by_hand() {
    let (table, body) = (scim_page::table(), scim_page::page(100, 42));
    let per_record = body.len() / 100;
    assert!((1_200..1_450).contains(&per_record), "{per_record} bytes a record");
    for remote_data in [false, true] {
        let (mut by_table, mut by_hand) = (Vec::new(), Vec::new());
        scim_page::with_table(&table, &body, remote_data, &mut by_table);
        scim_page::by_hand(&body, remote_data, &mut by_hand);
        let (by_table, by_hand): (Value, Value) =
            (serde_json::from_slice(&by_table).unwrap(), serde_json::from_slice(&by_hand).unwrap());
        assert_eq!(by_table["result"].as_array().unwrap().len(), 100);
        assert!(by_table["result"][0].as_object().unwrap().len() >= 14);
        assert_eq!(by_table["result"][0].get("remote_data").is_some(), remote_data);
        assert_eq!(by_table, by_hand);
    }
}

#[test]
fn a_record_among_others_is_mapped_as_if_alone() {
    let (table, body) = (scim_page::table(), scim_page::page(5, 3));
    let records = scim_page::records().elements(&body).unwrap();
    let options = rollcall::mapping::Options { remote_data: true, exclude: &[] };
    let mut mapping = table.begin(Default::default()).unwrap();
    let (mut page, mut single) = (b"kept".to_vec(), Vec::new());
    for range in &records {
        let start = page.len();
        let of_page = mapping.apply(&body[range.clone()], options, &mut page).unwrap();
        single.clear();
        let alone = table.apply(&body[range.clone()], Default::default(), options, &mut single).unwrap();
        assert_eq!((&page[start..], of_page.id), (&single[..], alone.id));
        let whole = page.clone();
        assert!(mapping.apply(&body[range.start..range.end - 1], options, &mut page).is_err());
        assert_eq!(page, whole, "a record that fails leaves nothing behind");
    }
}
