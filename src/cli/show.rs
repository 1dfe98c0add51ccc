//! How answers look to a person: aligned, nothing that steers a terminal, nobody's phone number.

use super::api::table::{cells, plain};
use serde_json::Value;

/// Members whose value says how to reach somebody, or who somebody is, in what the vendors send.
const PRIVATE: [&str; 15] = [
    "tel",
    "telephone",
    "phone",
    "mobile",
    "cellphone",
    "weixin",
    "wechat",
    "qq",
    "email",
    "mail",
    "address",
    "ip",
    "id_card",
    "openid",
    "unionid",
];

/// Digits in a row that are as many as a phone number has.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 11..=11;

/// A text of several lines without anything else that a terminal would obey.
pub(super) fn escaped_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// Rows below their titles, each column as wide as its widest cell.
pub(super) fn table<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> String {
    let width = |text: &str| text.chars().map(cells).sum::<usize>();
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| plain(cell))).collect();
    let mut widths = titles.map(width);
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(widest, cell)| *widest = (*widest).max(width(cell)));
    }
    let line = |row: &[String; N]| {
        let mut text = String::new();
        for (cell, widest) in row.iter().zip(widths) {
            text += cell;
            text += &" ".repeat(widest - width(cell) + 2);
        }
        text.trim_end().to_owned() + "\n"
    };
    let head = line(&titles.map(|title| title.to_uppercase()));
    rows.iter().fold(head, |text, row| text + &line(row))
}

/// A member as a cell: texts without quotes, nothing for null.
pub(super) fn cell(of: &Value, member: &str) -> String {
    match of.get(member) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

/// The items of a list, however it came.
pub(super) fn items(list: &Value) -> &[Value] {
    list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether a name, such as `body.tel`, is one whose value is masked.
pub(super) fn is_private(name: &str) -> bool {
    let last = name.rsplit(['.', '[']).next().unwrap_or(name);
    let last = last.trim_matches(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let words = last.to_ascii_lowercase();
    PRIVATE.iter().any(|private| words == *private || words.ends_with(&format!("_{private}")))
        || PRIVATE.iter().any(|private| words.starts_with(&format!("{private}_")))
}

/// The first and the last character of a text, and that there is something between them.
pub(super) fn masked(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    match letters.as_slice() {
        [] => String::new(),
        [a, b, c, .., d, e, f, g] if letters.len() >= 8 && letters.iter().all(char::is_ascii_digit) => {
            format!("{a}{b}{c}****{d}{e}{f}{g}")
        }
        [first, .., last] if letters.len() > 2 => format!("{first}***{last}"),
        _ => "***".to_owned(),
    }
}

/// Masks what stands below private names, and phone numbers wherever they stand.
pub(super) fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if is_private(name) { mask_all(member) } else { mask(member) }
            }
        }
        Value::Array(members) => members.iter_mut().for_each(mask),
        Value::String(text) => *text = without_phones(text),
        Value::Number(number) => {
            let text = number.to_string();
            let without = without_phones(&text);
            if without != text {
                *value = Value::String(without);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn mask_all(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(mask_all),
        Value::Array(members) => members.iter_mut().for_each(mask_all),
        Value::String(text) => *text = masked(text),
        Value::Number(number) => *value = Value::String(masked(&number.to_string())),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Masks every run of digits that is a mainland mobile number: eleven, the first one 1.
pub(super) fn without_phones(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let (before, digits) = rest.split_at(start);
        let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
        let (run, after) = digits.split_at(end);
        out += before;
        let inside_a_word = before.chars().last().is_some_and(|letter| letter.is_ascii_alphabetic());
        let is_phone = PHONE_DIGITS.contains(&run.len()) && run.starts_with('1') && !inside_a_word;
        out += &if is_phone { masked(run) } else { run.to_owned() };
        rest = after;
    }
    out + rest
}

/// What is said below a list that goes on.
pub(super) fn more(list: &Value) -> String {
    match list.get("next").and_then(Value::as_str) {
        Some(cursor) => format!("more with --cursor {cursor}\n"),
        None => String::new(),
    }
}

/// A member that may hold somebody's number, without it unless it is to be revealed.
pub(super) fn personal(of: &Value, member: &str, reveal: bool) -> String {
    let text = cell(of, member);
    if reveal { text } else { without_phones(&text) }
}

/// The payload, masked unless it is to be revealed. Of what is no JSON only the size is told then: where in it something
/// private stands cannot be known.
pub(super) fn payload(of: &Value, reveal: bool) -> String {
    let member = |name| of.get(name).and_then(Value::as_str);
    let hidden = |bytes: usize, what: &str| format!("\nBODY\n{bytes} bytes that are no {what}; --reveal shows them\n");
    match (member("body"), member("body_base64")) {
        (Some(body), _) if reveal => format!("\nBODY\n{}\n", body.trim_end()),
        (Some(body), _) => match serde_json::from_str::<Value>(body) {
            Ok(mut value) => {
                mask(&mut value);
                format!("\nBODY\n{}\n", serde_json::to_string_pretty(&value).unwrap_or_default())
            }
            Err(_) => hidden(body.len(), "JSON"),
        },
        (None, Some(base64)) if reveal => format!("\nBODY (no text; base64)\n{base64}\n"),
        (None, Some(base64)) => hidden(base64.trim_end_matches('=').len() * 3 / 4, "text"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{escaped_lines, is_private, mask, masked, payload, table, without_phones};
    use serde_json::json;

    #[test]
    fn columns_are_aligned_in_cells_not_characters() {
        let rows = [["王伟".to_owned(), "1".to_owned()], ["ab".to_owned(), "\u{1b}[31m".to_owned()]];
        assert_eq!(table(["name", "n"], &rows), "NAME  N\n王伟  1\nab    \\u{1b}[31m\n");
    }

    #[test]
    fn lines_stay_lines_and_nothing_else_gets_through() {
        assert_eq!(escaped_lines("a\nb\u{1b}[2J\u{202e}"), "a\nb\\u{1b}[2J\\u{202e}");
    }

    #[test]
    fn names_tell_what_is_private() {
        for name in ["tel", "body.tel", "Phone", "client_phone", "body[\"weixin\"]", "tel_2", "qq"] {
            assert!(is_private(name), "{name}");
        }
        for name in ["name", "telling", "body.track_id", "tip", "description"] {
            assert!(!is_private(name), "{name}");
        }
    }

    #[test]
    fn a_masked_value_is_known_again_but_not_read() {
        let check = |text: &str, expected: &str| assert_eq!(masked(text), expected);
        check("13812345678", "138****5678");
        check("wxid_abc", "w***c");
        check("ab", "***");
        check("", "");
    }

    #[test]
    fn phone_numbers_are_found_in_any_text() {
        let check = |text: &str, expected: &str| assert_eq!(without_phones(text), expected);
        check("call 13812345678 now", "call 138****5678 now");
        check("sub_1726824224_9975", "sub_1726824224_9975");
        check("+8613812345678", "+8613812345678");
        check("evt01920ebe910", "evt01920ebe910");
        let mut push = json!({"body": {"tel": 13_812_345_678_u64, "name": "小黄鸭", "custom": {"x": ["13812345678"]}}});
        mask(&mut push);
        assert_eq!(push, json!({"body": {"tel": "138****5678", "name": "小黄鸭", "custom": {"x": ["138****5678"]}}}));
    }

    #[test]
    fn a_body_that_cannot_be_masked_is_shown_when_it_is_to_be_revealed_alone() {
        let check = |of: serde_json::Value, hidden: &str, revealed: &str| {
            assert_eq!((payload(&of, false), payload(&of, true)), (hidden.to_owned(), revealed.to_owned()));
        };
        let form = "weixin=wxid_77&email=a@b.example";
        check(
            json!({"body": form}),
            "\nBODY\n32 bytes that are no JSON; --reveal shows them\n",
            &format!("\nBODY\n{form}\n"),
        );
        check(
            json!({"body_base64": "/wECAw=="}),
            "\nBODY\n4 bytes that are no text; --reveal shows them\n",
            "\nBODY (no text; base64)\n/wECAw==\n",
        );
        check(
            json!({"body": "{\"qq\":\"10001\"}"}),
            "\nBODY\n{\n  \"qq\": \"1***1\"\n}\n",
            "\nBODY\n{\"qq\":\"10001\"}\n",
        );
        check(json!({}), "", "");
    }
}
