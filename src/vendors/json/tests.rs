//! The reader against the grammar, and against serde_json.

use super::{DEPTH_MAX, Fault, Kind, Reader};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

fn read(text: &[u8]) -> Result<Kind, Fault> {
    let mut reader = Reader::new(text);
    let value = reader.skip(0)?;
    reader.end()?;
    Ok(value.kind)
}

#[test]
fn the_grammar_is_taken_to_the_letter() {
    for good in [
        "{}",
        "[]",
        " [ ] ",
        "0",
        "-0",
        "1.5e+10",
        "1E2",
        "\"\"",
        "true",
        "false",
        "null",
        "[1,2,[{}]]",
        "{\"a\":{\"b\":[null,{}]},\"c\":\"d\"}",
        "\"\\u00e9\\ud83d\\ude00\\n\"",
        "\"来鼓 webhook\"",
        "\t{\r\n}",
    ] {
        assert!(read(good.as_bytes()).is_ok(), "{good}");
    }
    for bad in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{'a':1}",
        "{a:1}",
        "01",
        "1.",
        ".5",
        "-",
        "+1",
        "1e",
        "tru",
        "nul",
        "truex",
        "\"\t\"",
        "\"\\x\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\\ud83d\\u0041\"",
        "\"\\u12g4\"",
        "\"abc",
        "[1 2]",
        "{\"a\" 1}",
        "[}",
        "{]",
        "\u{feff}{}",
        "NaN",
        "{} {}",
        "[[]",
    ] {
        assert!(read(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(matches!(read(b"\"a\xff\""), Err(Fault::Encoding(_))));
    assert!(matches!(read(b"{\xff}"), Err(Fault::Unexpected(1))));
}

#[test]
fn the_depth_limit_is_inclusive() {
    let nest = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
    assert!(read(nest(DEPTH_MAX as usize).as_bytes()).is_ok());
    assert_eq!(read(nest(DEPTH_MAX as usize + 1).as_bytes()), Err(Fault::TooDeep));
    assert_eq!(read("[".repeat(1 << 20).as_bytes()), Err(Fault::TooDeep));
    assert_eq!(read("{\"a\":".repeat(1 << 20).as_bytes()), Err(Fault::TooDeep));
}

#[test]
fn every_truncation_of_a_value_is_noticed() {
    let text = "{\"name\":\"小黄鸭\\n\",\"tags\":[9,-1.5e3,true,null],\"custom\":{\"k\":{}}}";
    for end in 0..text.len() {
        assert!(read(text.as_bytes().get(..end).unwrap()).is_err(), "{end}");
    }
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let seed = b"{\"a\":[1,-2.5e3,\"x\\u00e9\\n\xe5\xb0\x8f\"],\"b\":{\"c\":null,\"d\":true}, \"long text here\":0}";
    prop::collection::vec((0..seed.len(), any::<u8>()), 0..4).prop_map(move |changes| {
        let mut text = seed.to_vec();
        for (at, byte) in changes {
            if let Some(place) = text.get_mut(at) {
                *place = byte;
            }
        }
        text
    })
}

proptest! {
    #[test]
    fn it_takes_what_serde_json_takes(text in mutated()) {
        let theirs = serde_json::from_slice::<serde_json::Value>(&text);
        let ours = read(&text);
        // A number beyond the range of a double is grammatical, and serde_json refuses it.
        let out_of_range = theirs.as_ref().is_err_and(|error| error.to_string().contains("out of range"));
        prop_assert!(out_of_range || ours.is_ok() == theirs.is_ok(), "{:?} {:?}", ours, theirs);
    }

    #[test]
    fn any_text_survives_escaping(text in any::<String>()) {
        let json = serde_json::to_vec(&text).unwrap();
        let read = Reader::new(&json).text().unwrap();
        prop_assert_eq!(read.unescape(), text.as_str());
        prop_assert!(read.is(&text));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }
}
