//! Takes an answer of Easemob KeFu apart: `{"status": "OK", "entity": …}` or `{"status": "OK", "entities": […], …}`.
//!
//! The error envelope is shown nowhere. So anything but `"status": "OK"` is a failure, and its code is looked for in
//! every member that could hold one.

use super::error::{ApiError, Code};
use crate::vendors::http::{Answer, presentable};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Members that may hold the code or the words of an error.
const ERRORS: [&str; 10] = [
    "errorCode",
    "error_code",
    "code",
    "status",
    "error",
    "errorDescription",
    "error_description",
    "errorMessage",
    "message",
    "msg",
];

/// The members of an answer that says OK.
#[derive(Debug)]
pub struct Envelope<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Envelope<'a> {
    /// Opens an answer.
    ///
    /// # Errors
    /// [`ApiError`] for everything that does not say OK.
    pub fn open(answer: &'a Answer, credentials: &[&str]) -> Result<Self, ApiError> {
        let refused = ApiError::Status { status: answer.status.as_u16(), retry_after: answer.retry_after };
        let text = match answer.json() {
            Ok(text) => text,
            Err(_) if !answer.status.is_success() => return Err(refused),
            Err(error) => return Err(error.into()),
        };
        let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else {
            return Err(if answer.status.is_success() { ApiError::Shape("valid JSON object") } else { refused });
        };
        let envelope = Self(members);
        let status = envelope.text("status");
        if answer.status.is_success() && status.as_deref().is_some_and(|status| status.eq_ignore_ascii_case("ok")) {
            return Ok(envelope);
        }
        let texts: Vec<String> = ERRORS.iter().filter_map(|name| envelope.text(name)).collect();
        match texts.iter().find_map(|text| Code::find(text)) {
            Some(code) => Err(ApiError::Refused { said: said(&texts, credentials), code }),
            None if !answer.status.is_success() => Err(refused),
            None if status.is_none() => Err(ApiError::Shape("status")),
            None => {
                let code = envelope.text("errorCode").or_else(|| envelope.text("code")).unwrap_or_default();
                let code = Code::Other(presentable(&code, credentials));
                Err(ApiError::Refused { said: said(&texts, credentials), code })
            }
        }
    }

    /// `entity`, as it came.
    ///
    /// # Errors
    /// [`ApiError::Shape`] when there is none.
    pub fn entity(&self) -> Result<&'a str, ApiError> {
        self.0.get("entity").map(|raw| raw.get()).filter(|raw| *raw != "null").ok_or(ApiError::Shape("entity"))
    }

    /// `entities`, each as it came; none if it is null.
    ///
    /// # Errors
    /// [`ApiError::Shape`] when there are none, or no list of them.
    pub fn entities(&self) -> Result<Vec<&'a str>, ApiError> {
        items(self.0.get("entities").copied().ok_or(ApiError::Shape("entities"))?)
    }

    /// A whole number beside them, also when written as a text.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    fn text(&self, name: &str) -> Option<String> {
        match serde_json::from_str(self.0.get(name)?.get()).ok()? {
            serde_json::Value::String(text) => Some(text),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

/// The members of `entity`.
///
/// # Errors
/// [`ApiError::Shape`] when it is no object.
pub fn members(entity: &str) -> Result<BTreeMap<String, &RawValue>, ApiError> {
    serde_json::from_str(entity).map_err(|_| ApiError::Shape("entity that is an object"))
}

/// The items of a list, each as it came; none if it is null.
///
/// # Errors
/// [`ApiError::Shape`] when it is no list.
pub fn items(list: &RawValue) -> Result<Vec<&str>, ApiError> {
    let items: Option<Vec<&RawValue>> =
        serde_json::from_str(list.get()).map_err(|_| ApiError::Shape("list of records"))?;
    Ok(items.unwrap_or_default().into_iter().map(RawValue::get).collect())
}

/// The longest of the texts is the one that explains.
fn said(texts: &[String], credentials: &[&str]) -> String {
    let longest = texts.iter().max_by_key(|text| text.len());
    presentable(longest.map_or("", String::as_str), credentials)
}

#[cfg(test)]
mod tests {
    use super::Envelope;
    use crate::vendors::{
        easemob::api::error::{ApiError, Code},
        http::Answer,
    };
    use bytes::Bytes;
    use http::StatusCode;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, retry_after: None, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn a_code_is_found_wherever_it_may_be() {
        for (status, body) in [
            (200, r#"{"status":"FAIL","errorCode":"API_002","errorDescription":"token is invalid"}"#),
            (200, r#"{"status":"API_002"}"#),
            (400, r#"{"code":"API_002","message":"s3cret"}"#),
            (401, r#"{"error":"API_002"}"#),
            (500, r#"{"status":"FAIL","errorDescription":"API_002: token is invalid"}"#),
            (200, r#"{"status":"ERROR","errorDescription":"token is invalid"}"#),
        ] {
            match Envelope::open(&answer(status, body), &["s3cret"]) {
                Err(ApiError::Refused { code: Code::TokenInvalid, said }) => {
                    assert!(!said.contains("s3cret"), "{said}")
                }
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_does_not_say_ok_is_a_failure() {
        for body in [r#"{"status":"FAIL"}"#, r#"{"status":"FAIL","entity":{}}"#] {
            let opened = Envelope::open(&answer(200, body), &[]).map(drop);
            assert!(matches!(opened, Err(ApiError::Refused { code: Code::Other(_), .. })), "{body}: {opened:?}");
        }
        for body in ["{}", r#"{"entity":{}}"#, "[]", r#"{"status":"#] {
            let opened = Envelope::open(&answer(200, body), &[]).map(drop);
            assert!(matches!(opened, Err(ApiError::Shape(_))), "{body}: {opened:?}");
        }
        for body in ["<html>", "", r#"{"status":"OK"}"#, "[]"] {
            let opened = Envelope::open(&answer(502, body), &[]).map(drop);
            assert!(matches!(opened, Err(ApiError::Status { status: 502, .. })), "{body}: {opened:?}");
        }
    }

    #[test]
    fn entity_and_entities_are_handed_out_as_they_came() {
        let one = answer(200, r#"{"status":"OK","entity":{"id": 1493629159358939434}}"#);
        assert_eq!(Envelope::open(&one, &[]).unwrap().entity().unwrap(), r#"{"id": 1493629159358939434}"#);
        let many = answer(200, r#"{"status":"ok","entities":[{"a":1}, {"a":2}],"size":"10"}"#);
        let envelope = Envelope::open(&many, &[]).unwrap();
        assert_eq!(envelope.entities().unwrap(), [r#"{"a":1}"#, r#"{"a":2}"#]);
        assert_eq!(envelope.number("size"), Some(10));
        let none = answer(200, r#"{"status":"OK","entities":null,"entity":null}"#);
        let envelope = Envelope::open(&none, &[]).unwrap();
        assert!(envelope.entities().unwrap().is_empty());
        assert!(matches!(envelope.entity(), Err(ApiError::Shape(_))));
    }
}
