//! The reply to a request that several nodes have answered.
//!
//! Replies come from our own nodes, yet what is not of the kind that it must be makes an error for the client, never a panic.

use node_core::{
    command::scan::ScanCursor,
    resp::{Protocol, Reply, Value},
    slot::Slot,
};

use super::{
    plan::{Join, Request},
    upstream::Answer,
};

/// A node has answered something else than such a command has for an answer.
#[derive(Debug)]
struct Unexpected;

impl Request {
    /// Writes the reply, once each part has its answer.
    pub(super) fn reply(&self, output: &mut Vec<u8>, protocol: Protocol) {
        if !self.answers {
            return;
        }
        let answers: Vec<&Answer> = self.parts.iter().filter_map(|part| part.answer.as_ref()).collect();
        if let Some(error) = answers.iter().find(|answer| matches!(answer.value, Value::Error(_))) {
            return output.extend_from_slice(&error.bytes);
        }
        let start = output.len();
        if self.join.write(&answers, output, protocol).is_err() {
            output.truncate(start);
            Reply::new(output, protocol).error("ERR another node gave an answer of another kind");
        }
    }
}

impl Join {
    fn write(&self, answers: &[&Answer], output: &mut Vec<u8>, protocol: Protocol) -> Result<(), Unexpected> {
        let first = answers.first().ok_or(Unexpected)?;
        let mut reply = Reply::new(output, protocol);
        match self {
            Self::One | Self::Same => reply.raw(&first.bytes),
            Self::Sum => reply.integer(integers(answers)?.iter().sum()),
            Self::Least => reply.integer(integers(answers)?.into_iter().min().ok_or(Unexpected)?),
            Self::Any => {
                let found: Vec<_> = answers.iter().filter(|answer| answer.value != Value::Null).collect();
                let chosen = if found.is_empty() { first } else { found[rand::random_range(..found.len())] };
                reply.raw(&chosen.bytes);
            }
            Self::Concatenate => {
                let arrays = answers.iter().map(|answer| elements(&answer.value)).collect::<Result<Vec<_>, _>>()?;
                bulks(arrays.into_iter().flatten(), &mut reply)?;
            }
            Self::Places(places) => {
                let mut placed = Vec::new();
                for (places, answer) in places.iter().zip(answers) {
                    placed.extend(places.iter().zip(elements(&answer.value)?));
                }
                placed.sort_unstable_by_key(|(place, _)| **place);
                bulks(placed.into_iter().map(|(_, value)| value), &mut reply)?;
            }
            Self::Page(until) => page(&first.value, *until, &mut reply)?,
        }
        Ok(())
    }
}

/// What one node has scanned, cut off where the slots of another begin.
fn page(value: &Value, until: Option<Slot>, reply: &mut Reply<'_>) -> Result<(), Unexpected> {
    let [Value::Bulk(cursor), keys] = elements(value)? else { return Err(Unexpected) };
    let is_before = |slot: Slot| until.is_none_or(|until| slot < until);
    let next = ScanCursor::parse(cursor).map_err(|_| Unexpected)?;
    let has_more = cursor != b"0" && is_before(next.slot());
    reply.array(2);
    match until {
        Some(until) if !has_more => reply.bulk(ScanCursor::start_of(until).to_number().to_string().as_bytes()),
        _ if has_more => reply.bulk(cursor),
        _ => reply.bulk(b"0"),
    }
    let is_shown = |key: &&Value| matches!(key, Value::Bulk(key) if is_before(Slot::of(key)));
    bulks(elements(keys)?.iter().filter(is_shown), reply)
}

fn elements(value: &Value) -> Result<&[Value], Unexpected> {
    if let Value::Array(elements) = value { Ok(elements) } else { Err(Unexpected) }
}

fn integers(answers: &[&Answer]) -> Result<Vec<i64>, Unexpected> {
    let integer =
        |answer: &&Answer| if let Value::Integer(number) = answer.value { Ok(number) } else { Err(Unexpected) };
    answers.iter().map(integer).collect()
}

/// An array of bulks and nulls.
fn bulks<'v>(values: impl Iterator<Item = &'v Value>, reply: &mut Reply<'_>) -> Result<(), Unexpected> {
    let (array, mut count) = (reply.begin_array(), 0);
    for value in values {
        match value {
            Value::Bulk(bytes) => reply.bulk(bytes),
            Value::Null => reply.null(),
            _ => return Err(Unexpected),
        }
        count += 1;
    }
    reply.end_array(array, count);
    Ok(())
}
