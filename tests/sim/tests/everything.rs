//! Everything at once; see the scenario.

use megamux_sim_tests::{everything, for_seeds};

#[test]
fn everything_holds_at_once() {
    for_seeds(300, everything);
}
