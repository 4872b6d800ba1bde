//! What `rollcall check` says about a folder of connectors: every mistake, with file, line, column and a hint.

use std::fmt::Write as _;

use super::Problem;
pub use super::fixture::check_dir;

/// The mistakes as text for people (`file:line:column: message`, the hint indented below) or as one JSON list for tools.
pub fn report(problems: &[Problem], json: bool) -> String {
    if json {
        let mut text = serde_json::to_string_pretty(problems).unwrap_or_default();
        text.push('\n');
        return text;
    }
    let mut text = String::new();
    for problem in problems {
        let _ = writeln!(text, "{problem}");
        if let Some(hint) = &problem.hint {
            let _ = writeln!(text, "    hint: {hint}");
        }
    }
    text
}
