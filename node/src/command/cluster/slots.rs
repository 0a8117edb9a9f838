//! What follows from a key or a slot, and what this node holds of a slot.

use node_core::{number, slot::Slot, store::ScanPosition};

use crate::command::{Context, Done, Failure, words::slot};

/// `CLUSTER KEYSLOT key`
pub(super) fn keyslot(call: Context<'_, '_, '_>) -> Done {
    call.reply.integer(Slot::of(&call.args[2]).number().into());
    Ok(())
}

/// `CLUSTER COUNTKEYSINSLOT slot`
pub(super) fn countkeysinslot(call: Context<'_, '_, '_>) -> Done {
    let slot = slot(&call.args[2])?;
    let stripe = call.keyspace.store().stripe_of(slot);
    let count = call.keyspace.on_stripe(stripe, |stripe| stripe.count_values(slot));
    call.reply.count(count);
    Ok(())
}

/// `CLUSTER GETKEYSINSLOT slot count`
pub(super) fn getkeysinslot(call: Context<'_, '_, '_>) -> Done {
    let slot = slot(&call.args[2])?;
    let count = number::parse_i64(&call.args[3]).and_then(|count| usize::try_from(count).ok());
    let count = count.ok_or(Failure::text("ERR Invalid number of keys"))?;
    let (stripe, now) = (call.keyspace.store().stripe_of(slot), call.keyspace.now().wall);
    let (mut keys, mut no_bound) = (Vec::<Vec<u8>>::new(), usize::MAX);
    if count > 0 {
        call.keyspace.on_stripe(stripe, |stripe| {
            stripe.scan_keys(slot, ScanPosition::default(), now, &mut no_bound, |key, _| {
                keys.push(key.to_vec());
                keys.len() < count
            })
        });
    }
    call.reply.array(keys.len());
    keys.iter().for_each(|key| call.reply.bulk(key));
    Ok(())
}
