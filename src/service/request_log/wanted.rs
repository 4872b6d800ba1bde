//! Which lines of the log are wanted: a filter for each of their fields, none ever ignored.

use jiff::Timestamp;

use super::{
    line::RequestId,
    piece::{Seen, WINDOW},
};
use crate::{
    error::{Code, Error, Result},
    service::{Filter, FilterOp},
};

/// The texts, in the order in which lines have them.
const WORDS: [&str; 7] = ["actor", "tenant_id", "integrated_account_id", "integration", "route", "method", "code"];
/// The numbers, in the order in which lines have them, and how many of theirs are one of ours.
const NUMBERS: [(&str, u64); 6] =
    [("status", 1), ("vendor_status", 1), ("duration_ms", 1000), ("vendor_duration_ms", 1000), ("pages", 1), ("bytes", 1)];
const REQUEST: &str = "request_id";
const TIME: &str = "created_at";
/// How far the clocks of callers that number their requests by time may be wrong.
const SKEW: i64 = 5 * WINDOW;

/// What a line must be like; all must hold.
#[derive(Debug)]
pub struct Wanted {
    requests: Option<Vec<RequestId>>,
    words: Vec<(usize, Word)>,
    numbers: Vec<(usize, FilterOp, Vec<u64>)>,
    from: i64,
    to: i64,
    /// When the wanted requests' ids say that they were made; 0 when one does not say it.
    made: i64,
    fields: Vec<String>,
}

#[derive(Debug)]
enum Word {
    OneOf(Vec<String>),
    Part(String),
}

impl Wanted {
    /// Every field there is a filter for.
    pub fn fields() -> Vec<&'static str> {
        WORDS.into_iter().chain(NUMBERS.map(|(name, _)| name)).chain([REQUEST, TIME]).collect()
    }

    /// Reads what a caller asks for.
    pub fn new(filters: Vec<Filter>) -> Result<Self> {
        let mut wanted =
            Self { requests: None, words: Vec::new(), numbers: Vec::new(), from: 0, to: i64::MAX, made: 0, fields: Vec::new() };
        for filter in filters {
            wanted.fields.push(filter.field.clone());
            wanted.take(filter)?;
        }
        Ok(wanted)
    }

    fn take(&mut self, filter: Filter) -> Result<()> {
        let field = filter.field.clone();
        let name = field.as_str();
        if let Some(place) = WORDS.iter().position(|known| *known == name) {
            self.words.push((place, word(filter)?));
        } else if let Some(place) = NUMBERS.iter().position(|(known, _)| *known == name) {
            let values = filter.values.iter().map(|value| number(name, value, NUMBERS[place].1)).collect::<Result<_>>()?;
            if filter.op == FilterOp::Contains {
                return Err(operator(name, "eq, in, gt, gte, lt and lte"));
            }
            self.numbers.push((place, filter.op, values));
        } else if name == REQUEST {
            let Word::OneOf(ids) = word(filter)? else { return Err(operator(name, "eq and in")) };
            let ids: Vec<_> = ids.iter().map(|id| RequestId::of(id)).collect();
            let made: Option<Vec<i64>> = ids.iter().map(RequestId::made_at).collect();
            self.made = made.and_then(|made| made.into_iter().min()).unwrap_or(0);
            self.requests = Some(ids);
        } else if name == TIME {
            self.limit(&filter)?;
        } else {
            let detail = format!("Lines of the log have no `{name}` to filter by.");
            return Err(Error::new(Code::InvalidFilter, detail).field(name));
        }
        Ok(())
    }

    fn limit(&mut self, filter: &Filter) -> Result<()> {
        let Some(time) = filter.values.first().and_then(|value| value.parse::<Timestamp>().ok()) else {
            let detail = format!("`{TIME}` takes a time like `2026-01-31T12:00:00Z`.");
            return Err(Error::new(Code::InvalidFilter, detail).field(TIME));
        };
        let whole = time.as_nanosecond().div_euclid(1_000_000);
        let floor = i64::try_from(whole).unwrap_or(i64::MAX);
        let ceiling = if time.as_nanosecond().rem_euclid(1_000_000) == 0 { floor } else { floor.saturating_add(1) };
        match filter.op {
            FilterOp::Gte => self.from = self.from.max(ceiling),
            FilterOp::Gt => self.from = self.from.max(floor.saturating_add(1)),
            FilterOp::Lte => self.to = self.to.min(floor),
            FilterOp::Lt => self.to = self.to.min(ceiling.saturating_sub(1)),
            FilterOp::Eq => (self.from, self.to) = (self.from.max(ceiling), self.to.min(floor)),
            FilterOp::In | FilterOp::Contains => return Err(operator(TIME, "gt, gte, lt, lte and eq")),
        }
        Ok(())
    }

    /// The first and the last millisecond that can hold a line: no request has ended before its id was made. Ids of a caller's
    /// own may look as if they told a time, which then mostly is one to come.
    pub fn range(&self, now: i64) -> (i64, i64) {
        let made = Some(self.made - SKEW).filter(|made| *made <= now).unwrap_or(0);
        (self.from.max(made), self.to)
    }

    /// The filters' names, for messages.
    pub fn names(&self) -> &[String] {
        &self.fields
    }

    /// Whether it is this line; its window begins at `begin`.
    pub fn holds(&self, begin: i64, line: &Seen<'_>) -> bool {
        let at = begin + i64::from(line.millis);
        (self.from..=self.to).contains(&at)
            && self.requests.as_ref().is_none_or(|ids| ids.contains(&line.request_id))
            && self.words.iter().all(|(place, word)| line.words[*place].is_some_and(|text| word.is(text)))
            && self.numbers.iter().all(|(place, op, values)| line.numbers[*place].is_some_and(|is| compare(is, *op, values)))
    }
}

impl Word {
    fn is(&self, text: &str) -> bool {
        match self {
            Self::OneOf(words) => words.iter().any(|word| word == text),
            Self::Part(part) => text.to_lowercase().contains(part),
        }
    }
}

fn compare(is: u64, op: FilterOp, values: &[u64]) -> bool {
    let first = values.first().copied().unwrap_or_default();
    match op {
        FilterOp::Gt => is > first,
        FilterOp::Gte => is >= first,
        FilterOp::Lt => is < first,
        FilterOp::Lte => is <= first,
        _ => values.contains(&is),
    }
}

fn word(filter: Filter) -> Result<Word> {
    let Filter { field, op, mut values } = filter;
    if values.iter().any(String::is_empty) {
        return Err(Error::new(Code::InvalidFilter, format!("`{field}` takes a text that is not empty.")).field(field));
    }
    match field.as_str() {
        "method" => values.iter_mut().for_each(|value| value.make_ascii_uppercase()),
        "integrated_account_id" => values.iter_mut().for_each(|value| value.make_ascii_lowercase()),
        _ => {}
    }
    match op {
        FilterOp::Eq | FilterOp::In => Ok(Word::OneOf(values)),
        FilterOp::Contains => Ok(Word::Part(values.swap_remove(0).to_lowercase())),
        _ => Err(operator(&field, "eq, in and contains")),
    }
}

fn number(field: &str, value: &str, unit: u64) -> Result<u64> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value
        .parse::<i64>()
        .ok()
        .and_then(|number| u64::try_from(number).ok())
        .filter(|_| digits)
        .and_then(|number| number.checked_mul(unit));
    number.ok_or_else(|| Error::new(Code::InvalidFilter, format!("`{field}` takes a whole number.")).field(field))
}

fn operator(field: &str, known: &str) -> Error {
    Error::new(Code::InvalidFilter, format!("`{field}` is compared by {known}.")).field(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(field: &str, op: FilterOp, value: &str) -> Filter {
        Filter { field: field.into(), op, values: vec![value.into()] }
    }

    #[test]
    fn bad_filters_name_their_field() {
        use FilterOp::{Contains, Eq, Gt, In};
        for (field, op, value) in [
            ("nonsense", Eq, "1"),
            ("status[nonsense]", Eq, "1"),
            ("status", Eq, "many"),
            ("status", Eq, "-1"),
            ("status", Eq, ""),
            ("bytes", Contains, "1"),
            ("duration_ms", Gt, "99999999999999999999"),
            ("duration_ms", Gt, "18446744073709551615"),
            ("actor", Gt, "a"),
            ("actor", Eq, ""),
            ("request_id", Contains, "a"),
            ("created_at", Gt, "yesterday"),
            ("created_at", In, "2026-01-01T00:00:00Z"),
        ] {
            let error = Wanted::new(vec![filter(field, op, value)]).expect_err(field);
            assert_eq!((error.code(), error.field_name()), (Code::InvalidFilter, Some(field)), "{value}");
        }
        for field in Wanted::fields() {
            let value = if field == TIME { "2026-01-01T00:00:00Z" } else { "1" };
            Wanted::new(vec![filter(field, Eq, value)]).expect(field);
        }
    }

    #[test]
    fn times_are_limits_to_the_millisecond() {
        let range = |op, time: &str| Wanted::new(vec![filter(TIME, op, time)]).unwrap().range(0);
        let (whole, odd) = ("1970-01-01T00:00:01Z", "1970-01-01T00:00:01.0005Z");
        assert_eq!(range(FilterOp::Gte, whole), (1000, i64::MAX));
        assert_eq!(range(FilterOp::Gt, whole), (1001, i64::MAX));
        assert_eq!(range(FilterOp::Lte, whole), (0, 1000));
        assert_eq!(range(FilterOp::Lt, whole), (0, 999));
        assert_eq!(range(FilterOp::Gte, odd), (1001, i64::MAX));
        assert_eq!(range(FilterOp::Gt, odd), (1001, i64::MAX));
        assert_eq!(range(FilterOp::Lte, odd), (0, 1000));
        assert_eq!(range(FilterOp::Lt, odd), (0, 1000));
        let ours = "0198f0c2a1b07c1e9a51d2b53c1f0e77";
        let of_request = Wanted::new(vec![filter(REQUEST, FilterOp::Eq, ours)]).unwrap();
        assert_eq!(of_request.range(0x0198_f0c2_a1b0), (0x0198_f0c2_a1b0 - SKEW, i64::MAX));
        assert_eq!(of_request.range(0x0198_f0c2_a1b0 - SKEW - 1), (0, i64::MAX), "a number that only looks like a time");
    }
}
