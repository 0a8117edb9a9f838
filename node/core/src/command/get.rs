//! `GET key`: the value, or null.

use super::{Call, Done};

/// Executes GET.
///
/// # Errors
/// None; the arity is checked by the caller.
pub fn get(call: &mut Call<'_, '_, '_>) -> Done {
    let (key, now) = (call.args[1].as_ref(), call.keyspace.now().wall);
    call.keyspace.on(key, |stripe, at| {
        call.reply.bulk_or_null(stripe.read(at, key, now).map(|found| found.value));
    });
    Ok(())
}
