//! JSON as it lies in a body: members and elements are found, not parsed into a tree.
//!
//! A condition looks at two or three members of a payload of forty. So one pass notes where each member of an object
//! begins and ends, and only what an expression touches is decoded; strings without escapes stay borrowed. The bytes
//! were checked when they were accepted: here a defect is an error, never a panic, but not every defect is found.

use std::borrow::Cow;

/// Lists deeper than this are not converted; what is accepted at the door is not that deep.
const LIST_DEPTH_MAX: usize = 64;

/// The bytes are not JSON after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload cannot be read as JSON")]
pub struct Malformed;

/// One value, decoded no further than its own level.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer that fits.
    Int(i64),
    /// An integer that fits only without a sign.
    Uint(u64),
    /// An integer beyond both, as written.
    Big(&'a str),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(Cow<'a, str>),
    /// A list, brackets included.
    List(&'a [u8]),
    /// An object, braces included.
    Object(&'a [u8]),
}

/// A member of an object: where its value lies.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The name, without quotes, escapes resolved.
    pub name: Cow<'a, [u8]>,
    /// The value's bytes.
    pub value: &'a [u8],
}

impl Member<'_> {
    /// Whether the value is `null`, which counts as absent everywhere.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.value == b"null"
    }
}

/// Notes the members of an object, in their order, `null` ones too.
///
/// # Errors
/// [`Malformed`] when the bytes are not an object.
pub fn members(object: &[u8]) -> Result<Vec<Member<'_>>, Malformed> {
    let mut cursor = Cursor { bytes: object, at: 0 };
    cursor.space();
    cursor.take(b'{')?;
    let mut members = Vec::with_capacity(32);
    cursor.space();
    if cursor.peek() == Some(b'}') {
        return Ok(members);
    }
    loop {
        let (raw, escaped) = cursor.text()?;
        let name = if escaped { unescape(raw)?.into_owned().into_bytes().into() } else { Cow::Borrowed(raw) };
        cursor.space();
        cursor.take(b':')?;
        cursor.space();
        members.push(Member { name, value: cursor.value()? });
        cursor.space();
        match cursor.next() {
            Some(b',') => cursor.space(),
            Some(b'}') => return Ok(members),
            _ => return Err(Malformed),
        }
    }
}

/// Notes the elements of a list.
///
/// # Errors
/// [`Malformed`] when the bytes are not a list.
pub fn elements(list: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut cursor = Cursor { bytes: list, at: 0 };
    cursor.space();
    cursor.take(b'[')?;
    let mut elements = Vec::new();
    cursor.space();
    if cursor.peek() == Some(b']') {
        return Ok(elements);
    }
    loop {
        elements.push(cursor.value()?);
        cursor.space();
        match cursor.next() {
            Some(b',') => cursor.space(),
            Some(b']') => return Ok(elements),
            _ => return Err(Malformed),
        }
    }
}

/// The value of a member, the last one where a name stands twice; `None` when it is absent or `null`.
#[must_use]
pub fn find<'a>(members: &[Member<'a>], name: &[u8]) -> Option<&'a [u8]> {
    members.iter().rev().find(|member| *member.name == *name).filter(|member| !member.is_null()).map(|it| it.value)
}

/// Decodes one value's bytes, as [`members`] and [`elements`] hand them out.
///
/// # Errors
/// [`Malformed`] when they are no value.
pub fn decode(value: &[u8]) -> Result<Json<'_>, Malformed> {
    match value.first() {
        Some(b'"') => {
            let mut cursor = Cursor { bytes: value, at: 0 };
            let (raw, escaped) = cursor.text()?;
            if escaped {
                return Ok(Json::Text(unescape(raw)?));
            }
            Ok(Json::Text(std::str::from_utf8(raw).map_err(|_| Malformed)?.into()))
        }
        Some(b'{') => Ok(Json::Object(value)),
        Some(b'[') => Ok(Json::List(value)),
        Some(b't') if value == b"true" => Ok(Json::Bool(true)),
        Some(b'f') if value == b"false" => Ok(Json::Bool(false)),
        Some(b'n') if value == b"null" => Ok(Json::Null),
        Some(b'-' | b'0'..=b'9') => number(value),
        _ => Err(Malformed),
    }
}

/// How deep lists lie in lists, up to the bound; `Err` beyond it.
///
/// # Errors
/// [`Malformed`] beyond the bound.
pub fn deeper(depth: usize) -> Result<usize, Malformed> {
    if depth >= LIST_DEPTH_MAX { Err(Malformed) } else { Ok(depth + 1) }
}

fn number(value: &[u8]) -> Result<Json<'_>, Malformed> {
    let text = std::str::from_utf8(value).map_err(|_| Malformed)?;
    if let Ok(number) = text.parse::<i64>() {
        return Ok(Json::Int(number));
    }
    if let Ok(number) = text.parse::<u64>() {
        return Ok(Json::Uint(number));
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Json::Big(text));
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Json::Float).ok_or(Malformed)
}

fn unescape(raw: &[u8]) -> Result<Cow<'static, str>, Malformed> {
    let mut quoted = Vec::with_capacity(raw.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    serde_json::from_slice::<String>(&quoted).map(Cow::Owned).map_err(|_| Malformed)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, wanted: u8) -> Result<(), Malformed> {
        if self.next() == Some(wanted) { Ok(()) } else { Err(Malformed) }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn since(&self, start: usize) -> Result<&'a [u8], Malformed> {
        self.bytes.get(start..self.at).ok_or(Malformed)
    }

    /// A string from its opening quote: what stands between the quotes, and whether it holds a backslash.
    fn text(&mut self) -> Result<(&'a [u8], bool), Malformed> {
        self.take(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.bytes.get(self.at..).ok_or(Malformed)?;
            let found = memchr::memchr2(b'"', b'\\', rest).ok_or(Malformed)?;
            if rest.get(found) == Some(&b'"') {
                self.at += found;
                let raw = self.since(start)?;
                self.at += 1;
                return Ok((raw, escaped));
            }
            escaped = true;
            self.at += found + 2;
        }
    }

    /// A value of any kind: its bytes.
    fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        match self.peek().ok_or(Malformed)? {
            b'"' => {
                self.text()?;
            }
            b'{' | b'[' => self.nested()?,
            _ => {
                while !matches!(self.peek(), None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')) {
                    self.at += 1;
                }
            }
        }
        if self.at == start { Err(Malformed) } else { self.since(start) }
    }

    fn nested(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        loop {
            match self.peek().ok_or(Malformed)? {
                b'"' => {
                    self.text()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Json, Malformed, decode, elements, find, members};

    #[test]
    fn members_are_found_and_decoded_only_when_asked_for() {
        let object = r#" { "名" : "小黄鸭" , "n":-7,"u":18446744073709551615,"big":184467440737095516150,"f":1.5,
            "t\u0065l":"a\"b","o":{"x":["}",{}]},"l":[1, [2], "]"],"no":null,"n":8} "#
            .as_bytes();
        let members = members(object).unwrap();
        let get = |name: &str| find(&members, name.as_bytes()).map(|value| decode(value).unwrap());
        assert_eq!(get("名"), Some(Json::Text("小黄鸭".into())));
        assert_eq!(get("n"), Some(Json::Int(8)), "the last of two");
        assert_eq!(get("u"), Some(Json::Uint(u64::MAX)));
        assert_eq!(get("big"), Some(Json::Big("184467440737095516150")));
        assert_eq!(get("f"), Some(Json::Float(1.5)));
        assert_eq!(get("tel"), Some(Json::Text("a\"b".into())));
        assert_eq!(get("o"), Some(Json::Object(br#"{"x":["}",{}]}"#)));
        assert_eq!(get("no"), None, "null is absent");
        assert_eq!(get("nope"), None);
        let Some(Json::List(list)) = get("l") else { panic!("a list") };
        assert_eq!(elements(list).unwrap(), [b"1".as_slice(), b"[2]", b"\"]\""]);
        assert!(elements(b"[]").unwrap().is_empty());
    }

    #[test]
    fn defects_are_errors() {
        for bad in ["", "{", "{\"a\"", "{\"a\":", "{\"a\":}", "{\"a\":1", "{\"a\":[}", "[1]", "{\"a\\", "{a:1}"] {
            assert!(members(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["", "nul", "truee", "-", "\"", "\"\\x\"", "1.2.3", "1e999"] {
            assert_eq!(decode(bad.as_bytes()), Err(Malformed), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, text in r#"[\{\[\]\}",:\\u0-9a ]{0,60}"#) {
            for input in [bytes.as_slice(), text.as_bytes()] {
                for member in members(input).unwrap_or_default() {
                    let _ = decode(member.value);
                }
                let _ = elements(input).map(|found| found.into_iter().map(decode).filter(Result::is_ok).count());
                let _ = decode(input);
            }
        }
    }
}
