//! What the vocabulary cannot say: named functions from text to text, each with a test.

/// A named function; nothing when the text is not one it takes.
pub(super) type Function = fn(&str) -> Option<String>;

/// Every function by name.
pub(super) const FUNCTIONS: &[(&str, Function)] = &[("high_32_bits", high_32_bits)];

/// The upper half of a 64-bit number, for ids that hold an organization's id above a serial number.
fn high_32_bits(text: &str) -> Option<String> {
    text.parse::<u64>().ok().map(|number| (number >> 32).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_32_bits_splits_exactly() {
        assert_eq!(high_32_bits("35184372088835").as_deref(), Some("8192"));
        assert_eq!(high_32_bits("18446744073709551615").as_deref(), Some("4294967295"));
        assert_eq!(high_32_bits("7").as_deref(), Some("0"));
        for text in ["", "-1", "18446744073709551616", "1.0", "x"] {
            assert_eq!(high_32_bits(text), None, "{text}");
        }
    }
}
