//! Tests of the connector side.

#[test]
fn dump() {
    let settings = schemars::generate::SchemaSettings::draft07();
    let s = settings.clone().into_generator().into_root_schema_for::<rollcall::connector::file::ConnectorFile>();
    println!("{}", serde_json::to_string(&s).unwrap());
    let s = settings.into_generator().into_root_schema_for::<rollcall::connector::file::ResourceFile>();
    println!("{}", serde_json::to_string(&s).unwrap());
    #[derive(Debug)]
    #[allow(dead_code)]
    enum N { L(Vec<serde_saphyr::Spanned<N>>), M(Vec<(serde_saphyr::Spanned<String>, serde_saphyr::Spanned<N>)>), S(String) }
    impl<'de> serde::Deserialize<'de> for N {
        fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            struct V;
            impl<'de> serde::de::Visitor<'de> for V {
                type Value = N;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("x") }
                fn visit_str<E>(self, s: &str) -> Result<N, E> { Ok(N::S(s.into())) }
                fn visit_bool<E>(self, s: bool) -> Result<N, E> { Ok(N::S(format!("bool {s}"))) }
                fn visit_u64<E>(self, s: u64) -> Result<N, E> { Ok(N::S(format!("u64 {s}"))) }
                fn visit_f64<E>(self, s: f64) -> Result<N, E> { Ok(N::S(format!("f64 {s}"))) }
                fn visit_i64<E>(self, s: i64) -> Result<N, E> { Ok(N::S(format!("i64 {s}"))) }
                fn visit_unit<E>(self) -> Result<N, E> { Ok(N::S("unit".into())) }
                fn visit_none<E>(self) -> Result<N, E> { Ok(N::S("none".into())) }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut a: A) -> Result<N, A::Error> { let mut v = vec![]; while let Some(x) = a.next_element()? { v.push(x) } Ok(N::L(v)) }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut a: A) -> Result<N, A::Error> { let mut v = vec![]; while let Some(x) = a.next_entry()? { v.push(x) } Ok(N::M(v)) }
            }
            d.deserialize_any(V)
        }
    }
    fn show(n: &serde_saphyr::Spanned<N>, d: usize) {
        let l = (n.referenced.line(), n.referenced.column());
        match &n.value { N::S(s) => println!("{:d$}{l:?} {s}", ""), N::L(v) => { println!("{:d$}{l:?} list", ""); for x in v { show(x, d + 2) } }
          N::M(v) => { println!("{:d$}{l:?} map", ""); for (k, x) in v { println!("{:d$}  {:?} key {}", "", (k.referenced.line(), k.referenced.column()), k.value); show(x, d + 4) } } }
    }
    let y = "# c\na: 1\nb: { true: x, 401: [y, ~, yes, 007] }\nc:\n  - d: \"{x}\"\n    e: |\n      hi\nf: &x {g: 1}\nh: *x\non: [1]\n";
    show(&serde_saphyr::from_str_with_options(y, serde_saphyr::options!{ strict_booleans: true, with_snippet: false }).unwrap(), 0);
    for bad in ["a: 1\na: 2\n", "a: [1\n", "a: b: c\n", "\ta: 1\n", "a: 1\n---\nb: 1\n", "", "a: !foo x", "a: \"\\q\"", "a: *x"] {
        let e = serde_saphyr::from_str_with_options::<serde_saphyr::Spanned<N>>(bad, serde_saphyr::options!{ strict_booleans: true, with_snippet: false });
        match e { Err(e) => println!("{bad:?} -> {e} @ {:?}", e.location().map(|l| (l.line(), l.column()))), Ok(n) => show(&n, 0) }
    }
}
