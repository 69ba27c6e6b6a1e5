//! The simulator: the shards, handlers and services of production on one thread, over a simulated kernel and network, with
//! a virtual clock and every choice drawn from one seed.
//!
//! A [`Sim`] is made from the same [`crate::Builder`] as an engine. Peers follow [`Script`]s; [`Faults`] say what
//! goes wrong. Whatever fails, the seed and all options are printed, and the same seed fails again.
//! docs/simulation.md says what is simulated and which oracles are always on.
//!
//! | file | owns |
//! | --- | --- |
//! | `world` | [`Sim`]: who runs next, when time moves |
//! | `oracle` | what must hold: order of callbacks, and nothing left in the end |
//! | `driver`, `kernel`, `ops` | the driver seam over simulated operations |
//! | `net`, `datagrams` | streams and datagrams on their way |
//! | `disk` | files that are lost or torn where they were not synced |
//! | `peer`, `script` | the other side |
//! | `mass` | ten million connections, with a kernel of its own |
//! | `faults`, `rng` | what goes wrong, and chance |
//! | `trace` | what happened last, for a failure's message |

mod datagrams;
mod disk;
mod driver;
mod faults;
mod kernel;
mod mass;
mod net;
mod ops;
mod oracle;
mod peer;
mod rng;
mod script;
mod trace;
mod world;

pub use disk::Disks;
#[cfg(test)]
pub(crate) use disk::quiet_disk;
pub use faults::{Faults, leave_out};
pub use mass::Mass;
pub use peer::PeerState;
pub use rng::Rng;
pub use script::{Pace, Script};
pub use world::{PeerId, Sim, SocketId, quiet};
