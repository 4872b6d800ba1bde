//! One connector folder: its files, read, checked for form and parsed.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Problem,
    file::{ConnectorFile, ResourceFile},
    resource::check_rules,
    schema,
    yaml::{self, Content, Entry, Node, Place},
};
use crate::{mapping::RuleFile, model::Resource};

/// The head file's name.
pub(super) const HEAD: &str = "connector.yaml";
const GUIDE: &str = "guide.md";
const ICON: &str = "icon.svg";
const LONGEST_HEAD: usize = 90;
const LONGEST_RESOURCE: usize = 70;
const LARGEST_ICON: usize = 16 * 1024;

/// The files of a folder, by their path in it.
pub(super) struct Folder {
    pub(super) name: String,
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

/// A file of a folder, parsed.
pub(super) struct Source<T> {
    pub(super) path: String,
    pub(super) file: T,
    pub(super) root: Node,
}

impl<T> Source<T> {
    /// Its top, for problems.
    pub(super) fn top(&self) -> Place<'_> {
        Place::top(&self.path, &self.root)
    }
}

/// A resource file and whom it is for.
pub(super) struct ResourceSource {
    pub(super) resource: Resource,
    pub(super) method: Option<String>,
    pub(super) source: Source<ResourceFile>,
}

/// A folder, parsed as far as it could be.
pub(super) struct Parsed {
    pub(super) name: String,
    pub(super) head: Option<Source<ConnectorFile>>,
    pub(super) resources: Vec<ResourceSource>,
    pub(super) guide: String,
    pub(super) icon: Option<Vec<u8>>,
    pub(super) problems: Vec<Problem>,
}

/// Reads every file; what is wrong with one does not hide what is wrong with the others.
pub(super) fn parse(folder: &Folder) -> Parsed {
    let mut parsed = Parsed {
        name: folder.name.clone(),
        head: None,
        resources: Vec::new(),
        guide: String::new(),
        icon: None,
        problems: Vec::new(),
    };
    for (name, bytes) in &folder.files {
        parsed.read_file(name, bytes);
    }
    parsed.check_presence(folder);
    parsed.check_head();
    parsed
}

impl Parsed {
    /// Whether a method takes resource files of another connector.
    pub(super) fn leans(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.file.link.iter().any(|link| link.like.is_some()))
    }

    fn read_file(&mut self, name: &str, bytes: &[u8]) {
        let path = format!("{}/{name}", self.name);
        let place = Place::folder(&path);
        match name {
            HEAD => self.read_head(path, bytes),
            GUIDE => match std::str::from_utf8(bytes) {
                Ok(text) if !text.trim().is_empty() => self.guide = text.to_owned(),
                _ => self.problems.push(place.problem("the guide is empty or not UTF-8", GUIDE_HINT.to_owned())),
            },
            ICON => {
                self.problems.extend(icon_problem(place, bytes));
                self.icon = Some(bytes.to_vec());
            }
            _ if name.contains('/') || name.starts_with('.') => {}
            _ => match resource_name(name) {
                Some((resource, method)) => self.read_resource(path, bytes, resource, method),
                None => self.problems.push(place.problem(format!("`{name}` is not a file of a connector"), files_hint())),
            },
        }
    }

    fn read_head(&mut self, path: String, bytes: &[u8]) {
        let Some(root) = self.read_tree(&path, bytes, LONGEST_HEAD) else { return };
        self.head = self.read_form(&path, &root, schema::connector()).map(|file| Source { path, file, root });
    }

    fn read_resource(&mut self, path: String, bytes: &[u8], resource: Resource, method: Option<String>) {
        let Some(root) = self.read_tree(&path, bytes, LONGEST_RESOURCE) else { return };
        let Some(file) = self.read_form::<ResourceFile>(&path, &root, schema::resource()) else {
            return self.problems.extend(check_rules(Place::top(&path, &root), &rules(&root), resource));
        };
        let source = Source { path, file, root };
        if source.file.resource != resource {
            let message = format!("`resource` is not what the file's name says ({})", resource.plural());
            let hint = format!("name the file `{}.yaml`, or change `resource`", source.file.resource.plural());
            self.problems.push(source.top().key("resource").problem(message, hint));
        }
        self.resources.push(ResourceSource { resource, method, source });
    }

    /// The file as a tree, whatever stands in it.
    fn read_tree(&mut self, path: &str, bytes: &[u8], longest: usize) -> Option<Node> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            self.problems.push(Place::folder(path).problem("the file is not UTF-8", None));
            return None;
        };
        let lines = text.lines().count();
        if lines > longest {
            let message = format!("the file has {lines} lines; at most {longest} are allowed");
            let hint = "what needs more is a transport of its own, or belongs into the guide".to_owned();
            self.problems.push(Problem { line: longest as u64 + 1, ..Place::folder(path).problem(message, hint) });
        }
        yaml::parse(path, text).map_err(|problem| self.problems.push(problem)).ok()
    }

    /// The tree as what the file must be.
    fn read_form<T: DeserializeOwned>(&mut self, path: &str, root: &Node, schema: &Value) -> Option<T> {
        let problems = schema::check(schema, path, root);
        if !problems.is_empty() {
            self.problems.extend(problems);
            return None;
        }
        let file = serde_json::from_value::<T>(root.to_json());
        file.map_err(|error| self.problems.push(Place::top(path, root).problem(error.to_string(), None))).ok()
    }

    fn check_presence(&mut self, folder: &Folder) {
        let missing = |name: &str, hint: &str| {
            let path = format!("{}/{name}", folder.name);
            (!folder.files.contains_key(name)).then(|| Place::folder(&path).problem("the file is missing", hint.to_owned()))
        };
        self.problems.extend(missing(HEAD, "every connector has a head file; copy `_template`"));
        self.problems.extend(missing(GUIDE, GUIDE_HINT));
        self.problems.extend(missing(ICON, "a square SVG of the connector's own, at most 16 KiB"));
    }

    fn check_head(&mut self) {
        let Some(head) = &self.head else { return };
        let mut problems = Vec::new();
        if head.file.connector.as_str() != self.name {
            let message = format!("`connector` is `{}`, but the folder is `{}`", head.file.connector, self.name);
            problems.push(head.top().key("connector").problem(message, "give both the same name".to_owned()));
        }
        if head.file.format != 1 {
            problems.push(head.top().key("format").problem("this Rollcall reads format 1", "write `format: 1`".to_owned()));
        }
        if head.file.link.is_empty() {
            problems.push(head.top().key("link").problem("a connector needs at least one way to connect", None));
        }
        for source in &self.resources {
            if let Some(method) = &source.method
                && !head.file.link.iter().any(|link| link.method == *method)
            {
                let methods = head.file.link.iter().map(|link| link.method.as_str()).collect::<Vec<_>>().join(", ");
                let message = format!("the file's name says method `{method}`, which the connector does not have");
                problems.push(Place::folder(&source.source.path).problem(message, format!("methods: {methods}")));
            }
        }
        self.problems.extend(problems);
    }
}

/// The rules of a resource file that have the form of one, whatever the rest of the file is.
fn rules(root: &Node) -> BTreeMap<String, RuleFile> {
    let Some(Content::Map(entries)) = root.get("map").map(|map| &map.content) else { return BTreeMap::new() };
    let rule = |entry: &Entry| Some((entry.key.clone(), serde_json::from_value(entry.value.to_json()).ok()?));
    entries.iter().filter_map(rule).collect()
}

const GUIDE_HINT: &str = "say where the customer finds the credential and which rights it needs";

fn files_hint() -> String {
    let resources = Resource::ALL.iter().map(|r| format!("{}.yaml", r.plural())).collect::<Vec<_>>().join(", ");
    format!("files: {HEAD}, {GUIDE}, {ICON}, fixtures/, {resources}; `<resource>.<method>.yaml` replaces one for a method")
}

/// `users.yaml` → users; `users.scim.yaml` → users for the method `scim`.
fn resource_name(name: &str) -> Option<(Resource, Option<String>)> {
    let stem = name.strip_suffix(".yaml")?;
    let (plural, method) = match stem.split_once('.') {
        Some((plural, method)) => (plural, Some(method.to_owned())),
        None => (stem, None),
    };
    let resource = Resource::ALL.iter().find(|resource| resource.plural() == plural)?;
    Some((*resource, method))
}

/// An icon is shown on pages of the gateway: a drawing, nothing that runs or loads.
fn icon_problem(place: Place<'_>, bytes: &[u8]) -> Option<Problem> {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let active = ["<script", "javascript:", "<foreignobject", "<!entity", "href", "<style", "@import", "url(http", "<image"];
    let message = if bytes.len() > LARGEST_ICON {
        "the icon is larger than 16 KiB"
    } else if !text.contains("<svg") {
        "the icon is not an SVG"
    } else if active.iter().any(|word| text.contains(word)) || has_event(&text) {
        "the icon holds more than a drawing (scripts, styles, links or event attributes)"
    } else {
        return None;
    };
    Some(place.problem(message, "shapes, paths and colours only".to_owned()))
}

/// Whether an attribute such as `onload=` stands anywhere.
fn has_event(text: &str) -> bool {
    text.split('=').any(|before| {
        let name = before.trim_end().rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        name.len() > 2 && name.starts_with("on")
    })
}
