//! A durable outbox: opaque bytes, one queue per destination, nothing lost without being counted.
//!
//! Emitters call [`Outbox::append`] from any thread. A record is accepted when it lies in a mapped ring,
//! which the kernel keeps when the process dies; two threads move the ring into segments and sync
//! them; a [`Reader`] hands out batches and is told what became of them.
//!
//! ```text
//! DIR/totals                          what removed lanes had delivered and lost
//! DIR/errors/QUEUE                    what went wrong last with its destination
//! DIR/lanes/NAME/lock                 locked (flock) as long as the owner lives
//!                names                the queues, by index
//!                ring                 accepted, not yet in segments
//!                starts/NUMBER.seg    what began and ended
//!                QUEUE/NUMBER.seg     records
//!                QUEUE/cursor         how far it is settled, and what was lost
//!                QUEUE/dead.seg       records that the destination refused
//! ```
//!
//! Every process has a lane of its own and adopts those whose owner is gone. The formats are described in
//! `frame`, `bundle`, `ring` and `cursor`.
//!
//! The accounts hold at every moment, for every queue of every lane, and across crashes: sequences given =
//! delivered + lost + waiting, because a record's number says how many came before it.

mod bounds;
mod bundle;
mod cursor;
mod emit;
mod frame;
mod gate;
mod lane;
mod look;
mod notes;
mod place;
mod purge;
mod queue;
mod reader;
mod record;
mod ring;
mod scan;
mod settings;
mod starts;
mod status;
mod store;
mod tail;
mod totals;
mod withdraw;
mod writer;

pub use emit::Outbox;
pub use lane::Lane;
pub use look::{DeadLetter, Stored, dead_letters, show};
pub use notes::{Note, add_retries, note, notes, retries};
pub use purge::{Purge, Purged, purge};
pub use reader::Reader;
pub use record::{
    Batch, Counters, Key, Loss, Lost, MAX_RECORD, MAX_TRANSACTION, Queue, Record, Refused, Settled,
    Transaction, Unfinished, Waiting,
};
pub use settings::{Accept, OpenError, Settings, WhenFull};
pub use status::{Damage, LaneStatus, QueueStatus, check, status};
pub use totals::{Total, totals};
pub use withdraw::{Held, Withdrawal, Withdrawn, Without, withdraw};
