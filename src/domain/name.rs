//! Names that an operator gives in `routes.yaml`: sources, tenants, routes, destinations.

use std::{fmt, sync::Arc};

/// The longest name that is taken, in bytes: a name becomes part of ids, labels and file names.
const NAME_BYTES_MAX: usize = 64;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a name: use 1 to 64 letters, digits, `_`, `-` or `.`, starting with a letter or digit")]
pub struct NameError {
    /// The text as it was given, cut to 80 characters.
    pub text: String,
}

fn check(text: &str) -> Result<(), NameError> {
    let good_start = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let good_rest = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    if good_start && good_rest && text.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(NameError { text: text.chars().take(80).collect() })
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text that is 1 to 64 letters, digits, `_`, `-` or `.` and starts with a letter or digit.
            ///
            /// # Errors
            /// [`NameError`] when it is anything else.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The name of what cannot be known any more, such as the source of a damaged row.
            #[must_use]
            pub fn unknown() -> Self {
                Self("unknown".into())
            }

            /// The name as written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

names! {
    /// A source: one entry below `sources`.
    SourceName;
    /// A tenant of a source.
    TenantName;
    /// A route: one entry of `routes`.
    RouteName;
    /// A destination: one entry below `destinations`.
    DestinationName;
}

#[cfg(test)]
mod tests {
    use super::RouteName;

    #[test]
    fn a_name_is_short_plain_text() {
        for good in ["leads", "crm-2", "a.b_c", "7"] {
            assert_eq!(RouteName::parse(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "-x", "a b", "a/b", "线索", &"x".repeat(65)] {
            assert!(RouteName::parse(bad).is_err(), "{bad}");
        }
    }
}
