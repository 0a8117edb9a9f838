//! Splitting a stream by who owns the slots: what a gateway that is a process of its own does with what arrives.
//!
//! A stream arrives from one primary of another region, with records of all slots that it owns there. Here those slots are
//! owned by others. So a stream that was let in has a *branch* to each primary of this region ([`Branch`]): a stream of its
//! own, on which the gateway speaks as the primary over there would, and which ends in the owner's store like any other.
//!
//! # What holds
//! - **Nothing is kept here.** What is wanted of the sender is what the owners say that they want, put together slot by slot.
//!   A batch is acknowledged when every owner that got a part of it has applied that part. Behind an owner that is slow the
//!   window fills, and the sender's feed is not polled.
//! - **No statement without its items.** A watermark is passed to an owner only if everything before it was. Where it was not,
//!   since a branch broke, slots changed hands, or an owner is not there, nothing more of this *round* is passed to that
//!   owner; when the owner has said what it wants, the sender is welcomed anew and begins another round with another feed.
//! - **A round is about what all owners lack now.** What an owner said for the last round it has had since. So when one says anew what
//!   it wants the others are asked, and waited for a little: a round costs what is missing, and not what came since the one before.
//! - **Who is not there holds up nobody.** Its slots count as seen meanwhile, so the sender does not scan them for nobody.
//!
//! The sender is believed for what its certificate says and for nothing else; what it may say of whom is judged by the
//! owners, whose word is what this region knows.
//!
//! # Its shell
//! One [`Split`] lives as long as one incoming connection. The shell has the connections: that to the sender, and one to the
//! owner of each branch that is dialled. A turn of it:
//!
//! 1. [`arrange`](Split::arrange), if the owners are others by now;
//! 2. frames of owners to [`handle_branch_frame`](Split::handle_branch_frame), then [`work_branch`](Split::work_branch) for
//!    each, [`poll_dial`](Split::poll_dial), and [`begin_round`](Split::begin_round);
//! 3. [`poll_event`](Split::poll_event), [`poll_batch`](Split::poll_batch), after each batch step 2 again, and the sender's
//!    next frame to [`handle_frame`](Split::handle_frame), as long as [`wants_frames`](Split::wants_frames);
//! 4. [`handle_timeout`](Split::handle_timeout), events again, [`poll_transmit`](Split::poll_transmit), and for each branch
//!    [`poll_branch_transmit`](Split::poll_branch_transmit);
//! 5. sleep until [`poll_timeout`](Split::poll_timeout).

mod branch;
mod owners;
mod stream;

pub use branch::{Branch, BranchEnd, BranchId};
pub use owners::{Owner, Owners};
pub use stream::{Split, SplitEvent, SplitOptions};
