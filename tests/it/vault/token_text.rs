//! G-07, the part of the text: what a token looks like, and that nothing but a token is taken for one.

use std::{collections::HashSet, str::FromStr};

use proptest::prelude::*;
use rollcall::{
    model::TokenId,
    vault::{LinkText, TokenText},
};

#[test]
fn g_07_a_token_has_its_form_and_reads_back() {
    let mut seen = HashSet::new();
    for _ in 0..2_000 {
        let (text, id) = TokenText::generate();
        let text = text.expose();
        assert_eq!(text.len(), 76);
        let parts: Vec<_> = text.split('_').collect();
        assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [3, 22, 49]);
        assert_eq!(parts[0], "rck");
        assert!(parts[1..].iter().all(|p| p.bytes().all(|b| b.is_ascii_alphanumeric())));
        let (read, secret) = TokenText::parse(text).expect("its own text");
        assert_eq!(read, id);
        assert!(seen.insert(*secret), "a secret twice");
    }
}

#[test]
fn g_07_every_single_typing_error_is_refused() {
    let (text, _) = TokenText::generate();
    let text = text.expose();
    for at in 0..text.len() {
        for other in (0u8..128).map(char::from).filter(|c| *c != text.as_bytes()[at] as char) {
            let mut typed: Vec<char> = text.chars().collect();
            typed[at] = other;
            let typed: String = typed.into_iter().collect();
            assert!(TokenText::parse(&typed).is_none(), "{at} {other:?}");
        }
        let mut swapped = text.as_bytes().to_vec();
        if at > 0 && swapped[at] != swapped[at - 1] {
            swapped.swap(at, at - 1);
            assert!(TokenText::parse(std::str::from_utf8(&swapped).unwrap()).is_none(), "swapped {at}");
        }
        assert!(TokenText::parse(&text[..at]).is_none(), "cut at {at}");
    }
    for other in [format!(" {text}"), format!("{text} "), format!("{text}\n"), text.to_uppercase(), text.to_lowercase()] {
        assert!(TokenText::parse(&other).is_none(), "{other:?}");
    }
}

/// A fixed token, checked by hand-made arithmetic in another language, so that the format cannot drift unseen.
#[test]
fn g_07_the_format_does_not_drift() {
    let (id, secret) = TokenText::parse(FIXED).expect("the fixed token");
    assert_eq!(id, TokenId::from_str("01890a5d-ac96-774b-bcce-b302099a8057").unwrap());
    assert_eq!(secret.to_vec(), (0u8..32).collect::<Vec<_>>());
}
const FIXED: &str = "rck_02tcRIyrxLXTR81B3dqdOx_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf1SK5Ug";

/// Digits can say more than 16 or 32 bytes hold; with the right checksum such a text is still not a token.
#[test]
fn g_07_only_the_canonical_form_is_taken() {
    for text in [TOO_LARGE_ID, TOO_LARGE_SECRET] {
        assert!(TokenText::parse(text).is_none());
    }
}
const TOO_LARGE_ID: &str = "rck_7n42DGM5Tflk9n8mt7Fhc8_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf4PXVB6";
const TOO_LARGE_SECRET: &str = "rck_02tcRIyrxLXTR81B3dqdOx_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp21pTofb";

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC*") {
        let _ = TokenText::parse(&text);
    }

    #[test]
    fn parsing_texts_of_the_right_form_never_panics(text in "rck_[0-9A-Za-z]{22}_[0-9A-Za-z]{49}") {
        prop_assert!(TokenText::parse(&text).is_none());
    }

    #[test]
    fn parsing_texts_of_the_right_length_never_panics(text in "[é_a-zA-Z0-9]{70,76}") {
        prop_assert!(TokenText::parse(&text).is_none());
    }
}

#[test]
fn g_07_a_text_names_its_id_before_its_secret_is_looked_at() {
    let id = TokenId::generate();
    let text = TokenText::generate_for(id);
    assert_eq!(TokenText::parse(text.expose()).map(|(read, _)| read), Some(id));
    assert_eq!(TokenText::named_id(text.expose()), Some(id));
    let foreign = format!("{}{}", &text.expose()[..27], &FIXED[27..]);
    assert_eq!((TokenText::named_id(&foreign), TokenText::parse(&foreign)), (Some(id), None), "it proves nothing");
    for other in [
        &FIXED[..75],
        &format!("{FIXED}0"),
        &FIXED.replacen("rck_", "rcx_", 1),
        &FIXED.replacen("dOx_", "dOx0", 1),
        &FIXED.replacen("02tc", "0é", 1),
        TOO_LARGE_ID,
        "",
    ] {
        assert_eq!(TokenText::named_id(other), None, "{other}");
    }
}

/// A zero before a number is the same number, and another text.
#[test]
fn g_07_a_longer_text_of_the_same_numbers_is_no_token() {
    for at in [4, 27, 70] {
        let longer = format!("{}0{}", &FIXED[..at], &FIXED[at..]);
        assert!(TokenText::parse(&longer).is_none(), "{longer}");
    }
}

#[test]
fn r_13_a_link_tokens_text_reads_back_and_nothing_else_does() {
    let (text, secret) = LinkText::generate();
    let text = text.expose();
    assert_eq!((&text[..4], text.len()), ("lnk_", 47));
    assert_eq!(LinkText::parse(text).as_deref(), Some(&*secret));
    assert_ne!(text, LinkText::generate().0.expose());
    let (shorter, longer, other) = (&text[..46], format!("{text}0"), text.replacen("lnk_", "lnx_", 1));
    let too_large = format!("lnk_{}", "z".repeat(43));
    for wrong in ["", "lnk_", shorter, &longer, &other, &text[4..], &too_large, &text.replacen("lnk_", "lnk_é", 1), FIXED] {
        assert!(LinkText::parse(wrong).is_none(), "{wrong}");
    }
}
