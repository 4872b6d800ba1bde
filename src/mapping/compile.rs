//! From the rules of a file to the table; every mistake at once.

use std::collections::BTreeMap;

use super::{
    Path, RuleError, RuleFile, SourceFile,
    convert::ReadAs,
    fixed::fixed,
    function::FUNCTIONS,
    near::hint,
    path::{Root, Step},
    plan::{Condition, Member, Out, Read, Rule, Source, Steps},
    rule::holds,
    trie::Scope,
};
use crate::model::{Kind, Shape};

/// More list elements than this are not mapped one by one.
const MOST_ITEMS: usize = 16;

/// What compiling collects.
#[derive(Default)]
pub(super) struct Compiler {
    /// `$account`, `$company`, `$page`.
    pub roots: [Scope; 3],
    pub sources: Vec<String>,
    pub errors: Vec<RuleError>,
}

/// The rule being compiled.
struct At<'a> {
    target: &'a str,
    kind: Kind,
    /// What source paths within `each` are relative to, with the dot.
    prefix: &'a str,
}

type Checked<T> = Result<T, Mistake>;

/// What is wrong and what to do.
pub(super) struct Mistake(pub String, pub Option<String>);

impl From<String> for Mistake {
    fn from(message: String) -> Self {
        Mistake(message, None)
    }
}

impl From<&str> for Mistake {
    fn from(message: &str) -> Self {
        Mistake(message.to_owned(), None)
    }
}

fn wrong<T>(message: impl Into<String>, hint: impl Into<String>) -> Checked<T> {
    Err(Mistake(message.into(), Some(hint.into())))
}

impl Compiler {
    /// The members of a record of this shape. `within` names where the record stands, for targets in messages.
    pub(super) fn members(
        &mut self,
        map: &BTreeMap<String, RuleFile>,
        shape: &'static Shape,
        local: &mut Scope,
        within: (&str, &str),
    ) -> Vec<Member> {
        let (above, prefix) = within;
        let mut out = Some(Out::Object(Vec::new()));
        for (target, file) in map {
            let full = format!("{above}{target}");
            let placed = Path::parse(target).map_err(|e| Mistake(e.to_string(), None)).and_then(|path| {
                if path.root() != Root::Record || path.steps().is_empty() {
                    return wrong("is not a target", "name a field of the unified record, such as `emails[0].email`");
                }
                let mut build = |kind: Kind| self.rule(file, At { target: &full, kind, prefix }, local);
                place(&mut out, Kind::Object(shape), path.steps(), &mut build)
            });
            if let Err(Mistake(message, hint)) = placed {
                self.errors.push(RuleError { target: full, message, hint });
            }
        }
        let mut members = match out {
            Some(Out::Object(members)) => members,
            _ => Vec::new(),
        };
        sort(&mut members);
        for field in shape.fields.iter().filter(|field| field.required) {
            if !map.keys().any(|target| target == field.name || holds(field.name, target)) {
                let hint = Some(format!("every {} needs it", shape.name.to_lowercase()));
                let target = format!("{above}{}", field.name);
                self.errors.push(RuleError { target, message: "is required and has no rule".to_owned(), hint });
            }
        }
        members
    }

    fn rule(&mut self, file: &RuleFile, at: At<'_>, local: &mut Scope) -> Checked<Out> {
        let source =
            |paths: &[String]| SourceFile { from: Some(super::OneOrMany::Many(paths.to_vec())), ..SourceFile::default() };
        let rule = match file {
            RuleFile::Path(path) => self.full(&source(std::slice::from_ref(path)), at, local),
            RuleFile::First(paths) => self.full(&source(paths), at, local),
            RuleFile::Full(full) => self.full(full, at, local),
        }?;
        Ok(Out::Rule(Box::new(rule)))
    }

    fn full(&mut self, file: &SourceFile, at: At<'_>, local: &mut Scope) -> Checked<Rule> {
        fits(file, at.kind)?;
        let when = file.when.as_ref().map(|when| self.condition(when, &at, local)).transpose()?;
        let steps = steps(file, at.kind)?;
        let otherwise = file.otherwise.as_ref().map(|value| fixed(at.kind, value)).transpose()?;
        let read = self.read(file, &at, local)?;
        let plain = steps.null_if.is_empty()
            && steps.function.is_none()
            && steps.values.is_empty()
            && steps.read_as.is_none()
            && steps.split.is_none()
            && steps.join.is_none();
        Ok(Rule { target: at.target.to_owned(), kind: at.kind, when, read, steps, plain, otherwise })
    }

    fn read(&mut self, file: &SourceFile, at: &At<'_>, local: &mut Scope) -> Checked<Read> {
        if let Some(value) = &file.constant {
            return Ok(Read::Const(fixed(at.kind, value)?));
        }
        if let Some(path) = &file.present {
            return Ok(Read::Present(self.source(path, at, local)?));
        }
        if let Some(path) = &file.each {
            return self.each(path, file.map.as_ref(), at, local);
        }
        if let Some(paths) = &file.join_paths {
            let Some(with) = file.join.clone() else {
                return wrong("`join_paths` needs `join`", "say what stands between the texts, for example `join: \" \"`");
            };
            return Ok(Read::Joined(self.sources(paths, at, local)?, with));
        }
        let paths = file.from.as_ref().map(super::OneOrMany::as_slice).unwrap_or_default();
        Ok(Read::First(self.sources(paths, at, local)?))
    }

    fn sources(&mut self, paths: &[String], at: &At<'_>, local: &mut Scope) -> Checked<Vec<Source>> {
        if paths.is_empty() {
            return wrong("there is no path", "name at least one path into the vendor's record");
        }
        paths.iter().map(|path| self.source(path, at, local)).collect()
    }

    fn source(&mut self, text: &str, at: &At<'_>, local: &mut Scope) -> Checked<Source> {
        let path = Path::parse(text).map_err(|e| Mistake(e.to_string(), None))?;
        self.note(&path, at.prefix);
        let scope = match path.root() {
            Root::Record => local,
            Root::Account => &mut self.roots[0],
            Root::Company => &mut self.roots[1],
            Root::Page => &mut self.roots[2],
        };
        let (hops, scope, names) = scope.rows(path.steps());
        Ok(Source { root: path.root(), hops, slot: scope.keep(names) })
    }

    /// Remembers a source path, in full, so that it can be read on its own.
    fn note(&mut self, path: &Path, prefix: &str) {
        let text = path.as_str();
        let full = match (path.reads_record(), prefix, text) {
            (false, ..) | (_, "", _) => text.to_owned(),
            (_, prefix, ".") => prefix.to_owned(),
            (_, prefix, text) if text.starts_with('[') => format!("{prefix}{text}"),
            (_, prefix, text) => format!("{prefix}.{text}"),
        };
        if !self.sources.contains(&full) {
            self.sources.push(full);
        }
    }

    fn each(&mut self, text: &str, map: Option<&BTreeMap<String, RuleFile>>, at: &At<'_>, local: &mut Scope) -> Checked<Read> {
        let (Some(map), Kind::List(Kind::Object(shape))) = (map, at.kind) else {
            return wrong("`each` needs `map` and a target that is a list of records", "use `from` for a list of texts");
        };
        let path = Path::parse(text).map_err(|e| Mistake(e.to_string(), None))?;
        if !path.reads_record() {
            return wrong("`each` reads lists of the record only", "start the path at the record");
        }
        let mut steps = path.steps().to_vec();
        let mut prefix = match (text, at.prefix) {
            (".", prefix) => prefix.to_owned(),
            (text, "") => text.to_owned(),
            (text, prefix) => format!("{prefix}.{text}"),
        };
        if matches!(steps.last(), Some(Step::Key(_)) | None) {
            steps.push(Step::All);
            prefix.push_str("[*]");
        }
        if !self.sources.contains(&prefix) {
            self.sources.push(prefix.clone());
        }
        let (hops, row, _) = local.rows(&steps);
        let members = self.members(map, shape, row, (&format!("{}[].", at.target), &prefix));
        Ok(Read::Each(hops, members))
    }

    fn condition(&mut self, file: &super::WhenFile, at: &At<'_>, local: &mut Scope) -> Checked<Condition> {
        if file.is.is_none() && file.is_not.is_none() {
            return wrong("`when` compares nothing", "add `is` or `is_not`");
        }
        let words = |words: &Option<super::OneOrMany<String>>| words.as_ref().map(|w| w.as_slice().to_vec());
        let source = self.source(&file.path, at, local)?;
        Ok(Condition { source, is: words(&file.is), is_not: words(&file.is_not) })
    }
}

fn sort(members: &mut [Member]) {
    members.sort_by_key(|member| member.place);
    for member in members {
        if let Out::Object(inner) = &mut member.out {
            sort(inner);
        }
        if let Out::Items(items) = &mut member.out {
            for item in items {
                if let Out::Object(inner) = item {
                    sort(inner);
                }
            }
        }
    }
}

/// Puts a rule where the target's steps lead.
fn place(out: &mut Option<Out>, kind: Kind, steps: &[Step], build: &mut dyn FnMut(Kind) -> Checked<Out>) -> Checked<()> {
    let Some((step, rest)) = steps.split_first() else {
        if out.is_some() {
            return wrong("has a rule, and a part of it has one too", "map either the whole or its parts");
        }
        *out = Some(build(kind)?);
        return Ok(());
    };
    match (step, kind) {
        (Step::Key(name), Kind::Object(shape)) => {
            let Some((place_in_shape, field)) = shape.fields.iter().enumerate().find(|(_, field)| field.name == name) else {
                let names = shape.fields.iter().map(|field| field.name);
                return Err(Mistake(format!("a {} has no field `{name}`", shape.name.to_lowercase()), hint(name, names)));
            };
            let Out::Object(members) = out.get_or_insert_with(|| Out::Object(Vec::new())) else {
                return wrong("has a rule of its own, and so has what it is part of", "map either the whole or its parts");
            };
            let known = members.iter().position(|member| member.name == field.name);
            let mut inner = known.map(|at| members.remove(at).out);
            let placed = place(&mut inner, field.kind, rest, build);
            if let Some(out) = inner {
                let label = format!("\"{}\":", field.name);
                members.push(Member { name: field.name, label, required: field.required, place: place_in_shape, out });
            }
            placed
        }
        (Step::Index(at), Kind::List(kind)) => {
            let Out::Items(items) = out.get_or_insert_with(|| Out::Items(Vec::new())) else {
                return wrong("has a rule of its own, and so has what it is part of", "map either the whole or its parts");
            };
            if *at > items.len() || *at >= MOST_ITEMS {
                return wrong(format!("element {at} is mapped, but not every one before it"), "count from 0 without gaps, to 15");
            }
            let mut inner = (*at < items.len()).then(|| items.remove(*at));
            let placed = place(&mut inner, *kind, rest, build);
            if let Some(out) = inner {
                items.insert(*at, out);
            }
            placed
        }
        (Step::Key(name), Kind::List(_)) => {
            wrong(format!("`{name}` is looked for in a list"), "name an element, such as `emails[0].email`")
        }
        (Step::All | Step::Where { .. }, _) => {
            wrong("a target cannot have `[*]` or `[?…]`", "use `each` and `map` for every element")
        }
        _ => wrong("a step of the target leads into a plain value", "leave out what follows the field's name"),
    }
}

/// Checks that the words of a rule go together and with the target.
fn fits(file: &SourceFile, kind: Kind) -> Checked<()> {
    let given =
        [file.from.is_some(), file.constant.is_some(), file.each.is_some(), file.join_paths.is_some(), file.present.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        return wrong("exactly one of `from`, `const`, `each`, `join_paths`, `present` is needed", "keep one of them");
    }
    let reads_text = file.from.is_some() || file.join_paths.is_some();
    let text_words = [
        ("as", file.read_as.is_some()),
        ("values", file.values.is_some()),
        ("null_if", file.null_if.is_some()),
        ("split", file.split.is_some()),
        ("join", file.join.is_some()),
        ("fn", file.function.is_some()),
    ];
    if let Some((word, _)) = text_words.iter().find(|(_, given)| *given && !reads_text) {
        return Err(format!("`{word}` works on texts and needs `from` or `join_paths`").into());
    }
    if file.map.is_some() && file.each.is_none() {
        return Err("`map` needs `each`".into());
    }
    if file.values.is_some() && file.read_as.is_some() {
        return wrong("`values` and `as` exclude each other", "`values` compares the text as the vendor writes it");
    }
    if file.keep_others && (file.values.is_none() || file.otherwise.is_some() || !matches!(kind, Kind::Text)) {
        return wrong("`keep_others` stands beside `values` of a text, without `else`", "leave it out");
    }
    if file.split.is_some() && (file.join.is_some() || !matches!(kind, Kind::List(_))) {
        return Err("`split` makes a list: the target must be one, without `join`".into());
    }
    match kind {
        Kind::Object(_) if file.constant.is_none() => wrong("is a record", "map its fields, such as `organization.id`"),
        Kind::List(Kind::Object(_)) if reads_text => wrong("is a list of records", "use `each` and `map`"),
        Kind::List(_) if file.join.is_some() && file.from.is_some() => {
            Err("`join` makes one text, but the target is a list".into())
        }
        Kind::Bool | Kind::Number | Kind::Time | Kind::Enum(_) | Kind::Text if file.each.is_some() => {
            Err("`each` makes a list, but the target is none".into())
        }
        Kind::Text | Kind::Number | Kind::Time | Kind::Enum(_) | Kind::List(_) if file.present.is_some() => {
            wrong("`present` makes a boolean, but the target is none", "use `from`")
        }
        Kind::Enum(words) if words.contains(&"unknown") && reads_text && file.otherwise.is_none() => {
            wrong("an enum needs `else`", "add `else: unknown`, so that a new word of the vendor is never taken for a known one")
        }
        _ => Ok(()),
    }
}

fn steps(file: &SourceFile, kind: Kind) -> Checked<Steps> {
    let item = if let Kind::List(item) = kind { *item } else { kind };
    let function = match &file.function {
        None => None,
        Some(name) => match FUNCTIONS.iter().find(|(known, _)| known == name) {
            Some((_, function)) => Some(*function),
            None => {
                let message = format!("there is no function `{name}`");
                return Err(Mistake(message, hint(name, FUNCTIONS.iter().map(|(name, _)| *name))));
            }
        },
    };
    let values = file.values.iter().flatten().map(|(word, value)| Ok((word.clone(), fixed(item, value)?)));
    Ok(Steps {
        null_if: file.null_if.as_ref().map(|texts| texts.as_slice().to_vec()).unwrap_or_default(),
        function,
        values: values.collect::<Checked<_>>()?,
        keep_others: file.keep_others,
        read_as: read_as(file, item)?,
        split: file.split.clone(),
        join: file.join.clone().filter(|_| file.from.is_some()),
    })
}

fn read_as(file: &SourceFile, kind: Kind) -> Checked<Option<ReadAs>> {
    let Some(word) = &file.read_as else {
        return if file.format.is_some() { wrong("`format` needs `as`", "add `as: datetime` or `as: date`") } else { Ok(None) };
    };
    let Some(read_as) = ReadAs::named(word, file.format.clone()) else {
        return Err(Mistake(format!("`as: {word}` is not known"), hint(word, ReadAs::WORDS.iter().copied())));
    };
    if file.format.is_some() && !matches!(read_as, ReadAs::DateTime(_) | ReadAs::Date(_)) {
        return wrong("`format` goes with `as: datetime` and `as: date` only", "leave it out");
    }
    match kind {
        Kind::Text => Ok(Some(read_as)),
        Kind::Time if read_as.is_time() => Ok(Some(read_as)),
        _ => wrong(format!("`as: {word}` does not make what the target holds"), "leave `as` out or choose another target"),
    }
}
