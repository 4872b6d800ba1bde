//! Every path a source file names: in `use`, in expressions and types, in macros and in the texts of attributes.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

/// A path by its segments, and its line. `global` is one that starts with `::`, so with a crate.
#[derive(Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    pub(crate) global: bool,
    pub(crate) line: usize,
}

/// What a file names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) paths: Vec<Named>,
    /// Modules declared at the top of the file, which hide crates of the same name.
    pub(crate) modules: Vec<String>,
}

/// Reads a file; a file that does not lex is an error, never an empty answer. `super` becomes `crate::…`.
pub(crate) fn names(file: &str, text: &str) -> Result<Names, String> {
    let tokens: TokenStream = text.parse().map_err(|error| format!("{file}: cannot be read as Rust: {error}"))?;
    let mut names = Names::default();
    let module = module_of(file);
    names.modules = declared(&tokens);
    walk(tokens, &module, &mut names.paths);
    Ok(names)
}

fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod") || matches!(path, "lib" | "main") {
        parts.pop();
    }
    parts
}

fn declared(tokens: &TokenStream) -> Vec<String> {
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    tokens
        .windows(2)
        .filter_map(|pair| match pair {
            [TokenTree::Ident(word), TokenTree::Ident(name)] if word == "mod" => Some(name.to_string()),
            _ => None,
        })
        .collect()
}

fn walk(stream: TokenStream, module: &[String], out: &mut Vec<Named>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(word) if word == "use" => {
                let end = (at..tokens.len()).find(|i| is(&tokens, *i, ';')).unwrap_or(tokens.len());
                let global = is(&tokens, at + 1, ':');
                flatten(&tokens[at + 1..end], &[], global, module, out);
                at = end;
            }
            TokenTree::Ident(word) if word == "mod" => {
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) = (tokens.get(at + 1), tokens.get(at + 2)) {
                    let inner: Vec<String> = module.iter().cloned().chain([name.to_string()]).collect();
                    walk(body.stream(), &inner, out);
                    at += 2;
                }
            }
            TokenTree::Ident(first) => {
                let (segments, next) = path(&tokens, at);
                // `Vec<T>::new` and `x.y::<Z>()` go on with a path that began elsewhere.
                let after_colons = at >= 2 && is(&tokens, at - 1, ':') && is(&tokens, at - 2, ':');
                let arrow = at >= 4 && is(&tokens, at - 3, '>') && is(&tokens, at - 4, '-');
                let goes_on = at >= 3 && after_colons && !arrow && !starts_path(&tokens[at - 3]);
                if !goes_on && (segments.len() > 1 || after_colons) {
                    push(segments, after_colons, first, module, out);
                }
                at = next - 1;
            }
            TokenTree::Group(group) => walk(group.stream(), module, out),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let documentation = at >= 2 && matches!(&tokens[at - 2], TokenTree::Ident(word) if word == "doc");
                if text.contains("crate::")
                    && !documentation
                    && let Ok(inner) = text.trim_matches(['r', '#', '"']).parse::<TokenStream>()
                {
                    let mut found = Vec::new();
                    walk(inner, module, &mut found);
                    let line = literal.span().start().line;
                    out.extend(found.into_iter().map(|named| Named { line, ..named }));
                }
            }
            TokenTree::Punct(_) => {}
        }
        at += 1;
    }
}

/// After these a leading `::` begins a path: `= ::http::…`, `(::http::…)`, `return ::http::…`.
fn starts_path(before: &TokenTree) -> bool {
    match before {
        TokenTree::Punct(punct) => punct.as_char() != '>',
        TokenTree::Ident(word) => ["return", "in", "dyn", "impl", "as", "mut", "else", "match", "if", "while", "for"]
            .contains(&word.to_string().as_str()),
        TokenTree::Group(_) | TokenTree::Literal(_) => false,
    }
}

fn is(tokens: &[TokenTree], at: usize, character: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

/// The segments of a plain path from `at` on, and where it ends.
fn path(tokens: &[TokenTree], at: usize) -> (Vec<String>, usize) {
    let mut segments = Vec::new();
    let mut next = at;
    while let Some(TokenTree::Ident(ident)) = tokens.get(next) {
        segments.push(ident.to_string());
        next += 1;
        if !(is(tokens, next, ':') && is(tokens, next + 1, ':') && matches!(tokens.get(next + 2), Some(TokenTree::Ident(_)))) {
            // `crate::{…}` and `http::<…>` still name what stands before the colons.
            if is(tokens, next, ':') && is(tokens, next + 1, ':') {
                segments.push("…".to_owned());
            }
            break;
        }
        next += 2;
    }
    (segments, next)
}

fn flatten(tokens: &[TokenTree], prefix: &[String], global: bool, module: &[String], out: &mut Vec<Named>) {
    let mut segments = prefix.to_vec();
    let mut first: Option<&Ident> = None;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(word) if word == "as" => break,
            TokenTree::Ident(word) => {
                first = first.or(Some(word));
                segments.push(word.to_string());
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for branch in inner.split(|t| matches!(t, TokenTree::Punct(p) if p.as_char() == ',')) {
                    flatten(branch, &segments, global, module, out);
                }
                return;
            }
            TokenTree::Punct(punct) if punct.as_char() == '*' => {
                segments.push("*".to_owned());
                let line = tokens[at].span().start().line;
                return resolve(segments, global, line, module, out);
            }
            _ => {}
        }
    }
    if let Some(first) = first {
        push(segments, global, first, module, out);
    }
}

fn push(segments: Vec<String>, global: bool, first: &Ident, module: &[String], out: &mut Vec<Named>) {
    resolve(segments, global, first.span().start().line, module, out);
}

/// Turns `super::super::x` into `crate::…::x` and `self::x` into the module's own path.
fn resolve(segments: Vec<String>, global: bool, line: usize, module: &[String], out: &mut Vec<Named>) {
    let up = segments.iter().skip_while(|s| *s == "self").take_while(|s| *s == "super").count();
    let own = segments.first().is_some_and(|s| s == "self");
    let segments = if up == 0 && !own {
        segments
    } else {
        let kept = module.iter().take(module.len().saturating_sub(up)).cloned();
        let rest = segments.into_iter().skip_while(|s| s == "self" || s == "super");
        std::iter::once("crate".to_owned()).chain(kept).chain(rest).collect()
    };
    out.push(Named { segments, global, line });
}
