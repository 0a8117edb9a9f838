//! A TOML document whose every entry still knows where it stands.
//!
//! toml's own deserializer stops at the first mistake and describes it in a sentence. This one sits on toml's parser
//! and answers to [`Fault`], so [`Document::read`] can do what a person fixing a file wants: note the mistake, leave
//! that entry out, and read again, until nothing is left to note. It ends because every round leaves out one entry
//! more, and because [`limits::PROBLEMS`](crate::limits::PROBLEMS) are enough for anybody.
//!
//! A key that the type does not know is refused also where the type forgot to say `deny_unknown_fields`. Types that
//! hide their fields from serde (`flatten`, `untagged`) escape this, and should not be used for configuration.

use std::{borrow::Cow, cell::RefCell, collections::BTreeSet, ops::Range};

use serde::{
    Deserializer,
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    fault::{self, Fault, FaultKind, Place},
    report::{Problem, Problems},
};

type Value<'t> = Spanned<DeValue<'t>>;

/// A parsed document.
pub(crate) struct Document<'t> {
    root: Spanned<DeTable<'t>>,
}

impl<'t> Document<'t> {
    /// Parses the text; notes what is no TOML.
    pub(crate) fn parse(text: &'t str, problems: &mut Problems) -> Option<Self> {
        match DeTable::parse(text) {
            Ok(root) => Some(Self { root }),
            Err(error) => {
                let problem = Problem::new("this is not TOML").label(error.message());
                problems.add(match error.span() {
                    Some(span) => problem.at_span(span),
                    None => problem,
                });
                None
            }
        }
    }

    /// Reads the document into a type; notes everything that stands in the way.
    pub(crate) fn read<T: DeserializeOwned>(&self, problems: &mut Problems) -> Option<T> {
        let left_out = RefCell::new(BTreeSet::new());
        let mut faults = false;
        loop {
            let reader = TableReader { table: self.root.get_ref(), left_out: &left_out };
            let fault = match T::deserialize(reader) {
                Ok(value) => return (!faults).then_some(value),
                Err(fault) => fault,
            };
            faults = true;
            let entry = fault.place.as_ref().map(|place| place.entry);
            fault.into_problem().into_iter().for_each(|problem| problems.add(problem));
            // A fault of the file as a whole, or one that leaving the entry out did not cure, ends it.
            if problems.is_full() || !entry.is_some_and(|entry| left_out.borrow_mut().insert(entry)) {
                return None;
            }
        }
    }

    /// Whether there is a value at a dotted path of tables.
    pub(crate) fn contains(&self, path: &str) -> bool {
        let mut tables = Some(self.root.get_ref());
        path.split('.').all(|step| {
            let value = tables.and_then(|table| table.get(step));
            tables = value.and_then(|value| value.get_ref().as_table());
            value.is_some()
        })
    }

    /// Where the value at a dotted path stands, or, if it is not in the document, the nearest table around it.
    pub(crate) fn locate(&self, path: &str) -> Option<Range<usize>> {
        let mut steps = path.split('.');
        let (key, mut value) = self.root.get_ref().get_key_value(steps.next()?)?;
        let mut around = key.span();
        for step in steps {
            let next = match value.get_ref() {
                DeValue::Table(table) => table.get_key_value(step).map(|(key, value)| (key.span(), value)),
                DeValue::Array(array) => {
                    step.parse::<usize>().ok().and_then(|index| array.get(index)).map(|value| (value.span(), value))
                }
                _ => None,
            };
            match next {
                Some((span, found)) => (around, value) = (span, found),
                None => return Some(around),
            }
        }
        // The span of a table is its header or nothing at all; its name says more.
        Some(if value.get_ref().is_table() { around } else { value.span() })
    }
}

/// The entries that were found faulty and are treated as absent, by where they begin.
type LeftOut = RefCell<BTreeSet<usize>>;

struct TableReader<'a, 't> {
    table: &'a DeTable<'t>,
    left_out: &'a LeftOut,
}

impl<'a, 't> TableReader<'a, 't> {
    /// The entries in the order of the file.
    fn entries(&self) -> impl Iterator<Item = (&'a Spanned<Cow<'t, str>>, &'a Value<'t>)> {
        let left_out = self.left_out.borrow();
        let mut entries: Vec<_> = self.table.iter().filter(|(key, _)| !left_out.contains(&key.span().start)).collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries.into_iter()
    }

    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let entries = Entries { rest: self.entries(), value: None, left_out: self.left_out };
        visitor.visit_map(entries).map_err(|fault| self.without_consequences(fault))
    }

    /// A key that is missing because it was left out is not missing.
    fn without_consequences(&self, fault: Fault) -> Fault {
        let incomplete = || self.entries().count() < self.table.len();
        match fault.kind {
            FaultKind::MissingKey(_) if fault.place.is_none() && incomplete() => Fault::new(FaultKind::Consequence),
            _ => fault,
        }
    }

    fn refuse_unknown_keys(&self, known: &'static [&'static str]) -> Result<(), Fault> {
        match self.entries().find(|(key, _)| !known.contains(&key.get_ref().as_ref())) {
            Some((key, _)) => {
                let name = key.get_ref().to_string();
                Err(Fault::new(FaultKind::UnknownKey { key: name, known }).or_at(|| place_of_key(key)))
            }
            None => Ok(()),
        }
    }
}

impl<'de> Deserializer<'de> for TableReader<'_, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.refuse_unknown_keys(fields)?;
        self.visit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The entries of a table, one after another.
struct Entries<'a, I> {
    rest: I,
    value: Option<ValueReader<'a, 'a>>,
    left_out: &'a LeftOut,
}

impl<'de, 'a, 't: 'a, I> de::MapAccess<'de> for Entries<'a, I>
where
    I: Iterator<Item = (&'a Spanned<Cow<'t, str>>, &'a Value<'t>)>,
{
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(ValueReader { value, place: place_of_value(key, value), left_out: self.left_out });
        let name: &str = key.get_ref();
        seed.deserialize(name.into_deserializer()).map(Some).map_err(|fault: Fault| fault.or_at(|| place_of_key(key)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(self.value.take().expect("serde asks for a value after its key"))
    }
}

/// One value.
struct ValueReader<'a, 't> {
    value: &'a Value<'t>,
    place: Place,
    left_out: &'a LeftOut,
}

impl<'a, 't> ValueReader<'a, 't> {
    /// Runs `read` and says where, if it fails.
    fn located<T>(self, read: impl FnOnce(&Self) -> Result<T, Fault>) -> Result<T, Fault> {
        read(&self).map_err(|fault| fault.or_at(|| self.place))
    }

    fn table(&self) -> Option<TableReader<'a, 't>> {
        self.value.get_ref().as_table().map(|table| TableReader { table, left_out: self.left_out })
    }

    fn visit<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match self.value.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            DeValue::Datetime(value) => visitor.visit_string(value.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => visitor.visit_i64(number),
                Err(_) => Err(Fault::new(FaultKind::OutOfRange { expected: "a number of at most 63 bits".to_owned() })),
            },
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => Err(Fault::new(FaultKind::WrongType { expected: "a number, such as 0.5".to_owned() })),
            },
            DeValue::Array(array) => {
                let rest = array.iter().enumerate().filter(|(_, value)| !self.is_left_out(value));
                visitor.visit_seq(Elements { rest, name: &self.place.name, left_out: self.left_out })
            }
            DeValue::Table(table) => TableReader { table, left_out: self.left_out }.visit(visitor),
        }
    }

    fn is_left_out(&self, value: &Value<'_>) -> bool {
        self.left_out.borrow().contains(&value.span().start)
    }
}

impl<'de> Deserializer<'de> for ValueReader<'_, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.located(|this| this.visit(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.located(|this| match this.table() {
            Some(table) => table.deserialize_struct(name, fields, visitor),
            None => this.visit(visitor),
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// A text is a variant without content; a table of one key is a variant with it.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.located(|this| match this.value.get_ref() {
            DeValue::String(text) => visitor.visit_enum(text.as_ref().into_deserializer()),
            DeValue::Table(table) if table.len() == 1 => {
                let reader = TableReader { table, left_out: this.left_out };
                let entries = Entries { rest: reader.entries(), value: None, left_out: this.left_out };
                visitor.visit_enum(de::value::MapAccessDeserializer::new(entries))
            }
            _ => {
                let expected = format!("one of {}", fault::list(variants, |word| format!("\"{word}\"")));
                Err(Fault::new(FaultKind::WrongType { expected }))
            }
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

/// The elements of a list, one after another.
struct Elements<'a, I> {
    rest: I,
    name: &'a str,
    left_out: &'a LeftOut,
}

impl<'de, 'a, 't: 'a, I> de::SeqAccess<'de> for Elements<'a, I>
where
    I: Iterator<Item = (usize, &'a Value<'t>)>,
{
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((_, value)) = self.rest.next() else { return Ok(None) };
        let place = Place { entry: value.span().start, span: value.span(), name: self.name.to_owned() };
        seed.deserialize(ValueReader { value, place, left_out: self.left_out }).map(Some)
    }
}

fn place_of_key(key: &Spanned<Cow<'_, str>>) -> Place {
    Place { entry: key.span().start, span: key.span(), name: key.get_ref().to_string() }
}

/// A faulty value is pointed at, a faulty table by its name.
fn place_of_value(key: &Spanned<Cow<'_, str>>, value: &Value<'_>) -> Place {
    let span = if value.get_ref().is_table() { key.span() } else { value.span() };
    Place { span, ..place_of_key(key) }
}
