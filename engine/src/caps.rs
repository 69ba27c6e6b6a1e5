//! The optional capabilities by name: what is used, what is masked, and whether a mask can be read.
//!
//! Owns the words that masks and banners use. It must not probe: the driver does that.

use crate::driver::Caps;
use crate::ring::{Mask, MaskError};

impl Caps {
    /// Each optional capability by the word that masks it, and whether it is used.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, bool)> + use<> {
        [
            ("inc", self.incremental_buffers),
            ("recv_budget", self.recv_budget),
            ("min_wait", self.min_wait),
            ("registered_ring", self.registered_ring),
            ("peer_cmd", self.peer_cmd),
            ("accept_dontwait", self.accept_dontwait),
            ("msg_ring", self.msg_ring),
            ("pass", self.pass),
            ("restrictions", self.restrictions),
        ]
        .into_iter()
    }

    /// Whether the mask leaves this capability unused, by its word.
    pub fn is_masked(&self, name: &str) -> bool {
        self.masked.iter().any(|word| word.strip_prefix('-') == Some(name))
    }

    /// Reads a mask as [`crate::Config::caps_mask`] has it, before any engine is started with it.
    ///
    /// # Errors
    ///
    /// A word that names no optional capability.
    pub fn check_mask(mask: &str) -> Result<(), MaskError> {
        mask.parse::<Mask>().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_can_be_masked_by_its_name_and_nothing_else() {
        let caps = crate::ring::probe(&Mask::default());
        let Ok(caps) = caps else { return };
        for (name, _) in caps.iter() {
            assert_eq!(Caps::check_mask(&format!("-{name}")), Ok(()));
        }
        let all: Vec<String> = caps.iter().map(|(name, _)| format!("-{name}")).collect();
        assert_eq!(Caps::check_mask(&all.join(",")), Ok(()));
        for wrong in ["inc", "-warp", "-inc;-min_wait"] {
            let error = Caps::check_mask(wrong).unwrap_err().to_string();
            assert!(all.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
