//! Many keys at once: writing them, reading them, and whether all regions hold the same.

use anyhow::{Result, ensure};

use crate::{Client, Region, until};

/// How many keys are written or asked for at once.
const PIPELINE: usize = 500;

/// What stands at a key. Expiry is an absolute time and part of the record, so it is equal everywhere or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value; none if the key is absent.
    pub value: Option<String>,
    /// When it expires, in milliseconds since 1970; negative if it does not, or is absent.
    pub expires_ms: i64,
}

/// Writes these keys with these values, many at once.
///
/// # Errors
/// If the region refuses one, or does not answer.
pub fn set<K: AsRef<str>, V: AsRef<str>>(region: &Region, entries: impl IntoIterator<Item = (K, V)>) -> Result<()> {
    let mut connection = region.connect()?;
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        let mut pipeline = redis::Pipeline::new();
        for (key, value) in entries.by_ref().take(PIPELINE) {
            pipeline.cmd("SET").arg(key.as_ref()).arg(value.as_ref()).ignore();
        }
        pipeline.exec(&mut connection)?;
    }
    Ok(())
}

/// Deletes these keys in one command.
///
/// # Errors
/// If the region refuses, or does not answer.
pub fn delete(region: &Region, keys: &[String]) -> Result<()> {
    Ok(redis::cmd("DEL").arg(keys).exec(&mut region.connect()?)?)
}

/// What stands at each of these keys.
///
/// # Errors
/// If the region does not answer.
pub fn entries(region: &Region, keys: &[String]) -> Result<Vec<Entry>> {
    if region.nodes.len() > 1 {
        let mut client = region.client();
        return keys.iter().map(|key| entry(&mut client, key)).collect();
    }
    let mut connection = region.connect()?;
    let mut entries = Vec::with_capacity(keys.len());
    for keys in keys.chunks(PIPELINE) {
        let mut pipeline = redis::Pipeline::new();
        for key in keys {
            // Expiry first: a key that expires between the two commands then shows as a pair that nobody else has.
            pipeline.cmd("PEXPIRETIME").arg(key).cmd("GET").arg(key);
        }
        let answers: Vec<redis::Value> = pipeline.query(&mut connection)?;
        for answer in answers.chunks_exact(2) {
            let expires_ms = redis::from_redis_value_ref(&answer[0])?;
            let value = redis::from_redis_value_ref(&answer[1])?;
            entries.push(Entry { value, expires_ms });
        }
    }
    Ok(entries)
}

/// What a cluster has at a key.
fn entry(client: &mut Client, key: &str) -> Result<Entry> {
    let expires_ms = client.run(key, redis::cmd("PEXPIRETIME").arg(key))?;
    Ok(Entry { value: client.run(key, redis::cmd("GET").arg(key))?, expires_ms })
}

/// Waits until all regions hold the same at each of these keys, and returns that.
///
/// # Errors
/// If they still differ at the deadline; the first keys where they do are named.
pub fn until_same_entries(regions: &[Region], keys: &[String]) -> Result<Vec<Entry>> {
    until("all regions hold the same", || {
        let held = regions.iter().map(|region| entries(region, keys)).collect::<Result<Vec<_>>>()?;
        let differ = |index: &usize| held.iter().any(|entries| entries[*index] != held[0][*index]);
        let differing: Vec<_> = (0..keys.len()).filter(differ).collect();
        let show = |&index: &usize| {
            let values = regions.iter().zip(&held).map(|(region, held)| format!("{} {:?}", region.name, held[index]));
            format!("{}: {}", keys[index], values.collect::<Vec<_>>().join(", "))
        };
        let first: Vec<_> = differing.iter().take(3).map(show).collect();
        ensure!(differing.is_empty(), "{} keys differ:\n{}", differing.len(), first.join("\n"));
        Ok(held.into_iter().next())
    })
}
