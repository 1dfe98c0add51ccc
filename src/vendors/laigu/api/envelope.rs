//! Finds the records in an answer whose wrapper the vendor does not document.
//!
//! Seen: `{"errno": 0, "result": […]}` and `{"result": {…}}`. Accepted beside them: `data`, `conversations`,
//! `clients`, `rows`, one wrapper inside another, a bare array, and for one record the bare object. `errno` is looked
//! at first, then the HTTP status, then the shape; what matches nothing is an error, never an empty list.

use super::error::{ApiError, Asked, Errno};
use crate::vendors::http::{Answer, presentable};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Members that may hold the records or a wrapper around them, the likeliest first.
const WRAPPERS: [&str; 6] = ["result", "data", "conversations", "clients", "rows", "list"];

/// `result: {data: {conversations: […]}}` is as deep as wrappers are followed.
const WRAPPERS_DEEP_MAX: usize = 3;

type Object<'a> = BTreeMap<String, &'a RawValue>;

/// The records of a page as they came, and the token of the next page; empty: there is none.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Each record's JSON.
    pub records: Vec<&'a str>,
    /// `next_page_token`.
    pub next_page_token: String,
}

/// Takes a list out of an answer.
///
/// # Errors
/// [`ApiError`], never for an empty list.
pub fn list<'a>(answer: &'a Answer, asked: Asked, credentials: &[&str]) -> Result<Found<'a>, ApiError> {
    let text = checked(answer, asked, credentials)?;
    let mut next_page_token = String::new();
    let mut current = text;
    for _ in 0..=WRAPPERS_DEEP_MAX {
        if current.starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(current).map_err(|_| ApiError::Shape("valid JSON"))?;
            return Ok(Found { records: items.into_iter().map(RawValue::get).collect(), next_page_token });
        }
        let object = object(current)?;
        if let Some(token) = object.get("next_page_token").and_then(|token| string(token)) {
            next_page_token = token;
        }
        current = inner(&object)?.ok_or(ApiError::Shape("list of records"))?;
    }
    Err(ApiError::Shape("list of records"))
}

/// Takes one record out of an answer: wrapped, in a list of one, or bare if it has the member `mark`.
///
/// # Errors
/// [`ApiError`]; [`ApiError::NotFound`] for HTTP 404 without an errno.
pub fn one<'a>(answer: &'a Answer, mark: &str, credentials: &[&str]) -> Result<&'a str, ApiError> {
    let text = match checked(answer, Asked::Once, credentials) {
        Err(ApiError::Status { status: 404, .. }) => return Err(ApiError::NotFound),
        other => other?,
    };
    let mut current = text;
    for _ in 0..=WRAPPERS_DEEP_MAX {
        if current.starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(current).map_err(|_| ApiError::Shape("valid JSON"))?;
            current = match items.as_slice() {
                [only] => only.get(),
                [] => return Err(ApiError::NotFound),
                _ => return Err(ApiError::Shape("single record")),
            };
        }
        let object = object(current)?;
        if object.contains_key(mark) {
            return Ok(current);
        }
        current = inner(&object)?.ok_or(ApiError::Shape("record"))?;
    }
    Err(ApiError::Shape("record"))
}

/// The answer's text, once neither errno nor status say no.
fn checked<'a>(answer: &'a Answer, asked: Asked, credentials: &[&str]) -> Result<&'a str, ApiError> {
    let refused = ApiError::Status { status: answer.status.as_u16(), retry_after: answer.retry_after };
    let text = match answer.json() {
        Ok(text) => text.trim(),
        // An error status says more than the fact that its page is HTML.
        Err(_) if !answer.status.is_success() => return Err(refused),
        Err(error) => return Err(error.into()),
    };
    if text.starts_with('{')
        && let Ok(object) = object(text)
        && let Some(number) = object.get("errno").and_then(|errno| number(errno))
        && number != 0
    {
        let said = ["errmsg", "message", "msg"].iter().find_map(|name| string(object.get(*name)?)).unwrap_or_default();
        let said = presentable(&said, credentials);
        return Err(ApiError::Refused { errno: Errno::from_number(number), said, asked });
    }
    if answer.status.is_success() { Ok(text) } else { Err(refused) }
}

fn object(text: &str) -> Result<Object<'_>, ApiError> {
    serde_json::from_str(text).map_err(|_| ApiError::Shape("valid JSON"))
}

/// What the first wrapper holds. A wrapper that is null is an answer without a result, unless another has one.
fn inner<'a>(object: &Object<'a>) -> Result<Option<&'a str>, ApiError> {
    let mut null = false;
    for name in WRAPPERS {
        match object.get(name).map(|value| value.get()) {
            Some(text) if text.starts_with(['{', '[']) => return Ok(Some(text)),
            Some("null") => null = true,
            _ => {}
        }
    }
    if null { Err(ApiError::NoResult) } else { Ok(None) }
}

fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok().as_ref().and_then(super::records::scalar)
}

fn number(value: &RawValue) -> Option<i64> {
    string(value)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Found, list, one};
    use crate::vendors::{
        http::Answer,
        laigu::api::error::{ApiError, Asked, Errno},
    };
    use bytes::Bytes;
    use http::StatusCode;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, retry_after: None, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn found(body: &str) -> (Vec<String>, String) {
        let answer = answer(200, body);
        let Found { records, next_page_token } =
            list(&answer, Asked::Window, &[]).unwrap_or_else(|error| panic!("{body}: {error}"));
        (records.into_iter().map(str::to_owned).collect(), next_page_token)
    }

    #[test]
    fn a_list_is_found_in_every_wrapper() {
        let records = vec![r#"{"a":1}"#.to_owned(), r#"{"a":2}"#.to_owned()];
        for body in [
            r#"{"errno":0,"errmsg":"","result":[{"a":1},{"a":2}],"next_page_token":"t"}"#,
            r#"{"errno":"0","data":[{"a":1},{"a":2}],"next_page_token":"t"}"#,
            r#"{"conversations":[{"a":1},{"a":2}],"next_page_token":"t"}"#,
            r#"{"result":{"clients":[{"a":1},{"a":2}],"next_page_token":"t"}}"#,
            r#"{"data":{"result":{"rows":[{"a":1},{"a":2}]}},"next_page_token":"t"}"#,
            r#" {"result":null,"data":[{"a":1},{"a":2}],"next_page_token":"t"} "#,
        ] {
            assert_eq!(found(body), (records.clone(), "t".to_owned()), "{body}");
        }
        assert_eq!(found(r#"[{"a":1},{"a":2}]"#), (records, String::new()));
    }

    #[test]
    fn a_missing_or_null_token_is_the_end() {
        for body in
            [r#"{"result":[]}"#, r#"{"result":[],"next_page_token":null}"#, r#"{"result":[],"next_page_token":""}"#]
        {
            assert_eq!(found(body), (Vec::new(), String::new()), "{body}");
        }
        assert_eq!(found(r#"{"result":[],"next_page_token":12345678901234567890}"#).1, "12345678901234567890");
    }

    #[test]
    fn what_has_no_list_is_never_an_empty_one() {
        for body in ["{}", r#"{"errno":0}"#, r#"{"result":"x"}"#, r#"{"result":{}}"#, r#"{"result":7}"#] {
            let answer = answer(200, body);
            assert!(matches!(list(&answer, Asked::Window, &[]), Err(ApiError::Shape(_))), "{body}");
        }
        assert!(matches!(list(&answer(200, r#"{"result":null}"#), Asked::Window, &[]), Err(ApiError::NoResult)));
        assert!(matches!(list(&answer(200, r#"{"result":[1,"#), Asked::Window, &[]), Err(ApiError::Shape(_))));
        assert!(matches!(list(&answer(200, "<html>"), Asked::Window, &[]), Err(ApiError::Http(_))));
    }

    #[test]
    fn errno_comes_before_the_status_and_the_status_before_the_shape() {
        for status in [200, 400, 500] {
            let answer = answer(status, r#"{"errno":10014,"errmsg":"Request api exceed, sign k3y"}"#);
            match list(&answer, Asked::WithToken, &["k3y"]) {
                Err(ApiError::Refused { errno: Errno::TooManyCalls, said, asked: Asked::WithToken }) => {
                    assert_eq!(said, "Request api exceed, sign [secret]");
                }
                other => panic!("{other:?}"),
            }
        }
        for body in [r#"{"result":[]}"#, r#"{"errno":0}"#, "<html>", ""] {
            let answer = answer(502, body);
            assert!(matches!(list(&answer, Asked::Once, &[]), Err(ApiError::Status { status: 502, .. })), "{body}");
        }
    }

    #[test]
    fn one_record_is_found_wrapped_listed_or_bare() {
        let record = r#"{"conv_id":7,"client_info":{"conv_id":8}}"#;
        for body in [
            format!(r#"{{"result":{record}}}"#),
            format!(r#"{{"errno":0,"data":{{"result":{record}}}}}"#),
            format!(r#"{{"result":[{record}]}}"#),
            record.to_owned(),
        ] {
            assert_eq!(one(&answer(200, &body), "conv_id", &[]).unwrap(), record, "{body}");
        }
    }

    #[test]
    fn no_record_is_not_found_no_result_or_no_shape() {
        assert!(matches!(one(&answer(404, "gone"), "conv_id", &[]), Err(ApiError::NotFound)));
        assert!(matches!(one(&answer(200, r#"{"result":[]}"#), "conv_id", &[]), Err(ApiError::NotFound)));
        assert!(matches!(one(&answer(200, r#"{"result":null}"#), "conv_id", &[]), Err(ApiError::NoResult)));
        assert!(matches!(one(&answer(200, r#"{"result":{"x":1}}"#), "conv_id", &[]), Err(ApiError::Shape(_))));
        assert!(matches!(one(&answer(200, r#"{"result":[{},{}]}"#), "conv_id", &[]), Err(ApiError::Shape(_))));
    }
}
