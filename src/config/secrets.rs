//! Secrets, in the file, in a variable, or in a file of their own.
//!
//! `token_file: ./token` is read relative to the folder of `routes.yaml`; one line break at its end is cut.

use super::reader::{Field, Reader, Section};
use crate::domain::Secret;
use std::ops::Range;

/// Far more than any secret; what is larger is the wrong file.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// A secret that was given, perhaps an empty one.
pub(super) struct Given {
    /// The secret.
    pub(super) secret: Secret,
    /// What gave it.
    pub(super) span: Range<usize>,
}

/// A mistake that has been reported already.
pub(super) struct Reported;

/// Reads `key` (one or a list) or `key_file`; empty when neither is there.
pub(super) fn all(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &'static str,
    key_file: &'static str,
) -> Result<Vec<Given>, Reported> {
    match (section.get(key), section.get(key_file)) {
        (Some(_), Some(file)) => {
            reader.error(format!("`{key}` and `{key_file}` are both given"), file.key_span, "keep one of them");
            Err(Reported)
        }
        (Some(field), None) => {
            let before = reader.diagnostics.len();
            let texts = reader.one_or_more(field);
            if reader.diagnostics.len() > before {
                return Err(Reported);
            }
            Ok(texts.into_iter().map(|text| Given { secret: Secret::new(text.value), span: text.span }).collect())
        }
        (None, Some(field)) => from_file(reader, field).map(|given| vec![given]),
        (None, None) => Ok(Vec::new()),
    }
}

/// Reads one `key` or `key_file`. One that expands to nothing counts as left out.
pub(super) fn optional(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &'static str,
    key_file: &'static str,
) -> Result<Option<Given>, Reported> {
    let mut given = all(reader, section, key, key_file)?;
    if let Some(second) = given.get(1) {
        reader.error(format!("`{key}` takes one value"), &second.span, "a second one");
        return Err(Reported);
    }
    Ok(given.pop().filter(|given| !given.secret.is_empty()))
}

fn from_file(reader: &mut Reader<'_>, field: Field<'_>) -> Result<Given, Reported> {
    let (_, bytes) = reader.file(Some(field)).ok_or(Reported)?;
    let span = field.node.span.clone();
    let Ok(text) = String::from_utf8(bytes) else {
        reader.error(format!("the file of `{}` is not UTF-8", field.key), &span, "expected a text");
        return Err(Reported);
    };
    if text.len() > SECRET_BYTES_MAX {
        reader.error(format!("the file of `{}` is larger than 64KiB", field.key), &span, "this is no secret");
        return Err(Reported);
    }
    let line = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(Given { secret: Secret::new(line.to_owned()), span })
}
