//! The JSON Schemas are those of the code, and every YAML file points an editor at its own.

use std::{fs, path::PathBuf};

use rollcall::connector::schema;

use super::{assert_file, connectors};

#[test]
fn the_schema_files_are_those_of_the_types() {
    let dir = connectors().join("_schema");
    assert_file(&dir.join("connector.schema.json"), &schema::text(schema::connector()));
    assert_file(&dir.join("resource.schema.json"), &schema::text(schema::resource()));
    assert_file(&dir.join("fixture.schema.json"), &schema::text(schema::fixture()));
}

#[test]
fn every_yaml_file_points_at_its_schema() {
    let mut seen = 0;
    for folder in fs::read_dir(connectors()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in files.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "yaml")) {
            let name = if path.ends_with("connector.yaml") { "connector" } else { "resource" };
            let text = fs::read_to_string(&path).unwrap();
            let first = format!("# yaml-language-server: $schema=../_schema/{name}.schema.json");
            assert_eq!(text.lines().next(), Some(first.as_str()), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} files seen");
}
