//! One log event as one line of JSON, written straight into the line: an access log has a line for each request, and a tree
//! of values for each line costs more than the rest of it.

use std::fmt::{self, Debug, Write};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// `{"timestamp", "level", <fields>, "target"}`.
pub struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let meta = event.metadata();
        write!(writer, "{{\"timestamp\":\"{:.6}\",\"level\":\"{}\"", jiff::Timestamp::now(), meta.level())?;
        let mut fields = Fields { writer, done: Ok(()) };
        event.record(&mut fields);
        let Fields { mut writer, done } = fields;
        done?;
        writer.write_str(",\"target\":\"")?;
        escape(&mut writer, meta.target())?;
        writer.write_str("\"}\n")
    }
}

struct Fields<'w> {
    writer: Writer<'w>,
    done: fmt::Result,
}

impl Fields<'_> {
    fn add(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.done.is_ok() {
            self.done = self.begin(field).and_then(|()| value(&mut self.writer));
        }
    }

    fn begin(&mut self, field: &Field) -> fmt::Result {
        self.writer.write_str(",\"")?;
        self.writer.write_str(field.name())?;
        self.writer.write_str("\":")
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, |writer| if value.is_finite() { write!(writer, "{value}") } else { writer.write_str("null") });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, |writer| write!(writer, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, |writer| {
            writer.write_char('"')?;
            escape(writer, value)?;
            writer.write_char('"')
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, |writer| {
            writer.write_char('"')?;
            write!(Escaped(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }
}

struct Escaped<'a, 'w>(&'a mut Writer<'w>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text)
    }
}

/// The first byte of the controls U+0080 to U+009F, and of other letters: terminals take some of them for commands.
const MAYBE_CONTROL: u8 = 0xc2;

/// Writes a text as the inside of a JSON string, controls of any kind escaped; what needs no escape goes out in one piece.
fn escape(writer: &mut Writer<'_>, text: &str) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < b' ' || matches!(byte, b'"' | b'\\' | 0x7f | MAYBE_CONTROL)) {
        let (plain, tail) = rest.split_at(at);
        writer.write_str(plain)?;
        let mut letters = tail.chars();
        match letters.next().unwrap_or_default() {
            '"' => writer.write_str("\\\"")?,
            '\\' => writer.write_str("\\\\")?,
            '\n' => writer.write_str("\\n")?,
            control if control.is_control() => write!(writer, "\\u{:04x}", u32::from(control))?,
            letter => writer.write_char(letter)?,
        }
        rest = letters.as_str();
    }
    writer.write_str(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_a_json_string() {
        for text in ["", "plain", "a\"b\\c", "line\nbreak\r\t\u{0}\u{1f}", "Ünïcode \u{1f600} \u{2028} \u{7f}\u{9b}31m \u{a0}£"]
        {
            let mut out = String::from('"');
            escape(&mut Writer::new(&mut out), text).unwrap();
            out.push('"');
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
            assert!(!out.contains(char::is_control), "{out}");
        }
    }
}
