//! The interpreter's views of an event: `event`, `headers`, and objects of a payload or a record.

use crate::{
    domain::Event,
    routing::{
        budget::Budget,
        json::{self, Json, Malformed, Member},
        scope::{event_member, header},
    },
};
use cel::{
    ExecutionError,
    common::{
        traits::{self, Container, Indexer, Iterable, Sizer},
        types::{CelBool, CelDouble, CelInt, CelList, CelNull, CelString, CelUInt, MAP_TYPE, Type},
        value::{CowVal, Val},
    },
};
use std::{borrow::Cow, sync::OnceLock};

fn asked<'a>(index: &'a (dyn Val + '_)) -> Result<&'a str, ExecutionError> {
    index.downcast_ref::<CelString>().map(CelString::inner).ok_or_else(|| ExecutionError::UnexpectedType {
        got: index.get_type().name().to_owned(),
        want: "string".to_owned(),
    })
}

/// Says what every view of ours has in common: it is a map with members that are asked for by name.
macro_rules! map_view {
    () => {
        fn get_type(&self) -> &Type {
            &MAP_TYPE
        }

        fn cel_type() -> &'static Type {
            &MAP_TYPE
        }

        fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
        where
            Self: 'v,
        {
            Some(self)
        }

        fn as_container(&self) -> Option<&dyn Container> {
            Some(self)
        }

        fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
        where
            Self: 'v,
        {
            Box::new(self.clone())
        }
    };
}

/// `event`
#[derive(Debug, Clone)]
pub struct EventView<'a>(pub &'a Event);

impl Val for EventView<'_> {
    map_view!();
}

impl Indexer for EventView<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = asked(index)?;
        let text = event_member(self.0, name).ok_or_else(|| ExecutionError::no_such_key(name))?;
        Ok(CowVal::owned(CelString::from(text)))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl Container for EventView<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(event_member(self.0, asked(value)?).is_some())
    }
}

/// `headers`: names are found in any case.
#[derive(Debug, Clone)]
pub struct HeadersView<'a>(pub &'a Event);

impl Val for HeadersView<'_> {
    map_view!();
}

impl Indexer for HeadersView<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = asked(index)?;
        let text = header(self.0, name).ok_or_else(|| ExecutionError::no_such_key(name))?;
        Ok(CowVal::owned(CelString::from(text)))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl Container for HeadersView<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(header(self.0, asked(value)?).is_some())
    }
}

/// A JSON object whose members were found and are decoded when asked for; `null` members are absent.
#[derive(Debug, Clone)]
pub struct ObjectView<'a> {
    members: Vec<Member<'a>>,
    /// The names as values: only loops over an object need them.
    names: OnceLock<Vec<CelString<'a>>>,
    budget: &'a Budget,
}

impl<'a> ObjectView<'a> {
    /// Finds the members of an object. Not paid for: a payload is scanned once an event, whatever its size.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are no object.
    pub fn scan(object: &'a [u8], budget: &'a Budget) -> Result<Self, Malformed> {
        Ok(Self { members: json::members(object)?, names: OnceLock::new(), budget })
    }

    /// A member's bytes; `None` when it is absent or `null`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'a [u8]> {
        json::find(&self.members, name.as_bytes())
    }

    /// The names of all members that are not `null`.
    pub fn names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.members.iter().filter(|member| !member.is_null()).map(|member| String::from_utf8_lossy(&member.name))
    }

    /// A member's value.
    ///
    /// # Errors
    /// No such key, or the budget is spent.
    pub fn value<'v>(&self, name: &str) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        'a: 'v,
    {
        self.budget.pay(self.members.len())?;
        let value = self.find(name).ok_or_else(|| ExecutionError::no_such_key(name))?;
        value_of(value, self.budget, 0)
    }
}

impl Val for ObjectView<'_> {
    map_view!();

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        let (Some(theirs), Some(sizer)) = (other.as_indexer(), other.as_sizer()) else { return false };
        sizer.size() == self.size()
            && self.names().all(|name| {
                let name = CelString::from(&*name);
                matches!((self.get(&name), theirs.get(&name)), (Ok(ours), Ok(theirs)) if ours.equals(&*theirs))
            })
    }
}

impl Indexer for ObjectView<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.value(asked(index)?).map(CowVal::Owned)
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.value(asked(index)?)
    }
}

impl Container for ObjectView<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        self.budget.pay(self.members.len())?;
        Ok(self.find(asked(value)?).is_some())
    }
}

impl Sizer for ObjectView<'_> {
    fn size(&self) -> CelInt {
        i64::try_from(self.members.iter().filter(|member| !member.is_null()).count()).unwrap_or(i64::MAX).into()
    }
}

impl Iterable for ObjectView<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn traits::Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        let names = self.names.get_or_init(|| {
            let present = self.members.iter().filter(|member| !member.is_null());
            present.map(|member| CelString::from(String::from_utf8_lossy(&member.name).into_owned())).collect()
        });
        Box::new(Names(names.iter()))
    }
}

struct Names<'b, 'a>(std::slice::Iter<'b, CelString<'a>>);

impl<'b, 'a: 'v, 'v> traits::Iterator<'b, 'v> for Names<'b, 'a> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|name| name as &(dyn Val + 'v))
    }
}

/// Decodes a member for the interpreter. Objects stay views; lists are converted, as deep as lists go.
fn value_of<'a: 'v, 'v>(
    value: &'a [u8],
    budget: &'a Budget,
    depth: usize,
) -> Result<Box<dyn Val + 'v>, ExecutionError> {
    budget.pay(value.len())?;
    let unreadable = |error: Malformed| ExecutionError::function_error("@json", error);
    Ok(match json::decode(value).map_err(unreadable)? {
        Json::Null => Box::new(CelNull),
        Json::Bool(value) => Box::new(CelBool::from(value)),
        Json::Int(value) => Box::new(CelInt::from(value)),
        Json::Uint(value) => Box::new(CelUInt::from(value)),
        Json::Big(text) => Box::new(CelDouble::from(text.parse::<f64>().unwrap_or(f64::INFINITY))),
        Json::Float(value) => Box::new(CelDouble::from(value)),
        Json::Text(text) => Box::new(CelString::from(text)),
        Json::Object(object) => Box::new(ObjectView::scan(object, budget).map_err(unreadable)?),
        Json::List(list) => {
            let depth = json::deeper(depth).map_err(unreadable)?;
            let elements = json::elements(list).map_err(unreadable)?;
            budget.pay_steps(i64::try_from(elements.len() / 8).unwrap_or(i64::MAX))?;
            let values: Result<Vec<Box<dyn Val + 'v>>, _> =
                elements.into_iter().map(|element| value_of(element, budget, depth)).collect();
            Box::new(CelList::from(values?))
        }
    })
}
