//! Content codings of unified answers, read with a bound: a page of a few kilobytes must not become gigabytes.

use std::io::Read;

use bytes::Bytes;
use http::{HeaderMap, header};

use super::Failure;

/// Decoded answers above this size must not be more than [`RATIO`] times what was sent.
const FREE: usize = 1 << 20;
const RATIO: usize = 100;

/// Values of one answer. A value of two bytes takes seventy of memory once it stands for itself; a directory of a hundred
/// thousand users has less than three million.
const VALUES: usize = 4_000_000;

/// Refuses an answer of more values than any directory has, before anything is made of it. Separators within texts count
/// too, which costs less than reading the texts.
pub(super) fn check_values(body: &[u8]) -> Result<(), Failure> {
    // Counted in bytes, piece by piece, because that is what vectorises.
    let in_piece = |piece: &[u8]| usize::from(piece.iter().map(|byte| u8::from(matches!(byte, b',' | b'[' | b'{'))).sum::<u8>());
    match body.chunks(192).map(in_piece).sum::<usize>() <= VALUES {
        true => Ok(()),
        false => Err(Failure::BadAnswer(format!("the answer has more than {VALUES} values"))),
    }
}

/// The body without its content coding; at most `max` bytes.
pub(super) fn decode(headers: &HeaderMap, body: Bytes, max: usize) -> Result<Bytes, Failure> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let coding = match (codings.next(), codings.next()) {
        (None, _) => return Ok(body),
        (Some(one), None) => one.to_str().unwrap_or("?").trim().to_ascii_lowercase(),
        _ => return Err(Failure::BadAnswer("the answer is encoded more than once".into())),
    };
    if body.is_empty() {
        return Ok(body);
    }
    match coding.as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => read(flate2::read::MultiGzDecoder::new(&body[..]), &coding, body.len(), max),
        "br" => read(brotli_decompressor::Decompressor::new(&body[..], 4096), &coding, body.len(), max),
        _ => Err(Failure::BadAnswer("the answer's content coding was not asked for".into())),
    }
}

fn read(mut reader: impl Read, coding: &str, sent: usize, max: usize) -> Result<Bytes, Failure> {
    let mut out = Vec::with_capacity((sent * 4).min(max));
    let mut part = [0u8; 16 * 1024];
    loop {
        let n =
            reader.read(&mut part).map_err(|_| Failure::BadAnswer(format!("the answer's {coding} coding is damaged or cut")))?;
        if n == 0 {
            return Ok(out.into());
        }
        out.extend_from_slice(&part[..n]);
        if out.len() > max {
            return Err(Failure::BadAnswer(format!("the answer is larger than {max} bytes when decoded")));
        }
        if out.len() > FREE && out.len() / RATIO > sent {
            return Err(Failure::BadAnswer(format!("the answer's {coding} coding expands more than {RATIO} times")));
        }
    }
}
