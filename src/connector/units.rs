//! The small texts of connector files that are not plain words: durations, sizes, requests, path patterns.

use std::time::Duration;

use http::Method;

use super::{Argument, DownloadHost, PathPattern, compile::is_host};

/// `250ms`, `60s`, `5m`, `1h`; at most an hour.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    const TAKES: &str = "a duration is a whole number and `ms`, `s`, `m` or `h`, at most 1h, for example `120s`";
    let (number, unit) = split_number(text).ok_or(TAKES)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(TAKES),
    };
    match number.checked_mul(millis) {
        Some(millis @ 1..=3_600_000) => Ok(Duration::from_millis(millis)),
        _ => Err(TAKES),
    }
}

/// `512B`, `64KiB`, `16MiB`, `1GiB`; at most a GiB.
pub(super) fn size(text: &str) -> Result<usize, &'static str> {
    const TAKES: &str = "a size is a whole number and `B`, `KiB`, `MiB` or `GiB`, at most 1GiB, for example `16MiB`";
    let (number, unit) = split_number(text).ok_or(TAKES)?;
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(TAKES),
    };
    match number.checked_mul(factor) {
        Some(bytes @ 1..=0x4000_0000) => usize::try_from(bytes).map_err(|_| TAKES),
        _ => Err(TAKES),
    }
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

/// `GET /path`: the method and the path's text.
pub(super) fn request(text: &str) -> Result<(Method, &str), String> {
    let (method, path) = text.split_once(' ').ok_or("a request is a method and a path, for example `GET /Users`")?;
    let method = self::method(method)?;
    plain_path(path).map(|()| (method, path))
}

/// An HTTP method a connector may use.
pub(super) fn method(text: &str) -> Result<Method, String> {
    const KNOWN: &[&str] = &["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if KNOWN.contains(&text) => Ok(method),
        _ => Err(format!("`{text}` is not one of {}", KNOWN.join(", "))),
    }
}

/// A path below the base: no query, no dot segments, nothing that is read differently elsewhere.
fn plain_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("a path begins with `/` and stands below `base`".into());
    }
    if path.contains(['?', '#']) {
        return Err("parameters stand under `query`, not in the path".into());
    }
    let odd = path.chars().any(|c| !(c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/{}".contains(c)));
    let dots = path.split('/').any(|segment| segment == "." || segment == "..");
    if odd || dots || (path.len() > 1 && path.contains("//")) {
        return Err("a path is plain: no blanks, percent signs, backslashes, dot segments or empty segments".into());
    }
    Ok(())
}

/// `--output`, `-o`.
pub(super) fn argument(text: &str) -> Result<Argument, &'static str> {
    let short = text.strip_prefix('-').filter(|letter| letter.len() == 1).and_then(|letter| letter.chars().next());
    if let Some(letter) = short.filter(char::is_ascii_alphanumeric) {
        return Ok(Argument::Short(letter));
    }
    let name = text.strip_prefix("--").filter(|name| name.starts_with(|first: char| first.is_ascii_alphanumeric()));
    match name.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')) {
        Some(name) => Ok(Argument::Long(name.to_owned())),
        None => Err("an option is written `--output` or `-o`, without its value"),
    }
}

/// `/api/v2/*`, `/files/**`.
pub(super) fn pattern(text: &str) -> Result<PathPattern, &'static str> {
    let inside = text.strip_prefix('/').ok_or("a pattern begins with `/`")?;
    let segments: Vec<String> = inside.split('/').map(str::to_owned).collect();
    let last = segments.len() - 1;
    let odd = segments.iter().enumerate().any(|(i, segment)| {
        let star = segment.contains('*');
        (star && segment != "*" && !(segment == "**" && i == last)) || (segment.is_empty() && i != last)
    });
    if odd { Err("`*` stands for one whole segment, `**` only at the end for any number") } else { Ok(PathPattern(segments)) }
}

/// `files.example.com[:port]`, or `*.example.com[:port]` for all hosts below it.
pub(super) fn download_host(text: &str) -> Option<DownloadHost> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
        None => (text, 443),
    };
    let (name, below) = host.strip_prefix("*.").map_or((host, false), |name| (name, true));
    is_host(name).then(|| DownloadHost { name: name.to_owned(), below, port })
}
