//! JSON whose integers every reader keeps: those that a double cannot hold become texts.
//!
//! For what we write ourselves. Raw records and pushes keep their bytes.

use serde_json::Value;

/// The largest integer up to which a double holds every one: JavaScript's readers know no other number.
const EXACT_MAX: u64 = 1 << 53;

/// Reads JSON with every integer beyond 2^53 as a text.
///
/// # Errors
/// When it is no JSON.
pub fn read(raw: &[u8]) -> serde_json::Result<Value> {
    let mut value = serde_json::from_slice(raw)?;
    quote_large(&mut value);
    Ok(value)
}

fn quote_large(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let size = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if size.is_some_and(|size| size > EXACT_MAX) {
                *value = Value::String(number.to_string());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(quote_large),
        Value::Object(members) => members.values_mut().for_each(quote_large),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn integers_that_a_float_cannot_hold_become_texts() {
        let raw =
            br#"{"a":9007199254740992,"b":[9007199254740993,-9007199254740993],"c":{"d":1493629159358939434},"e":1.5}"#;
        let expected = r#"{"a":9007199254740992,"b":["9007199254740993","-9007199254740993"],"c":{"d":"1493629159358939434"},"e":1.5}"#;
        assert_eq!(read(raw).unwrap().to_string(), expected);
    }
}
